/**
 * The supervisor: makes a starter for each service and a group for each that is written down, starts them as their
 * dependencies allow, stops them the other way round, and tells what happens. What befalls one service is its starter's,
 * what that does to others is its group's; here is only what concerns all.
 */
import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import { Loop } from '../process/loop.ts';
import { nearest, stateError } from '../sys/errors.ts';
import { Attempt } from './attempt.ts';
import { Cell } from './cell.ts';
import { type Clock, clockOf } from './clock.ts';
import { planOf } from './config/plan-of.ts';
import type {
  LogLine,
  ShutdownReport,
  StopOptions,
  StopReport,
  SupervisedStatus,
  SupervisorEvent,
  SupervisorEvents,
  SupervisorFace,
  SupervisorOptions,
  SupervisorStatus,
} from './contract.ts';
import { Group, type GroupAround } from './group.ts';
import { unlessAborted } from './health.ts';
import type { ServiceAround } from './life.ts';
import { Modes } from './modes/modes.ts';
import { type Order, orderOf } from './order.ts';
import type { DependencyPlan, GroupPlan, ServicePlan, SupervisorPlan } from './plan.ts';
import { StateDirectory } from './state.ts';
import type { ServiceState } from './states.ts';
import { sweep } from './sweep.ts';

/** What programs that test their own use of it may give. */
export interface SupervisorAround {
  readonly loop?: Loop;
  /** Default: the loop's, which is monotonic. */
  readonly clock?: Clock;
}

/**
 * Keeps programs running, as its options say. Making it starts nothing: `start` does. `await using` stops it.
 *
 * Throws `ERR_FORKBEARD_INVALID_OPTION` or `ERR_FORKBEARD_UNKNOWN_OPTION`, which name the option, and
 * `ERR_FORKBEARD_STATE_DIR` for a state directory that others could write to.
 */
export class Supervisor extends EventEmitter<SupervisorEvents> implements SupervisorFace {
  static readonly #plans = new WeakSet<object>();
  readonly #loop: Loop;
  readonly #clock: Clock;
  readonly #state: StateDirectory;
  readonly #order: Order;
  readonly #root: Group;
  readonly #modes: Modes;
  readonly #cells = new Map<string, Cell>();
  #waiters = new Set<() => void>();
  #isLooking = false;
  #startedAt: number | null = null;
  #starting: Promise<SupervisorStatus> | null = null;
  #stopping: Promise<ShutdownReport> | null = null;

  /**
   * Of a plan that was made already.
   * @internal
   */
  static ofPlan(plan: SupervisorPlan, around: SupervisorAround = {}): Supervisor {
    Supervisor.#plans.add(plan);
    return new Supervisor(plan as unknown as SupervisorOptions, around);
  }

  constructor(options: SupervisorOptions, around: SupervisorAround = {}) {
    super();
    const plan = Supervisor.#plans.has(options) ? (options as unknown as SupervisorPlan) : planOf(options);
    this.#loop = around.loop ?? Loop.current();
    this.#clock = around.clock ?? clockOf(this.#loop);
    this.#state = plan.stateDir === null ? new StateDirectory() : new StateDirectory(plan.stateDir);
    this.#order = orderOf(plan.tree);
    this.#modes = new Modes(plan, {
      loop: this.#loop,
      status: () => this.status(),
      signal: (signal) => {
        // Who does not run hears nothing.
        for (const { service } of this.#cells.values()) service.signal(signal).catch(() => {});
      },
    });
    this.#root = this.#group(plan.tree, null, {
      clock: this.#clock,
      tell: (event) => this.#tell(event),
      stop: async (cells) => {
        await this.#inReverse(cells, async ({ service }) => {
          await service.stop();
        });
      },
      look: () => this.#look(),
      until: (holds, signal) => this.#until(holds, signal),
    });
  }

  start(): Promise<SupervisorStatus> {
    this.#starting ??= this.#startAll().finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  stop(options: StopOptions = {}): Promise<ShutdownReport> {
    this.#stopping ??= this.#stopAll(options).finally(() => {
      this.#stopping = null;
    });
    if (options.quick) for (const { service } of this.#cells.values()) service.stopAtOnce().catch(() => {});
    return this.#stopping;
  }

  async startService(name: string): Promise<SupervisedStatus> {
    const cell = this.#cell(name);
    await this.#stopping;
    this.#sweepOnce();
    for (const other of this.#needed(name)) {
      const { service, group } = other;
      if (THERE.includes(service.state)) continue;
      group.forgive();
      other.wanted = true;
      service.start().catch(() => {});
    }
    cell.group.forgive();
    cell.wanted = true;
    await cell.service.start();
    return cell.status();
  }

  async stopService(name: string): Promise<StopReport> {
    const cell = this.#cell(name);
    cell.wanted = false;
    return cell.service.stop();
  }

  async restartService(name: string): Promise<SupervisedStatus> {
    const cell = this.#cell(name);
    await this.#stopping;
    cell.group.forgive();
    cell.wanted = true;
    await cell.service.restart();
    return cell.status();
  }

  async signal(name: string, signal: string | number): Promise<void> {
    await this.#cell(name).service.signal(signal);
  }

  logs(name: string): readonly LogLine[] {
    return this.#cell(name).lines.last;
  }

  status(): SupervisorStatus {
    const services: Record<string, SupervisedStatus> = {};
    for (const [name, cell] of this.#cells) services[name] = cell.status();
    return {
      pid: process.pid,
      stateDir: this.#state.path,
      uptime: this.#startedAt === null ? null : this.#clock.now() - this.#startedAt,
      state: this.#root.state,
      tree: this.#root.status(),
      services,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // ---------------------------------------------------------------------------------------------- all of them

  async #startAll(): Promise<SupervisorStatus> {
    await this.#stopping;
    await this.#modes.open();
    this.#sweepOnce();
    this.#root.begin();
    for (const name of this.#order.services) {
      const cell = this.#cells.get(name) as Cell;
      cell.wanted = true;
      // What becomes of it is told by its status and by events.
      if (cell.service.state !== 'done') cell.service.start().catch(() => {});
    }
    const isUp = () => this.#root.state !== 'starting' && this.#root.state !== 'restarting';
    await this.#until(isUp, new AbortController().signal);
    return this.status();
  }

  async #stopAll({ independent = 'stop' }: StopOptions): Promise<ShutdownReport> {
    const began = this.#clock.now();
    this.#root.end('stopping');
    await this.#modes.stopping();
    const cells = [...this.#cells.values()];
    for (const cell of cells) cell.wanted = false;
    const services: Record<string, StopReport> = {};
    const survivors: Record<string, readonly number[]> = {};
    const left: string[] = [];
    await this.#inReverse(cells, async ({ name, service }) => {
      const report = independent === 'leave' ? await service.leave() : await service.stop();
      if (report === null) {
        left.push(name);
        return;
      }
      services[name] = report;
      if (report.survivors.length > 0) survivors[name] = report.survivors;
    });
    this.#sweep('shutdown');
    this.#root.end('down');
    this.#modes.close();
    this.#startedAt = null;
    return { took: this.#clock.now() - began, services, survivors, left };
  }

  /** Each after those that depend on it, and the others at the same time. */
  async #inReverse(cells: readonly Cell[], act: (cell: Cell) => Promise<void>): Promise<void> {
    const wanted = new Map(cells.map((cell) => [cell.name, cell]));
    const acts = new Map<string, Promise<void>>();
    const reach = (name: string): Promise<void> => {
      const known = acts.get(name);
      if (known !== undefined) return known;
      const others = this.#order.dependents.get(name) ?? [];
      const cell = wanted.get(name);
      const promise = Promise.all(others.map(reach)).then(async () => {
        // An error of one stop must not keep the others from theirs.
        if (cell !== undefined) await act(cell).catch(() => {});
      });
      acts.set(name, promise);
      return promise;
    };
    await Promise.all(cells.map(({ name }) => reach(name)));
  }

  #sweepOnce(): void {
    if (this.#startedAt !== null) return;
    this.#startedAt = this.#clock.now();
    this.#sweep('start');
  }

  #sweep(when: 'start' | 'shutdown'): void {
    let orphans = 0;
    for (const [service, found] of sweep(this.#state)) {
      orphans += found.length;
      this.#tell({ event: 'orphans', service, orphans: found });
    }
    this.#tell({ event: 'swept', when, orphans });
  }

  // ---------------------------------------------------------------------------------------------- the tree

  #group(plan: GroupPlan, parent: Group | null, around: GroupAround): Group {
    const group = new Group(plan, parent, around);
    group.members = plan.members.map((member) =>
      member.kind === 'group' ? this.#group(member, group, around) : this.#cellOf(member, group),
    );
    return group;
  }

  #cellOf(plan: ServicePlan, group: Group): Cell {
    const turn: Pick<ServiceAround, 'turn'> = group.isCoupled
      ? { turn: (due, signal) => group.turn(this.#cell(plan.name), due, signal) }
      : {};
    const cell = new Cell(
      plan,
      group,
      {
        loop: this.#loop,
        state: this.#state,
        clock: this.#clock,
        onEvent: (event) => {
          if (event.event === 'failed') group.memberFailed(plan.name, event.cause, event.message);
          this.#tell(event);
          if (event.event === 'state' && THERE.includes(event.to)) this.#reviveFor(plan.name);
        },
        onIdle: () => this.#look(),
        needs: (say, signal) => this.#needs(plan.name, say, signal),
        ...turn,
      },
      (line) => this.emit('log', line),
    );
    this.#cells.set(plan.name, cell);
    return cell;
  }

  #cell(name: string): Cell {
    const cell = this.#cells.get(name);
    if (cell !== undefined) return cell;
    const near = nearest(name, [...this.#cells.keys()]);
    const hint = near === undefined ? '' : `; did you mean ${near}?`;
    throw stateError('UNKNOWN_SERVICE', `There is no service ${name}${hint}`);
  }

  /** What it depends on, directly and not, first things first. */
  #needed(name: string): Cell[] {
    const found = new Set<string>();
    const visit = (one: string) => {
      for (const need of this.#order.needs.get(one) ?? []) {
        for (const other of this.#order.within.get(need.name) ?? []) {
          if (found.has(other)) continue;
          visit(other);
          found.add(other);
        }
      }
    };
    visit(name);
    return [...found].map((one) => this.#cell(one));
  }

  /** Until all that it depends on is there. Rejected when something of that never will be. */
  async #needs(name: string, say: (problem: string) => void, signal: AbortSignal): Promise<void> {
    const needs = this.#needsOf(name);
    const look = () => {
      for (const need of needs) {
        const waits = this.#lacks(need);
        if (waits !== null) {
          say(waits);
          return false;
        }
      }
      return true;
    };
    if (look()) return;
    let failure: Attempt | null = null;
    await this.#until(() => {
      try {
        return look();
      } catch (error) {
        failure = error as Attempt;
        return true;
      }
    }, signal);
    if (failure !== null) throw failure;
  }

  /** What was given up for want of it alone has what it needs, perhaps. */
  #reviveFor(name: string): void {
    for (const dependent of this.#order.dependents.get(name) ?? []) {
      const { wanted, failedFor, group, service } = this.#cell(dependent);
      if (!wanted || failedFor !== 'dependency' || group.hasFailed || service.state !== 'failed') continue;
      if (this.#isHopeless(dependent)) continue;
      service.revive().catch(() => {});
    }
  }

  #isHopeless(name: string): boolean {
    try {
      for (const need of this.#needsOf(name)) this.#lacks(need);
      return false;
    } catch {
      return true;
    }
  }

  /** Services that it waits for. */
  #needsOf(name: string): DependencyPlan[] {
    return (this.#order.needs.get(name) ?? []).flatMap(({ name: other, until }) =>
      (this.#order.within.get(other) ?? []).map((one) => ({ name: one, until })),
    );
  }

  /** Null when it is as it is needed; else in what it is wanting. Throws when it will stay so. */
  #lacks({ name, until }: DependencyPlan): string | null {
    const cell = this.#cell(name);
    const { state, problem, lastExit, ready } = cell.service.status();
    const fail = (why: string) => new Attempt('dependency', `It depends on ${name}, ${why}`, { final: true });
    if (state === 'failed') throw fail(`which has failed: ${problem}`);
    if (state === 'down' && cell.group.hasFailed) throw fail('whose group has been given up');
    if (state === 'done') {
      if (lastExit?.exitCode === 0 || (until === 'ready' && cell.wasReady)) return null;
      throw fail('which has not ended well');
    }
    // Not ready for a while is no reason to wait: it runs, and was.
    if (until === 'ready' && (ready || state === 'running' || state === 'unhealthy')) return null;
    return `waits for ${name}, which is ${state}`;
  }

  // ---------------------------------------------------------------------------------------------- what happens

  #tell(event: SupervisorEvent): void {
    const publication = channel(`forkbeard:supervisor:${event.event}`);
    if (publication.hasSubscribers) publication.publish(event);
    // Each kind has its event; the compiler cannot see that of a union.
    (this.emit as (name: string, event: SupervisorEvent) => boolean).call(this, event.event, event);
    this.emit('event', event);
    this.#look();
  }

  /** Not in the middle of what has just happened, and once for all of it. */
  #look(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    queueMicrotask(() => {
      this.#isLooking = false;
      this.#root.refresh();
      this.#modes.changed();
      for (const waiter of [...this.#waiters]) waiter();
    });
  }

  async #until(holds: () => boolean, signal: AbortSignal): Promise<void> {
    if (holds()) return;
    let waiter = () => {};
    const met = new Promise<void>((resolve) => {
      waiter = () => {
        if (holds()) resolve();
      };
    });
    this.#waiters.add(waiter);
    try {
      await unlessAborted(met, signal);
    } finally {
      this.#waiters.delete(waiter);
    }
  }
}

/** Nobody who depends on it has to start it. */
const THERE: readonly ServiceState[] = ['running', 'unhealthy', 'elsewhere', 'done'];
