/**
 * The workers as processes: starts one for each member that the pool wants, by fork or by spawn, tells them to leave,
 * and says what became of them. `server.ts` decides who starts and who leaves; this never starts anybody of its own
 * accord.
 */
import type { ExitStatus } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { close, dup } from '../../sys/index.ts';
import { channelPair } from '../channel.ts';
import type { ExitCause, ExitRecord } from '../contract.ts';
import { causeOf } from '../exit-codes.ts';
import type { Failure, FromWorker, Place } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { type Entry, monotonic, type Scoreboard } from '../scoreboard.ts';
import { causeOfError, OomKills } from './cause.ts';
import { type Program, spawnChild } from './child.ts';
import type { Listeners } from './listeners.ts';
import type { Mold } from './mold.ts';
import type { Leaving, Member } from './pool.ts';
import { Worker } from './worker.ts';

export interface CrewHandlers {
  onStarted(worker: Worker): void;
  onMessage(worker: Worker, message: FromWorker): void;
  onEnd(worker: Worker, record: ExitRecord): void;
  /** There is no process for it, and there will be none. */
  onNotStarted(member: Member, cause: ExitCause, message: string): void;
}

/** Who forks workers of a generation. */
export interface Forkers {
  ready(generation: number): Mold | undefined;
  /** It is not ready, and will be as soon as a worker of itself would be. */
  isWorthWaitingFor(generation: number): boolean;
}

export class Crew {
  /** How workers come to be; undefined until that is decided, and nobody is started before. */
  method: 'fork' | 'spawn' | undefined;
  readonly #loop: Loop;
  readonly #plan: Plan;
  readonly #program: Program;
  readonly #board: Scoreboard;
  readonly #listeners: Listeners;
  readonly #molds: Forkers;
  readonly #handlers: CrewHandlers;
  readonly #workers = new Map<Member, Worker>();
  /** Members that have no process yet, for want of a mold. */
  readonly #waiting = new Set<Member>();
  readonly #oomKills = new OomKills();

  constructor(
    loop: Loop,
    plan: Plan,
    program: Program,
    board: Scoreboard,
    listeners: Listeners,
    molds: Forkers,
    handlers: CrewHandlers,
  ) {
    this.#loop = loop;
    this.#plan = plan;
    this.#program = program;
    this.#board = board;
    this.#listeners = listeners;
    this.#molds = molds;
    this.#handlers = handlers;
  }

  get workers(): Worker[] {
    return [...this.#workers.values()];
  }

  get empty(): boolean {
    return this.#workers.size === 0 && this.#waiting.size === 0;
  }

  of(member: Member): Worker | undefined {
    return this.#workers.get(member);
  }

  start(member: Member): void {
    const { method } = this;
    const { generation } = member;
    const mold = method === 'fork' ? this.#molds.ready(generation) : undefined;
    const waits = method === 'fork' && mold === undefined && this.#molds.isWorthWaitingFor(generation);
    if (method === undefined || waits) {
      this.#waiting.add(member);
      return;
    }
    try {
      this.#start(member, mold === undefined ? 'spawn' : 'fork', mold);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      this.#handlers.onNotStarted(member, causeOfError(code), message);
    }
  }

  /** A mold is ready, or will not be so soon, or the method has been decided. */
  startWaiting(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const member of waiting) this.start(member);
  }

  /** `patient`: as in the message that the worker is told. */
  retire(member: Member, why: Leaving, how: 'graceful' | 'quick', patient: boolean): void {
    const worker = this.#workers.get(member);
    if (worker === undefined) this.forget(member);
    else this.dismiss(worker, how, why === 'recycled', patient);
  }

  dismiss(worker: Worker, how: 'graceful' | 'quick', recycled = false, patient = false): void {
    worker.leavingAt ??= monotonic();
    worker.send({ type: 'stop', how, recycled, patient });
  }

  /** Nobody is to be started for it any more. */
  forget(member: Member): void {
    if (this.#waiting.delete(member)) this.#handlers.onNotStarted(member, 'drained', '');
  }

  /** The members of that generation that wait for a mold: there will be none. */
  forgetWaiting(cause: ExitCause, message: string, generation: number): void {
    for (const member of [...this.#waiting]) {
      if (member.generation !== generation) continue;
      this.#waiting.delete(member);
      this.#handlers.onNotStarted(member, cause, message);
    }
  }

  #start(member: Member, method: 'fork' | 'spawn', mold: Mold | undefined): void {
    const entry = this.#board.take();
    if (entry === undefined) {
      this.#handlers.onNotStarted(member, 'system', 'The scoreboard is full: too many workers are draining');
      return;
    }
    let pair: [number, number] | undefined;
    let worker: Worker;
    try {
      pair = channelPair();
      worker = this.#makeWorker(member, entry, method, pair[0]);
    } catch (error) {
      for (const fd of pair ?? []) close(fd);
      this.#board.giveBack(entry);
      throw error;
    }
    this.#workers.set(member, worker);
    const [, theirs] = pair;
    try {
      if (mold === undefined) this.#spawn(worker, theirs);
      else mold.fork(worker, this.#withOwn(member, theirs));
    } catch (error) {
      worker.unborn({ message: (error as Error).message, exitCode: -1, ...codeOf(error) });
    }
  }

  #makeWorker(member: Member, entry: Entry, method: 'fork' | 'spawn', channel: number): Worker {
    const place = this.#placeOf(member, entry.index);
    return new Worker(this.#loop, member, place, entry, method, channel, {
      onNamed: (worker) => this.#handlers.onStarted(worker),
      onMessage: (worker, message) => this.#handlers.onMessage(worker, message),
      onEnd: (worker, exit) => this.#ended(worker, exit),
      onUnborn: (worker, failure) => this.#unborn(worker, failure),
    });
  }

  #spawn(worker: Worker, theirs: number): void {
    const listeners = this.#listeners.of(worker.member.place);
    try {
      const ended = (exit: ExitStatus) => worker.ended(exit);
      worker.born(spawnChild(this.#loop, this.#program, theirs, listeners, 'SIGTERM', ended));
    } finally {
      close(theirs);
    }
    worker.send({ type: 'be-worker', plan: this.#plan, place: worker.place });
  }

  /** With copies of the listeners of a place that has its own: the packet that carries them away closes them. */
  #withOwn(member: Member, theirs: number): number[] {
    const given = [theirs];
    try {
      if (this.#plan.reusePort) for (const fd of this.#listeners.of(member.place)) given.push(dup(fd));
    } catch (error) {
      for (const fd of given) close(fd);
      throw error;
    }
    return given;
  }

  #placeOf(member: Member, entry: number): Place {
    const { maxRequests, maxLifetime, jitter } = this.#plan;
    const spread = () => 1 + (jitter / 100) * (2 * Math.random() - 1);
    return {
      worker: member.place,
      generation: member.generation,
      entry,
      maxRequests: maxRequests === 0 ? 0 : Math.max(1, Math.round(maxRequests * spread())),
      maxLifetime: Math.round(maxLifetime * spread()),
    };
  }

  #ended(worker: Worker, exit: ExitStatus): void {
    const record = worker.record(exit, exit.signal === 'SIGKILL' && this.#oomKills.any());
    this.#remove(worker);
    this.#handlers.onEnd(worker, record);
  }

  #unborn(worker: Worker, { message, code, exitCode }: Failure): void {
    this.#remove(worker);
    const cause = exitCode < 0 ? causeOfError(code) : causeOf(exitCode);
    this.#handlers.onNotStarted(worker.member, cause, message);
  }

  /** A cleared entry is nobody's: siblings must not count connections of the dead. */
  #remove(worker: Worker): void {
    this.#workers.delete(worker.member);
    worker.entry.clear();
    this.#board.giveBack(worker.entry);
  }
}

function codeOf(error: unknown): { code?: string } {
  const { code } = error as NodeJS.ErrnoException;
  return code === undefined ? {} : { code };
}
