/**
 * The clocks that every worker lives by: boot, blocked loop, request deadline and graceful end. Each is a time on the
 * scoreboard or in the monitor that is compared with now; what is too late is told once, then killed. A monitor that
 * itself stood still (a stopped process, a frozen machine) judges nobody until its workers have had time to come round.
 */
import { StackRequest } from '../../process/lifeline.ts';
import type { PreforkEvents } from '../contract.ts';
import type { Plan } from '../plan.ts';
import type { KillReason } from './cause.ts';
import { pardon } from './patience.ts';
import type { Worker } from './worker.ts';

/** What a request that has been told gets to end by itself before its worker is killed. ms */
const REQUEST_GRACE = 2000;

export interface WatchdogHandlers {
  onSlow(slow: PreforkEvents['worker-slow'][0]): void;
}

/** How often to look, so that no clock is late by much. ms */
export function lookEvery(plan: Plan): number {
  const clocks = [plan.bootTimeout, plan.gracefulTimeout, plan.blockedTimeout, plan.requestTimeout];
  const shortest = Math.min(...clocks.filter((clock) => clock > 0));
  return Math.min(500, Math.max(20, shortest / 10));
}

export class Watchdog {
  readonly #plan: Plan;
  readonly #handlers: WatchdogHandlers;
  readonly #every: number;
  #last: number;
  /** Nobody is judged before. */
  #pardon = 0;

  constructor(plan: Plan, now: number, handlers: WatchdogHandlers) {
    this.#plan = plan;
    this.#handlers = handlers;
    this.#every = lookEvery(plan);
    this.#last = now;
  }

  look(now: number, workers: readonly Worker[]): void {
    const late = now - this.#last - this.#every;
    this.#last = now;
    this.#pardon = Math.max(this.#pardon, now + pardon(late));
    if (now >= this.#pardon) for (const worker of workers) this.#judge(worker, now);
  }

  #judge(worker: Worker, now: number): void {
    const plan = this.#plan;
    const overdue = CLOCKS.find((clock) => clock.isOverdue(worker, plan, now));
    if (overdue !== undefined) worker.kill(overdue.reason);
    else for (const alarm of ALARMS) this.#watch(alarm, worker, now);
  }

  /** Asks a worker in trouble for its stack, and tells of it when that has come, or does not come in time. */
  #watch({ reason, trouble }: Alarm, worker: Worker, now: number): void {
    const found = trouble(worker, this.#plan);
    if (found === undefined || now < found.tell || worker.told.get(reason) === found.began) return;
    const { entry } = worker;
    if (entry.get('stackRequest') === StackRequest.NONE) entry.set('stackRequest', StackRequest.ASKED);
    const isAnswered = entry.get('stackRequest') === StackRequest.ANSWERED;
    if (!isAnswered && now < found.tell + found.patience) return;
    worker.told.set(reason, found.began);
    const stack = isAnswered ? entry.read('stack') : '';
    const request = entry.get('inFlight') > 0 ? entry.read('request') : '';
    this.#handlers.onSlow({
      worker: worker.member.place,
      pid: worker.pid,
      reason,
      age: Math.round(now - found.began),
      ...(request === '' ? {} : { request }),
      ...(stack === '' ? {} : { stack }),
    });
  }
}

/** What is told before anything is killed. */
interface Alarm {
  readonly reason: 'blocked-loop' | 'request';
  /** When it began, from when on it is worth telling, and how long a stack is waited for. Undefined: all is well. */
  trouble(worker: Worker, plan: Plan): { began: number; tell: number; patience: number } | undefined;
}

const ALARMS: readonly Alarm[] = [
  {
    reason: 'blocked-loop',
    trouble: (worker, { blockedTimeout }) => {
      if (blockedTimeout === 0 || worker.readyAt === undefined) return undefined;
      const began = beat(worker);
      return { began, tell: began + blockedTimeout / 2, patience: blockedTimeout / 4 };
    },
  },
  {
    // A worker that still turns says it itself, at once.
    reason: 'request',
    trouble: ({ entry }, { requestTimeout }) => {
      const began = entry.get('oldest');
      if (requestTimeout === 0 || began === 0) return undefined;
      return { began, tell: began + requestTimeout + REQUEST_GRACE / 4, patience: REQUEST_GRACE / 2 };
    },
  },
];

const CLOCKS: readonly {
  reason: KillReason;
  isOverdue(worker: Worker, plan: Plan, now: number): boolean;
}[] = [
  {
    reason: 'boot-deadline',
    isOverdue: (worker, plan, now) =>
      worker.readyAt === undefined &&
      worker.leavingAt === undefined &&
      now - worker.startedAt > plan.bootTimeout,
  },
  {
    reason: 'graceful-deadline',
    isOverdue: ({ leavingAt }, plan, now) =>
      leavingAt !== undefined && now - leavingAt > plan.gracefulTimeout,
  },
  {
    // One that has not been ready has not promised to come round.
    reason: 'blocked-loop',
    isOverdue: (worker, { blockedTimeout }, now) =>
      blockedTimeout > 0 && worker.readyAt !== undefined && now - beat(worker) > blockedTimeout,
  },
  {
    reason: 'request-deadline',
    isOverdue: ({ entry }, plan, now) =>
      plan.requestTimeout > 0 &&
      entry.get('oldest') > 0 &&
      now - entry.get('oldest') > plan.requestTimeout + REQUEST_GRACE,
  },
];

/** A heart that has not beaten yet counts from its first readiness. */
function beat({ entry, readyAt }: Worker): number {
  return Math.max(entry.get('beat'), readyAt ?? 0);
}
