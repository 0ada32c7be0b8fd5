/**
 * Several services that have a strategy in common: what the end of one does to the others, and when all of them together
 * are given up. The outermost group is the supervisor's whole. Stops and starts nothing while each service can be brought
 * back by its own starter (`one_for_one`).
 */
import { span, times } from '../daemon/words.ts';
import { Attempt } from './attempt.ts';
import type { Cell } from './cell.ts';
import type { Clock } from './clock.ts';
import type { GroupState, GroupStatus, TreeEvent } from './contract.ts';
import { sleep } from './health.ts';
import type { Due } from './life.ts';
import type { GroupPlan } from './plan.ts';
import { RestartPolicy } from './restart.ts';
import type { Cause } from './service-options.ts';

export interface GroupAround {
  readonly clock: Clock;
  readonly tell: (event: TreeEvent) => void;
  /** Each after those that depend on it. `isForNow`: it is to be started again, and its clients wait. */
  readonly stop: (cells: readonly Cell[], isForNow: (cell: Cell) => boolean) => Promise<void>;
  /** Something has happened of which there is no event. */
  readonly look: () => void;
  /** Fulfilled when it holds; looked at whenever something has happened. Rejected with the signal's reason. */
  readonly until: (holds: () => boolean, signal: AbortSignal) => Promise<void>;
}

type Member = Cell | Group;

interface Waiting {
  readonly due: Due;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class Group {
  readonly name: string;
  readonly plan: GroupPlan;
  readonly parent: Group | null;
  members: readonly Member[] = [];
  state: GroupState = 'down';
  problem: string | null = null;
  restarts = 0;
  readonly #around: GroupAround;
  readonly #policy: RestartPolicy;
  /** Members that ended and are to be started again. */
  readonly #due = new Map<Member, Waiting>();
  /** When it was restarted. */
  #times: number[] = [];
  #busy = 0;
  #ended = new AbortController();

  constructor(plan: GroupPlan, parent: Group | null, around: GroupAround) {
    this.name = plan.name;
    this.plan = plan;
    this.parent = parent;
    this.#around = around;
    const { restart, backoff } = plan;
    const intensity = parent?.plan.intensity ?? plan.intensity;
    this.#policy = new RestartPolicy({ type: restart, backoff, intensity }, around.clock);
  }

  get isCoupled(): boolean {
    return this.plan.strategy !== 'one_for_one';
  }

  /** It, or a group within, is bringing something back. */
  get busy(): boolean {
    return this.#busy > 0 || this.members.some((member) => member instanceof Group && member.busy);
  }

  get cells(): readonly Cell[] {
    return this.members.flatMap((member) => (member instanceof Group ? member.cells : [member]));
  }

  /** This one or one around it has given up. */
  get hasFailed(): boolean {
    return this.state === 'failed' || this.parent?.hasFailed === true;
  }

  status(): GroupStatus {
    const { name, state, problem, restarts } = this;
    const members = this.members.map((member) => member.status());
    return { kind: 'group', name, state, strategy: this.plan.strategy, problem, restarts, members };
  }

  /** Somebody starts it, or one of its services, by hand: what was is forgotten. */
  begin(): void {
    this.problem = null;
    this.#times = [];
    this.#policy.reset();
    this.#enter('starting');
    for (const member of this.members) if (member instanceof Group) member.begin();
  }

  /** Services of it are on their way that were not before: it is up when they are. */
  expect(): void {
    this.parent?.expect();
    if (this.state === 'running') this.#enter('starting');
  }

  forgive(): void {
    this.parent?.forgive();
    if (this.state !== 'failed') return;
    this.problem = null;
    this.#times = [];
    this.#policy.reset();
    this.#enter('starting');
    this.refresh();
  }

  /** Whatever is being brought back is not any more. */
  end(to: 'stopping' | 'down'): void {
    this.#ended.abort(new Error('It is stopped'));
    this.#ended = new AbortController();
    this.#due.clear();
    this.#enter(to);
    for (const member of this.members) if (member instanceof Group) member.end(to);
  }

  /** Something has happened: perhaps all are up. */
  refresh(): void {
    for (const member of this.members) if (member instanceof Group) member.refresh();
    if (this.state !== 'starting' && this.state !== 'restarting') return;
    if (this.busy || this.cells.some(({ service }) => service.busy)) return;
    this.#policy.ready();
    this.#enter('running');
  }

  /** For a member that ended and is to be started again: fulfilled when it is its turn. */
  turn(member: Member, due: Due, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted || this.state === 'failed') {
        reject(
          signal.aborted ? signal.reason : new Attempt('dependency', this.problem ?? '', { final: true }),
        );
        return;
      }
      signal.addEventListener(
        'abort',
        () => {
          this.#due.delete(member);
          reject(signal.reason);
        },
        { once: true },
      );
      this.#due.set(member, { due, resolve, reject });
      if (this.#busy === 0) void this.#work((ended) => this.#recover(ended));
    });
  }

  /** A service is given up. */
  memberFailed(name: string, cause: Cause, message: string): void {
    if (!this.isCoupled || this.state === 'failed' || this.state === 'stopping' || this.state === 'down')
      return;
    this.#ended.abort(new Error('It is given up'));
    this.#ended = new AbortController();
    void this.#work((ended) => this.#giveUp(name, cause, `${name}: ${message}`, ended));
  }

  // ---------------------------------------------------------------------------------------------- its restarts

  async #work(what: (ended: AbortSignal) => Promise<void>): Promise<void> {
    this.#busy++;
    try {
      await what(this.#ended.signal);
    } catch {
      // Stopped, or given up, meanwhile: whoever did that goes on.
    } finally {
      this.#busy--;
      this.#around.look();
    }
    if (this.#busy === 0 && this.#due.size > 0) void this.#work((ended) => this.#recover(ended));
  }

  async #recover(ended: AbortSignal): Promise<void> {
    const { clock, tell, stop, until } = this.#around;
    while (this.#due.size > 0) {
      const asked = new Set(this.#due.keys());
      const [first] = asked as Set<Member> & [Member];
      const dues = [...this.#due.values()].map(({ due }) => due);
      const delay = Math.max(...dues.map((due) => due.delay));
      if (!dues.every(({ isShortage = false }) => isShortage) && this.#tooMany()) {
        const { restarts, within } = this.plan.intensity;
        const message = `It was started again ${times(restarts)} within ${span(within)}`;
        await this.#giveUp((first as Member).name, 'intensity', message, ended);
        return;
      }
      this.restarts++;
      this.#enter('restarting');
      const cells = this.#affected(asked);
      const members = cells.map(({ name }) => name);
      tell({ event: 'group-restart', group: this.name, because: (first as Member).name, members, delay });
      await stop(
        cells.filter((cell) => !asked.has(cell)),
        comesBack,
      );
      ended.throwIfAborted();
      const hurry = AbortSignal.any([ended, ...dues.map((due) => due.hurry)]);
      if (delay > 0) await sleep(clock, delay, hurry).catch(() => ended.throwIfAborted());
      // Who was stopped by hand meanwhile does not wait any more, and stays so.
      const waiting = new Map(this.#due);
      this.#due.clear();
      for (const { resolve } of waiting.values()) resolve();
      for (const cell of cells) {
        if (asked.has(cell) || !comesBack(cell)) continue;
        cell.service.revive().catch(() => {});
      }
      await until(() => this.#due.size > 0 || !cells.some(({ service }) => service.busy), ended);
    }
  }

  /** Services that go with those that ended; what is not there goes with nobody. */
  #affected(asked: ReadonlySet<Member>): readonly Cell[] {
    const at = this.members.findIndex((member) => asked.has(member));
    const from = this.plan.strategy === 'one_for_all' ? 0 : at;
    return this.members.slice(from).flatMap((member) => {
      const cells = member instanceof Group ? member.cells : [member];
      return cells.filter((cell) => asked.has(cell) || (cell.wanted && !isGone(cell)));
    });
  }

  #tooMany(): boolean {
    const { restarts, within } = this.plan.intensity;
    const now = this.#around.clock.now();
    this.#times = this.#times.filter((time) => now - time < within);
    if (this.#times.length >= restarts) return true;
    this.#times.push(now);
    return false;
  }

  async #giveUp(because: string, cause: Cause, message: string, ended: AbortSignal): Promise<void> {
    const { parent } = this;
    const waiting = [...this.#due];
    this.#due.clear();
    const asked = new Set(waiting.map(([member]) => member));
    const failed = this.members.find((member) => member.name === because);
    const cells = this.#affected(new Set([...asked, ...(failed === undefined ? [] : [failed])]));
    this.problem = message;
    this.#enter('failed');
    for (const [, { reject }] of waiting) reject(new Attempt(cause, message, { final: true }));
    const decision = parent === null ? null : this.#policy.ended(null);
    const isAgain = decision?.action === 'restart';
    const { tell, stop } = this.#around;
    tell({ event: 'group-failed', group: this.name, because, cause, message, final: !isAgain });
    // The rest of it goes on only where nobody starts all of it again.
    await stop(
      (isAgain ? this.cells : cells).filter((cell) => !isGone(cell) || cell.service.isPaused),
      (cell) => isAgain && cell.wanted,
    );
    ended.throwIfAborted();
    if (parent === null || !isAgain) {
      if (parent !== null && decision?.action === 'fail') parent.memberFailed(this.name, cause, message);
      return;
    }
    const due: Due = { cause, delay: decision.delay, hurry: ended };
    try {
      if (parent.isCoupled) await parent.turn(this, due, ended);
      else if (due.delay > 0) await sleep(this.#around.clock, due.delay, ended);
    } catch (error) {
      await stop(
        this.cells.filter(({ service }) => service.isPaused),
        () => false,
      );
      throw error;
    }
    this.#again();
  }

  #again(): void {
    this.restarts++;
    this.problem = null;
    this.#times = [];
    this.#enter('starting');
    for (const member of this.members) if (member instanceof Group) member.begin();
    for (const { wanted, service } of this.cells) {
      if (wanted && service.state !== 'done') service.start().catch(() => {});
    }
  }

  #enter(to: GroupState): void {
    const from = this.state;
    if (from === to) return;
    this.state = to;
    this.#around.tell({ event: 'group-state', group: this.name, from, to });
  }
}

/** With its group, after it was stopped for that. */
function comesBack({ wanted, plan }: Cell): boolean {
  return wanted && plan.restart.type !== 'temporary';
}

/** It is not there, and is not on its way. */
function isGone({ service }: Cell): boolean {
  const { state, busy } = service;
  return state === 'done' || state === 'failed' || (state === 'down' && !busy);
}
