/**
 * The monitor of a server: hears what happened to workers, molds and clocks, and decides what follows. It reads as a
 * table of event and action; the rooms beside it do the work (`pool.ts` keeps the books, `crew.ts` and `molds.ts` have
 * the processes, `service.ts` what others know of the server, `watchdog.ts` the clocks, `policy.ts` the consequences). It
 * never loads the application, and nothing that a process of the application does may end it.
 */
import { EventEmitter } from 'node:events';
import { Loop } from '../../process/loop.ts';
import { reapOrphans } from '../../process/orphans.ts';
import { sharedMemory } from '../../process/shared-memory.ts';
import { stateError } from '../../sys/errors.ts';
import { close } from '../../sys/index.ts';
import type { ExitCause, ExitRecord, PreforkEvents, PreforkServer, PreforkStatus } from '../contract.ts';
import { EXIT } from '../exit-codes.ts';
import type { FromWorker } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { boardSize, monotonic, Scoreboard } from '../scoreboard.ts';
import { workerEntry } from '../worker/inheritance.ts';
import { Aftermath } from './aftermath.ts';
import { unexplained } from './cause.ts';
import { Crew } from './crew.ts';
import { exitCodeOfBind, Listeners } from './listeners.ts';
import { Molds } from './molds.ts';
import { type Action, type Member, Pool } from './pool.ts';
import { Renewals } from './renewals.ts';
import { Scales } from './scales.ts';
import { Service } from './service.ts';
import { obeySignals } from './signals.ts';
import { SpawnMethod } from './spawn-method.ts';
import { Standing } from './standing.ts';
import { Timers } from './timers.ts';
import { Handover } from './upgrade.ts';
import { lookEvery, Watchdog } from './watchdog.ts';
import type { Worker } from './worker.ts';

export interface ServerOptions {
  /** Obey signals, as `forkbeard serve` does. Default false. */
  signals?: boolean;
  /** The command that a new monitor is started with for an upgrade. Default: the one that started this process. */
  command?: readonly [string, ...string[]];
  /** What is still to be done when a successor's workers are ready, before the service is handed over to it. */
  beforeHandover?: () => Promise<void>;
  /** Entry module of the application's processes. */
  entry?: string;
  /** How often memory is looked at, ms. */
  sampleEvery?: number;
}

/** Entries of the scoreboard: room for as many more workers, and for those that are being replaced. */
const entriesFor = (workers: number) => Math.max(64, 4 * workers);
/** What workers get for a quick stop before they are killed. ms */
const QUICK_TIMEOUT = 3000;

interface Waiter {
  until: () => boolean;
  resolve: () => void;
  reject: (error: Error) => void;
}

/** Starts a server. It is told what happens from the next turn of the event loop on. */
export async function startServer(plan: Plan, options: ServerOptions = {}): Promise<PreforkServer> {
  const server = new Server(Loop.current(), plan, options);
  setImmediate(() => server.begin());
  return server;
}

class Server extends EventEmitter<PreforkEvents> implements PreforkServer {
  readonly pid = process.pid;
  readonly ready: Promise<void>;
  readonly closed: Promise<number>;
  readonly #loop: Loop;
  readonly #plan: Plan;
  readonly #options: ServerOptions;
  readonly #startedAt = monotonic();
  readonly #boardFd: number;
  readonly #listeners: Listeners;
  readonly #pool: Pool;
  readonly #crew: Crew;
  readonly #molds: Molds;
  readonly #renewals: Renewals;
  readonly #aftermath: Aftermath;
  readonly #method: SpawnMethod;
  readonly #standing: Standing;
  readonly #service: Service;
  readonly #watchdog: Watchdog;
  readonly #scales: Scales;
  readonly #timers: Timers;
  readonly #waiters = new Set<Waiter>();
  #readiness: { resolve: () => void; reject: (error: Error) => void } = { resolve() {}, reject() {} };
  #close: (code: number) => void = () => {};
  #exitCode: number = EXIT.drained;
  #quick = false;
  #everComplete = false;
  #settling = false;
  #settleAgain = false;

  constructor(loop: Loop, plan: Plan, options: ServerOptions) {
    super();
    this.#loop = loop;
    this.#plan = plan;
    this.#options = options;
    this.ready = new Promise((resolve, reject) => {
      this.#readiness = { resolve, reject };
    });
    // Whoever does not wait for it hears of it by `closed`.
    this.ready.catch(() => {});
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
    const { fd, memory } = sharedMemory(boardSize(entriesFor(plan.workers)));
    this.#boardFd = fd;
    const handover = Handover.received();
    this.#listeners = new Listeners({
      targets: plan.listen,
      backlog: plan.backlog,
      copies: plan.reusePort ? plan.workers : 1,
      inherited: handover?.listeners ?? [],
      onBusy: ({ message, code }, delay) => this.#warn(`${message}; trying again in ${delay} ms`, code),
    });
    const program = { entry: options.entry ?? workerEntry, scoreboard: fd, plan };
    this.#pool = new Pool(plan.workers);
    this.#molds = new Molds(loop, plan, program, this.#listeners, {
      onReady: ({ pid, generation }, { ms }) => {
        this.emit('mold-ready', { pid, generation, ms });
        this.#crew.startWaiting();
      },
      onExit: (exit) => {
        this.emit('mold-exit', exit);
        this.#settle();
      },
      onRetry: (generation, cause, delay) => {
        const how = `The mold of generation ${generation} ended (${cause})`;
        this.#warn(`${how}; it is loaded again in ${delay} ms`);
        this.#crew.startWaiting();
      },
    });
    const board = new Scoreboard(memory);
    this.#crew = new Crew(loop, plan, program, board, this.#listeners, this.#molds, {
      onStarted: (worker) => this.emit('worker-started', worker.info),
      onMessage: (worker, message) => this.#hear(worker, message),
      onEnd: (worker, record) => this.#workerEnded(worker, record),
      onNotStarted: (member, cause, message) => this.#notStarted(member, cause, message),
    });
    this.#standing = new Standing(plan, this.#pool, this.#crew, this.#listeners);
    this.#service = new Service(loop, plan, this.#standing, handover, {
      onUpgradeStarted: (pid) => this.emit('upgrade-started', { pid }),
      onUpgradeDone: (pid) => this.emit('upgrade-done', { pid }),
      onUpgradeFailed: (message) => this.emit('upgrade-failed', { message }),
      onUpgradeCancelled: () => this.#finishIfEmpty(),
      onWarning: (message) => this.#warn(message),
    });
    this.#renewals = new Renewals(plan, this.#pool, this.#crew, this.#molds, this.#standing, this.ready, {
      settle: () => this.#settle(),
      cannotFork: (reason) => this.#method.cannotFork(reason),
      onReloading: (generation) => this.#reloading(generation),
      onReloaded: (done) => this.emit('reload-done', done),
      onNotReloaded: (failed) => this.emit('reload-failed', failed),
      onReloadOver: () => this.#reloadOver(),
      onRefork: (refork) => this.emit('refork', refork),
      onWarning: (message) => this.#warn(message),
    });
    this.#aftermath = new Aftermath(this.#pool, this.#renewals, {
      canSpawnInstead: () => this.#crew.method === 'fork',
      cannotFork: (reason) => this.#method.cannotFork(reason),
      canBeFewer: () => this.#pool.target > this.#scope[0],
      resize: (workers) => this.#resize(workers),
      giveUp: (exitCode, message) => this.#giveUp(exitCode, message),
      onBackoff: (backoff) => this.emit('backoff', backoff),
      onWarning: (message) => this.#warn(message),
    });
    this.#method = new SpawnMethod(plan, this.#crew, this.#molds, this.#standing, {
      failedEarly: (cause, message) => this.#aftermath.failedEarly(cause, message),
      giveUp: (exitCode, message) => this.#giveUp(exitCode, message),
      onDecided: (method, reason) => this.#methodDecided(method, reason),
      onWarning: (message) => this.#warn(message),
    });
    this.#timers = new Timers(loop);
    this.#watchdog = new Watchdog(plan, monotonic(), { onSlow: (slow) => this.emit('worker-slow', slow) });
    this.#scales = new Scales(plan, options.sampleEvery);
  }

  // ------------------------------------------------------------------------------- from the start to readiness

  async begin(): Promise<void> {
    // Stopped in the turn that it was made in.
    if (this.#standing.isStopping) return;
    if (this.#options.signals) this.#timers.hold(obeySignals(this.#loop, this));
    // As a subreaper, and as PID 1 of a container, we are the parent of what the application's programs leave behind.
    this.#timers.hold(reapOrphans(this.#loop));
    process.title = `forkbeard: monitor [${this.#plan.title}]`;
    try {
      await this.#listeners.open(this.#loop);
    } catch (error) {
      this.#giveUp(exitCodeOfBind((error as NodeJS.ErrnoException).code), (error as Error).message);
      return;
    }
    this.#service.begin(this.#timers);
    this.emit('listening', { listen: [...this.#listeners.addresses] });
    // Whoever heard of it may have stopped the server.
    if (this.#standing.isStopping) return;
    this.#timers.every(lookEvery(this.#plan), () => this.#look());
    this.#weigh();
    this.#method.begin(this.#loop, this.#timers, this.#pool.generation);
    this.#settle();
  }

  #methodDecided(method: 'fork' | 'spawn', reason: string): void {
    this.emit('method', { method, reason });
    this.#crew.startWaiting();
    this.#settle();
  }

  #completed(): void {
    this.#renewals.complete();
    const { state } = this.#standing;
    if (state === 'reloading' || state === 'ready') return;
    const { generation } = this.#pool;
    const ms = Math.round(monotonic() - this.#startedAt);
    this.#standing.state = 'ready';
    this.emit('ready', { workers: this.#pool.target, generation, ms });
    if (this.#service.isOurs) this.#service.ready();
    else void this.#offerToFollow();
    this.#everComplete = true;
    this.#readiness.resolve();
  }

  /** Whoever follows does all that the one before did; if it cannot, that one goes on. */
  async #offerToFollow(): Promise<void> {
    try {
      await this.#options.beforeHandover?.();
    } catch (error) {
      const { message, exitCode = EXIT.system } = error as Error & { exitCode?: number };
      this.#warn(message);
      this.#giveUp(exitCode, message);
      return;
    }
    this.#service.ready();
  }

  #reloading(generation: number): void {
    this.emit('reload-started', { generation });
    if (this.#everComplete) this.#standing.state = 'reloading';
    this.#service.reloading();
  }

  #reloadOver(): void {
    if (this.#standing.isStopping) return;
    this.#standing.state = this.#pool.open ? 'ready' : 'draining';
    this.#service.reloaded();
  }

  // ------------------------------------------------------------------------------- what workers say

  #hear<Type extends FromWorker['type']>(worker: Worker, message: Extract<FromWorker, { type: Type }>): void {
    const action = this.#workerSays[message.type as Type] as (worker: Worker, message: FromWorker) => void;
    action(worker, message);
  }

  readonly #workerSays: {
    [Type in FromWorker['type']]: (worker: Worker, message: Extract<FromWorker, { type: Type }>) => void;
  } = {
    hello: () => {},
    ready: (worker) => this.#workerReady(worker),
    // Its end follows, and says the same.
    failed: () => {},
    paused: (worker, { reason }) => this.emit('worker-paused', { ...who(worker), reason }),
    resumed: (worker) => this.emit('worker-resumed', who(worker)),
    tired: (worker, { reason }) => this.#tired(worker, reason),
    leaving: (worker) => {
      worker.leavingAt ??= monotonic();
      this.#pool.left(worker.member);
      this.#settle();
    },
    'slow-request': (worker, { method, url, age }) => {
      worker.told.set('request', worker.entry.get('oldest'));
      this.emit('worker-slow', { ...who(worker), reason: 'request', age, request: `${method} ${url}` });
    },
    promoted: (worker, { pid }) => this.#renewals.promoted(worker, pid),
    'not-promoted': (worker, { error }) => this.#renewals.notPromoted(worker, error),
  };

  #workerReady(worker: Worker): void {
    const { member } = worker;
    if (member.state !== 'starting') return;
    worker.readyAt = monotonic();
    this.#aftermath.anyReady();
    this.#pool.ready(member);
    this.#renewals.ready(member.generation);
    this.emit('worker-ready', { ...worker.info, ms: Math.round(worker.readyAt - worker.startedAt) });
    this.#settle();
  }

  #tired(worker: Worker, reason: ExitRecord['reason']): void {
    worker.tiredOf ??= reason;
    this.#pool.tired(worker.member);
    this.#settle();
  }

  // ------------------------------------------------------------------------------- how workers end

  #workerEnded(worker: Worker, record: ExitRecord): void {
    const { member, leavingAt, readyAt } = worker;
    this.#standing.count(record.cause);
    this.emit('worker-exit', record);
    this.#pool.ended(member);
    if (leavingAt === undefined) {
      const service = readyAt === undefined ? undefined : monotonic() - readyAt;
      this.#aftermath.follow(
        member,
        record.cause,
        record.message ?? unexplained('A worker', record, this.#plan.bootTimeout),
        service,
      );
    }
    this.#settle();
  }

  #notStarted(member: Member, cause: ExitCause, message: string): void {
    this.#pool.ended(member);
    if (cause !== 'drained') {
      this.#warn(`Worker ${member.place} could not be started: ${message}`);
      this.#aftermath.follow(member, cause, message, undefined);
    }
    this.#settle();
  }

  // ------------------------------------------------------------------------------- what is to be done

  /** Carries out what the pool says until it says no more; whatever happens meanwhile is taken in. */
  #settle(): void {
    this.#settleAgain = true;
    if (this.#settling) return;
    this.#settling = true;
    try {
      while (this.#settleAgain && this.#crew.method !== undefined) {
        this.#settleAgain = false;
        for (const action of this.#pool.settle(monotonic())) this.#carryOut(action);
      }
    } finally {
      // A listener of an event may throw: that is its program's error, and no reason to stand still.
      this.#settling = false;
    }
    if (this.#pool.complete) this.#completed();
    for (const waiter of this.#waiters) {
      if (waiter.until()) {
        this.#waiters.delete(waiter);
        waiter.resolve();
      }
    }
    this.#wakeForNextStart();
    this.#finishIfEmpty();
  }

  #carryOut(action: Action): void {
    if (action.do === 'start') this.#crew.start(action.member);
    else {
      // Siblings serve on, or a successor does.
      const patient = !this.#standing.isStopping || !this.#service.isOurs;
      this.#crew.retire(action.member, action.why, this.#quick ? 'quick' : 'graceful', patient);
    }
  }

  #wakeForNextStart(): void {
    const { nextStart } = this.#pool;
    // At 0 places wait for the method, not for a time.
    const wait = nextStart === 0 ? Number.POSITIVE_INFINITY : Math.max(0, nextStart - monotonic());
    this.#timers.wakeAfter(wait, () => this.#settle());
  }

  #look(): void {
    this.#watchdog.look(monotonic(), this.#crew.workers);
    this.#renewals.reforkIfDue();
  }

  #weigh(): void {
    const next = this.#scales.look(monotonic(), this.#crew.workers, (worker) =>
      this.#tired(worker, 'memory'),
    );
    this.#timers.after(next, () => this.#weigh());
  }

  // ------------------------------------------------------------------------------- what is asked for

  status(): PreforkStatus {
    return this.#standing.status();
  }

  reload(): Promise<void> {
    return this.#renewals.reload();
  }

  async scale(workers: number): Promise<void> {
    this.#standing.checkRunning();
    const [fewest, most] = this.#scope;
    if (!Number.isInteger(workers) || workers < fewest || workers > most) {
      const why = fewest > 1 ? ': with reusePort each of the first has a socket of its own' : '';
      const message = `The number of workers must be from ${fewest} to ${most}, not ${workers}${why}`;
      this.#warn(message);
      throw stateError('WORKERS', message);
    }
    this.#pool.reopen();
    this.#resize(workers);
    this.#settle();
    await this.#until(() => this.#pool.complete);
  }

  /** A socket that nobody accepts from would keep its share of the connections waiting. */
  get #scope(): [fewest: number, most: number] {
    const { workers, reusePort } = this.#plan;
    return [reusePort ? workers : 1, entriesFor(workers) / 2];
  }

  #resize(workers: number): void {
    const from = this.#pool.target;
    this.#pool.resize(workers);
    if (from !== workers) this.emit('scaled', { from, to: workers });
  }

  async drain(): Promise<void> {
    this.#standing.checkRunning();
    this.#standing.state = 'draining';
    this.#renewals.abort('The server drains');
    this.#pool.close();
    this.#service.draining();
    this.#settle();
    await this.#until(() => this.#crew.empty);
  }

  kill(worker: number): void {
    const found = this.#crew.workers.filter(
      ({ member }) => member.place === worker && member.state !== 'draining',
    );
    if (found.length === 0) throw stateError('NO_WORKER', `There is no worker ${worker}`);
    for (const one of found) one.kill('operator');
  }

  reopenLogs(): void {
    this.emit('logs-reopened', { cause: 'asked' });
    for (const worker of this.#crew.workers) worker.send({ type: 'reopen' });
  }

  async upgrade(): Promise<void> {
    await this.ready;
    this.#standing.checkRunning();
    await this.#service.upgrade(this.#listeners.all, this.#options.command);
    await this.#stop('graceful', 'upgrade');
  }

  stop(options: { quick?: boolean } = {}): Promise<number> {
    return this.#stop(options.quick ? 'quick' : 'graceful', 'asked');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // ------------------------------------------------------------------------------- the end

  #stop(how: 'graceful' | 'quick', cause: string): Promise<number> {
    const hurry = how === 'quick' && !this.#quick;
    const { isStopping, state } = this.#standing;
    if (state === 'stopped' || (isStopping && !hurry)) return this.closed;
    this.#quick ||= hurry;
    this.#standing.state = 'stopping';
    this.emit('stopping', { how, cause });
    this.#service.stopping();
    this.#readiness.reject(new Error('The server was stopped before it was ready'));
    this.#renewals.abort('The server stops');
    for (const { reject } of this.#waiters) reject(new Error('The server stops'));
    this.#waiters.clear();
    this.#pool.close();
    // Workers give theirs up as they leave: whoever comes now is refused at once, and does not wait for nobody.
    this.#listeners.close(!this.#service.isOurs);
    if (hurry) this.#hurry();
    this.#settle();
    this.#molds.releaseAll();
    this.#settle();
    return this.closed;
  }

  /** Those too that have been told to take their time. */
  #hurry(): void {
    for (const worker of this.#crew.workers) this.#crew.dismiss(worker, 'quick');
    this.#timers.after(QUICK_TIMEOUT, () => {
      this.#molds.killAll();
      for (const worker of this.#crew.workers) worker.kill('graceful-deadline');
    });
  }

  /** There is nothing to go on for. */
  #giveUp(exitCode: number, message: string): void {
    if (this.#standing.isStopping) return;
    this.#exitCode = exitCode;
    this.#readiness.reject(Object.assign(new Error(message), { exitCode }));
    void this.#stop('quick', message);
  }

  #finishIfEmpty(): void {
    if (this.#standing.state !== 'stopping' || this.#service.isUpgrading) return;
    if (!this.#crew.empty || !this.#molds.empty) return;
    this.#standing.state = 'stopped';
    this.#timers.close();
    this.#listeners.close(!this.#service.isOurs);
    this.#service.close();
    close(this.#boardFd);
    this.emit('stopped', { code: this.#exitCode });
    this.#close(this.#exitCode);
  }

  // ------------------------------------------------------------------------------- odds and ends

  #until(until: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      if (until()) resolve();
      else this.#waiters.add({ until, resolve, reject });
    });
  }

  #warn(message: string, code?: string): void {
    this.emit('warning', code === undefined ? { message } : { message, code });
  }
}

function who(worker: Worker): { worker: number; pid: number } {
  return { worker: worker.member.place, pid: worker.pid };
}
