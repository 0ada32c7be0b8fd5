/**
 * The supervisor: makes a starter for each service and a group for each that is written down, starts them as their
 * dependencies allow, stops them the other way round, and tells what happens. What befalls one service is its starter's,
 * what that does to others is its group's; here is only what concerns all.
 */
import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import { Loop } from '../process/loop.ts';
import { stateError } from '../sys/errors.ts';
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
import { requireProcessTable } from './identity.ts';
import type { ServiceAround } from './life.ts';
import { Modes } from './modes/modes.ts';
import { Needs } from './needs.ts';
import type { ServicePlan, SupervisorPlan } from './plan.ts';
import { reconfigure } from './reconfigure.ts';
import { StateDirectory } from './state.ts';
import type { ServiceState } from './states.ts';
import { sweep } from './sweep.ts';
import { Tree, type TreeMakers } from './tree.ts';

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
 * `ERR_FORKBEARD_STATE_DIR` for a state directory that others could write to, and `ERR_FORKBEARD_PROCESS_TABLE` on a
 * Linux whose /proc is not that of our pid namespace.
 */
export class Supervisor extends EventEmitter<SupervisorEvents> implements SupervisorFace {
  static readonly #plans = new WeakSet<object>();
  readonly #loop: Loop;
  readonly #clock: Clock;
  readonly #state: StateDirectory;
  #tree: Tree;
  readonly #makers: TreeMakers;
  readonly #needs: Needs;
  readonly #modes: Modes;
  #waiters = new Set<() => void>();
  #isLooking = false;
  #startedAt: number | null = null;
  #starting: Promise<SupervisorStatus> | null = null;
  #stopping: Promise<ShutdownReport> | null = null;
  #changing: Promise<unknown> | null = null;
  /** By service: how often somebody has asked for its stop. */
  readonly #stops = new Map<string, number>();

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
    requireProcessTable();
    this.#loop = around.loop ?? Loop.current();
    this.#clock = around.clock ?? clockOf(this.#loop);
    this.#state = plan.stateDir === null ? new StateDirectory() : new StateDirectory(plan.stateDir);
    this.#modes = new Modes(plan, {
      loop: this.#loop,
      status: () => this.status(),
      signal: (signal) => {
        // Who does not run hears nothing.
        for (const { service } of this.#tree.cells.values()) service.signal(signal).catch(() => {});
      },
      reaped: (exit) => this.#tell({ event: 'reaped', exit }),
    });
    const groups: GroupAround = {
      clock: this.#clock,
      tell: (event) => this.#tell(event),
      stop: async (cells, isForNow) => {
        await this.#inReverse(cells, async (cell) => {
          await (isForNow(cell) ? cell.service.pause() : cell.service.stop());
        });
      },
      look: () => this.#look(),
      until: (holds, signal) => this.#until(holds, signal),
    };
    this.#makers = {
      group: (one, parent) => new Group(one, parent, groups),
      cell: (one, group) => this.#cellOf(one, group),
    };
    this.#needs = new Needs({
      tree: () => this.#tree,
      until: (holds, signal) => this.#until(holds, signal),
    });
    this.#tree = new Tree(plan, this.#makers);
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
    if (options.quick) {
      this.#modes.hurry();
      for (const { service } of this.#tree.cells.values()) service.stopAtOnce().catch(() => {});
    }
    return this.#stopping;
  }

  async startService(name: string): Promise<SupervisedStatus> {
    this.#tree.cell(name);
    if (this.#isUnsettled) await this.#settled(name);
    const cell = this.#tree.cell(name);
    this.#sweepOnce();
    for (const other of this.#needs.of(name)) {
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
    const cell = this.#tree.cell(name);
    cell.wanted = false;
    this.#stops.set(name, (this.#stops.get(name) ?? 0) + 1);
    return cell.service.stop();
  }

  async restartService(name: string): Promise<SupervisedStatus> {
    this.#tree.cell(name);
    if (this.#isUnsettled) await this.#settled(name);
    const cell = this.#tree.cell(name);
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
    const changing = this.#reconfigure(plan).finally(() => {
      this.#changing = null;
    });
    this.#changing = changing;
    const said = await changing;
    await this.#until(
      () => ![...said.added, ...said.changed].some((name) => this.#tree.cells.get(name)?.service.busy),
      new AbortController().signal,
    );
    return said;
  }

  async signal(name: string, signal: string | number): Promise<void> {
    await this.#tree.cell(name).service.signal(signal);
  }

  logs(name: string): readonly LogLine[] {
    return this.#tree.cell(name).lines.last;
  }

  status(): SupervisorStatus {
    const services: Record<string, SupervisedStatus> = {};
    for (const [name, cell] of this.#tree.cells) services[name] = cell.status();
    return {
      pid: process.pid,
      stateDir: this.#state.path,
      uptime: this.#startedAt === null ? null : this.#clock.now() - this.#startedAt,
      state: this.#tree.root.state,
      tree: this.#tree.root.status(),
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
    this.#tree.root.begin();
    for (const name of this.#tree.order.services) {
      const cell = this.#tree.cells.get(name) as Cell;
      cell.wanted = true;
      // What becomes of it is told by its status and by events.
      if (cell.service.state !== 'done') cell.service.start().catch(() => {});
    }
    const isUp = () => this.#tree.root.state !== 'starting' && this.#tree.root.state !== 'restarting';
    await this.#until(isUp, new AbortController().signal);
    return this.status();
  }

  async #stopAll({ independent = 'stop' }: StopOptions): Promise<ShutdownReport> {
    const began = this.#clock.now();
    this.#tree.root.end('stopping');
    await this.#modes.stopping();
    const cells = [...this.#tree.cells.values()];
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
    this.#tree.root.end('down');
    this.#modes.close();
    this.#startedAt = null;
    return { took: this.#clock.now() - began, services, survivors, left };
  }

  /** Services are being stopped for another configuration, or for the end. */
  get #isUnsettled(): boolean {
    return this.#changing !== null || this.#stopping !== null;
  }

  /** Until that is over. Throws when a stop of the service was asked for meanwhile: the last word counts. */
  async #settled(name: string): Promise<void> {
    const stops = this.#stops.get(name);
    while (this.#isUnsettled) await (this.#changing ?? this.#stopping)?.catch(() => {});
    if (this.#stops.get(name) !== stops) throw stateError('STOPPED', `Service ${name} was stopped`);
  }

  #reconfigure(plan: SupervisorPlan): Promise<Reconfigured> {
    return reconfigure(plan, {
      tree: () => this.#tree,
      makers: this.#makers,
      follow: (tree) => {
        this.#tree = tree;
      },
      startedAt: () => this.#startedAt,
      isStopping: () => this.#stopping !== null,
      inReverse: (cells, act) => this.#inReverse(cells, act),
      tell: (said) => {
        this.#modes.reloading();
        this.#tell({ event: 'reconfigured', ...said });
      },
    });
  }

  /** Each after those that depend on it, and the others at the same time. */
  async #inReverse(cells: readonly Cell[], act: (cell: Cell) => Promise<void>): Promise<void> {
    const wanted = new Map(cells.map((cell) => [cell.name, cell]));
    const acts = new Map<string, Promise<void>>();
    const reach = (name: string): Promise<void> => {
      const known = acts.get(name);
      if (known !== undefined) return known;
      const others = this.#tree.order.dependents.get(name) ?? [];
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
    let unseen: string | null = null;
    const found = sweep(this.#state, (code) => {
      unseen = code;
    });
    for (const [service, those] of found) {
      orphans += those.length;
      this.#tell({ event: 'orphans', service, orphans: those });
    }
    this.#tell({ event: 'swept', when, orphans, ...(unseen === null ? {} : { unseen }) });
  }

  // ---------------------------------------------------------------------------------------------- the tree

  #cellOf(plan: ServicePlan, group: Group): Cell {
    const turn: Pick<ServiceAround, 'turn'> = group.isCoupled
      ? { turn: (due, signal) => group.turn(this.#tree.cell(plan.name), due, signal) }
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
          if (event.event === 'state' && THERE.includes(event.to)) this.#needs.reviveFor(plan.name);
        },
        onIdle: () => this.#look(),
        needs: (say, signal) => this.#needs.met(plan.name, say, signal),
        ...turn,
      },
      (line) => this.emit('log', line),
    );
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
      this.#tree.root.refresh();
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
