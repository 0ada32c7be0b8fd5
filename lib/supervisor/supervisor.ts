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
  Reconfigured,
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
import { differenceOf } from './reconfigure.ts';
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
  #plan: SupervisorPlan;
  #order: Order;
  #root: Group;
  readonly #modes: Modes;
  readonly #groups: GroupAround;
  #cells = new Map<string, Cell>();
  #waiters = new Set<() => void>();
  #isLooking = false;
  #startedAt: number | null = null;
  #starting: Promise<SupervisorStatus> | null = null;
  #stopping: Promise<ShutdownReport> | null = null;
  #changing: Promise<unknown> | null = null;

  /**
   * Of a plan that was made already.
   * @internal
   */
  static ofPlan(plan: SupervisorPlan, around: SupervisorAround = {}): Supervisor {
    Supervisor.#plans.add(plan);
    return new Supervisor(plan as unknown as SupervisorOptions, around);
  }

  static #planFrom(options: SupervisorOptions): SupervisorPlan {
    return Supervisor.#plans.has(options) ? (options as unknown as SupervisorPlan) : planOf(options);
  }

  constructor(options: SupervisorOptions, around: SupervisorAround = {}) {
    super();
    const plan = Supervisor.#planFrom(options);
    this.#loop = around.loop ?? Loop.current();
    this.#clock = around.clock ?? clockOf(this.#loop);
    this.#state = plan.stateDir === null ? new StateDirectory() : new StateDirectory(plan.stateDir);
    this.#plan = plan;
    this.#order = orderOf(plan.tree);
    this.#modes = new Modes(plan, {
      loop: this.#loop,
      status: () => this.status(),
      signal: (signal) => {
        // Who does not run hears nothing.
        for (const { service } of this.#cells.values()) service.signal(signal).catch(() => {});
      },
    });
    this.#groups = {
      clock: this.#clock,
      tell: (event) => this.#tell(event),
      stop: async (cells) => {
        await this.#inReverse(cells, async ({ service }) => {
          await service.stop();
        });
      },
      look: () => this.#look(),
      until: (holds, signal) => this.#until(holds, signal),
    };
    this.#root = this.#group(plan.tree, null);
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
    this.#cell(name);
    await this.#settled();
    const cell = this.#cell(name);
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
    this.#cell(name);
    await this.#settled();
    const cell = this.#cell(name);
    cell.group.forgive();
    cell.wanted = true;
    await cell.service.restart();
    return cell.status();
  }

  async reconfigure(options: SupervisorOptions): Promise<Reconfigured> {
    return this.follow(Supervisor.#planFrom(options));
  }

  /**
   * A plan that was made already.
   * @internal
   */
  async follow(plan: SupervisorPlan): Promise<Reconfigured> {
    while (this.#changing !== null) await this.#changing.catch(() => {});
    const changing = this.#change(plan).finally(() => {
      this.#changing = null;
    });
    this.#changing = changing;
    const said = await changing;
    await this.#until(
      () => ![...said.added, ...said.changed].some((name) => this.#cells.get(name)?.service.busy),
      new AbortController().signal,
    );
    return said;
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
      if (report === null || report.elsewhere !== undefined) {
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

  /** Nothing is being stopped for another configuration, or for the end. */
  async #settled(): Promise<void> {
    while (this.#changing !== null || this.#stopping !== null)
      await (this.#changing ?? this.#stopping)?.catch(() => {});
  }

  // ---------------------------------------------------------------------------------------------- another plan

  /** Until the new services are on their way. What goes is stopped while all is as it was, so that it may stay so. */
  async #change(plan: SupervisorPlan): Promise<Reconfigured> {
    const startedAt = this.#startedAt;
    const throwIfStopped = () => {
      if (this.#stopping !== null || this.#startedAt !== startedAt)
        throw stateError('STOPPED', 'The supervisor was stopped; its configuration is as it was');
    };
    throwIfStopped();
    const { groups, ...said } = differenceOf(this.#plan, plan);
    const { added, removed, changed } = said;
    const going = [...removed, ...changed].map((name) => this.#cell(name));
    const wanted = new Set(going.filter((cell) => cell.wanted));
    for (const cell of going) cell.wanted = false;
    const stuck: string[] = [];
    await this.#inReverse(going, async ({ name, service }) => {
      const { survivors } = await service.stop();
      if (survivors.length > 0) stuck.push(`${name} (${survivors.join(', ')})`);
    });
    throwIfStopped();
    if (stuck.length > 0) {
      for (const cell of wanted) {
        cell.wanted = true;
        cell.service.start().catch(() => {});
      }
      throw stateError('STUCK', `The configuration is as it was: nothing ends ${stuck.join(', ')}`);
    }
    this.#swap(plan, new Set(going), groups);
    this.#modes.reloading();
    this.#tell({ event: 'reconfigured', ...said });
    if (startedAt === null) return said;
    const again = new Set([...wanted].map(({ name }) => name));
    for (const name of this.#order.services) {
      if (!added.includes(name) && !again.has(name)) continue;
      const cell = this.#cells.get(name);
      if (cell === undefined) continue;
      cell.group.forgive();
      cell.group.expect();
      cell.wanted = true;
      cell.service.start().catch(() => {});
    }
    return said;
  }

  #swap(plan: SupervisorPlan, going: ReadonlySet<Cell>, kept: ReadonlySet<string>): void {
    const before = groupsOf(this.#root);
    const cells = new Map([...this.#cells].filter(([, cell]) => !going.has(cell)));
    const groups = new Map([...before].filter(([name]) => kept.has(name)));
    this.#plan = plan;
    this.#order = orderOf(plan.tree);
    this.#cells = new Map();
    this.#root = this.#group(plan.tree, null, { cells, groups });
    for (const [name, group] of before) if (!groups.has(name)) group.end('down');
    if (this.#startedAt === null) return;
    for (const [name, group] of groupsOf(this.#root)) if (!groups.has(name)) group.begin();
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

  /** `there`: what goes on as it is, by name. */
  #group(plan: GroupPlan, parent: Group | null, there: Tree = NOTHING): Group {
    const group = there.groups.get(plan.name) ?? new Group(plan, parent, this.#groups);
    group.members = plan.members.map((member) =>
      member.kind === 'group' ? this.#group(member, group, there) : this.#place(member, group, there),
    );
    return group;
  }

  #place(plan: ServicePlan, group: Group, there: Tree): Cell {
    const cell = there.cells.get(plan.name) ?? this.#cellOf(plan, group);
    this.#cells.set(plan.name, cell);
    return cell;
  }

  #cellOf(plan: ServicePlan, group: Group): Cell {
    const turn: Pick<ServiceAround, 'turn'> = group.isCoupled
      ? { turn: (due, signal) => group.turn(this.#cell(plan.name), due, signal) }
      : {};
    return new Cell(
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
    const look = () => {
      // Another configuration may have put others into a group that it waits for.
      for (const need of this.#needsOf(name)) {
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

interface Tree {
  readonly cells: ReadonlyMap<string, Cell>;
  readonly groups: ReadonlyMap<string, Group>;
}
const NOTHING: Tree = { cells: new Map(), groups: new Map() };

function groupsOf(group: Group): Map<string, Group> {
  const within = group.members.flatMap((member) => (member instanceof Group ? [...groupsOf(member)] : []));
  return new Map([[group.name, group], ...within]);
}
