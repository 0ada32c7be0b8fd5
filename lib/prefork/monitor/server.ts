/**
 * The monitor of a server: hears what happened to workers, molds and clocks, and decides what follows. It reads as a
 * table of event and action; the rooms beside it do the work (`pool.ts` keeps the books, `crew.ts` and `molds.ts` have
 * the processes, `watchdog.ts` the clocks, `policy.ts` the consequences). It never loads the application, and nothing
 * that a process of the application does may end it.
 */
import { EventEmitter } from 'node:events';
import { ServiceNotifier } from '../../daemon/systemd.ts';
import { becomeSubreaper } from '../../process/lineage.ts';
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
import { Crew } from './crew.ts';
import { exitCodeOfBind, Listeners, nameOf } from './listeners.ts';
import type { Mold } from './mold.ts';
import { type MoldError, Molds } from './molds.ts';
import { removePidFile, writePidFile } from './pid-file.ts';
import { type Action, type Member, Pool } from './pool.ts';
import { Renewals } from './renewals.ts';
import { Scales } from './scales.ts';
import { obeySignals } from './signals.ts';
import { Handover, Upgrade } from './upgrade.ts';
import { lookEvery, Watchdog } from './watchdog.ts';
import type { Worker } from './worker.ts';

export interface ServerOptions {
  /** Obey signals, as `forkbeard serve` does. Default false. */
  signals?: boolean;
  /** The command that a new monitor is started with for an upgrade. Default: the one that started this process. */
  command?: readonly [string, ...string[]];
  /** Entry module of the application's processes. */
  entry?: string;
  /** How often memory is looked at, ms. */
  sampleEvery?: number;
}

/** Entries of the scoreboard: room for as many more workers, and for those that are being replaced. */
const entriesFor = (workers: number) => Math.max(64, 4 * workers);
/** What workers get for a quick stop before they are killed. ms */
const QUICK_TIMEOUT = 3000;

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
  readonly #watchdog: Watchdog;
  readonly #scales: Scales;
  readonly #notifier = new ServiceNotifier();
  readonly #handover: Handover | undefined;
  readonly #aftermath: Aftermath;
  readonly #exits: Partial<Record<ExitCause, number>> = {};
  readonly #timers = new Set<Disposable>();
  readonly #waiters = new Set<{
    until: () => boolean;
    resolve: () => void;
    reject: (error: Error) => void;
  }>();
  #readiness: { resolve: () => void; reject: (error: Error) => void } = { resolve() {}, reject() {} };
  #close: (code: number) => void = () => {};
  #state: PreforkStatus['state'] = 'starting';
  #reason = '';
  #exitCode: number = EXIT.drained;
  #quick = false;
  /** Not before it was handed over to us, nor after we have handed it over. */
  #isOurs: boolean;
  #everComplete = false;
  readonly #renewals: Renewals;
  #upgrade: Upgrade | undefined;
  #wake: Disposable | undefined;
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
    this.#handover = Handover.received();
    this.#isOurs = this.#handover === undefined;
    this.#listeners = new Listeners({
      targets: plan.listen,
      backlog: plan.backlog,
      copies: plan.reusePort ? plan.workers : 1,
      inherited: this.#handover?.listeners ?? [],
      onBusy: ({ message, code }, delay) => this.#warn(`${message}; trying again in ${delay} ms`, code),
    });
    const program = { entry: options.entry ?? workerEntry, scoreboard: fd };
    this.#pool = new Pool(plan.workers);
    this.#molds = new Molds(loop, plan, program, this.#listeners, {
      onReady: (mold, { ms }) => this.#moldReady(mold, ms),
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
    this.#renewals = new Renewals(plan, this.#pool, this.#crew, this.#molds, this.ready, {
      checkRunning: () => this.#checkRunning(),
      settle: () => this.#settle(),
      cannotFork: (reason) => this.#cannotFork(reason),
      onReloading: (generation) => this.#reloading(generation),
      onReloaded: (done) => this.emit('reload-done', done),
      onNotReloaded: (failed) => this.emit('reload-failed', failed),
      onReloadOver: () => this.#reloadOver(),
      onRefork: (refork) => this.emit('refork', refork),
      onWarning: (message) => this.#warn(message),
    });
    this.#aftermath = new Aftermath(this.#pool, this.#renewals, {
      canSpawnInstead: () => this.#crew.method === 'fork',
      cannotFork: (reason) => this.#cannotFork(reason),
      canBeFewer: () => this.#pool.target > this.#scope[0],
      resize: (workers) => this.#resize(workers),
      giveUp: (exitCode, message) => this.#giveUp(exitCode, message),
      onBackoff: (backoff) => this.emit('backoff', backoff),
      onWarning: (message) => this.#warn(message),
    });
    this.#watchdog = new Watchdog(plan, monotonic(), { onSlow: (slow) => this.emit('worker-slow', slow) });
    this.#scales = new Scales(plan, options.sampleEvery);
  }

  // ------------------------------------------------------------------------------- from the start to readiness

  async begin(): Promise<void> {
    if (this.#options.signals) this.#timers.add(obeySignals(this.#loop, this));
    // As a subreaper, and as PID 1 of a container, we are the parent of what the application's programs leave behind.
    this.#timers.add(reapOrphans(this.#loop));
    process.title = `forkbeard: monitor [${this.#plan.title}]`;
    try {
      await this.#listeners.open(this.#loop);
    } catch (error) {
      this.#giveUp(exitCodeOfBind((error as NodeJS.ErrnoException).code), (error as Error).message);
      return;
    }
    if (this.#isStopping) return this.#finishIfEmpty();
    if (this.#isOurs) this.#writePidFile();
    this.#handover?.begin(this.#loop, () => this.#takeOver());
    this.emit('listening', { listen: [...this.#listeners.addresses] });
    this.#every(lookEvery(this.#plan), () => this.#look());
    this.#weigh();
    const { watchdogInterval } = this.#notifier;
    if (watchdogInterval > 0) this.#every(watchdogInterval, () => this.#notifier.alive());
    if (this.#plan.spawnMethod === 'spawn') this.#decide('spawn', '');
    else this.#fork();
    this.#settle();
  }

  #fork(): void {
    try {
      becomeSubreaper();
      this.#timers.add(reapOrphans(this.#loop));
    } catch (error) {
      this.#cannotFork((error as Error).message);
      return;
    }
    this.#firstMold();
  }

  #firstMold(): void {
    const { generation } = this.#pool;
    this.#molds.load(generation).then(
      ({ method, hazards }) => {
        const blocking = hazards.filter((hazard) => hazard.blocking);
        if (method === 'fork') this.#decide('fork', '');
        else this.#cannotFork(blocking.map(({ message }) => message).join('; '));
      },
      (error: MoldError) => {
        if (this.#isStopping || this.#aftermath.failedEarly(error.why, error.message)) return;
        this.#firstMold();
      },
    );
  }

  #decide(method: 'fork' | 'spawn', reason: string): void {
    if (this.#isStopping) return;
    this.#reason = reason;
    this.#crew.method = method;
    this.emit('method', { method, reason });
    this.#crew.startWaiting();
    this.#settle();
  }

  /** With 'auto' workers are spawned; whoever insists on forks gets the reason. */
  #cannotFork(reason: string): void {
    if (this.#plan.spawnMethod === 'fork') {
      this.#giveUp(EXIT.unsafeFork, `Workers cannot be forked: ${reason}`);
      return;
    }
    this.#decide('spawn', reason);
    this.#molds.releaseAll();
  }

  #moldReady(mold: Mold, ms: number): void {
    this.emit('mold-ready', { pid: mold.pid, generation: mold.generation, ms });
    this.#crew.startWaiting();
  }

  #completed(): void {
    this.#renewals.complete();
    if (this.#state === 'reloading' || this.#state === 'ready') return;
    const { generation } = this.#pool;
    const ms = Math.round(monotonic() - this.#startedAt);
    this.#state = 'ready';
    this.emit('ready', { workers: this.#pool.target, generation, ms });
    if (this.#isOurs) this.#notifier.ready(this.#summary);
    else this.#handover?.ready();
    this.#everComplete = true;
    this.#readiness.resolve();
  }

  /** The monitor before us has let go: the service is ours. */
  #takeOver(): void {
    if (this.#isStopping) return;
    this.#isOurs = true;
    this.#writePidFile();
    this.#notifier.ready(this.#summary);
  }

  #reloading(generation: number): void {
    this.emit('reload-started', { generation });
    if (this.#everComplete) this.#state = 'reloading';
    this.#notifier.reloading();
  }

  #reloadOver(): void {
    if (this.#isStopping) return;
    this.#state = this.#pool.open ? 'ready' : 'draining';
    this.#notifier.ready(this.#summary);
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
    this.#exits[record.cause] = (this.#exits[record.cause] ?? 0) + 1;
    this.emit('worker-exit', record);
    this.#pool.ended(member);
    if (leavingAt === undefined) {
      const service = readyAt === undefined ? undefined : monotonic() - readyAt;
      this.#aftermath.follow(
        member,
        record.cause,
        record.message ?? `A worker ended: ${record.cause}`,
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
      const patient = !this.#isStopping || !this.#isOurs;
      this.#crew.retire(action.member, action.why, this.#quick ? 'quick' : 'graceful', patient);
    }
  }

  #wakeForNextStart(): void {
    this.#wake?.[Symbol.dispose]();
    const { nextStart } = this.#pool;
    if (!Number.isFinite(nextStart) || nextStart === 0) return;
    this.#wake = this.#loop.watchTime({ after: Math.max(0, nextStart - monotonic()) }, () => this.#settle());
  }

  #look(): void {
    this.#watchdog.look(monotonic(), this.#crew.workers);
    this.#renewals.reforkIfDue();
  }

  #weigh(): void {
    const next = this.#scales.look(monotonic(), this.#crew.workers, (worker) =>
      this.#tired(worker, 'memory'),
    );
    this.#after(next, () => this.#weigh());
  }

  reload(): Promise<void> {
    return this.#renewals.reload();
  }

  // ------------------------------------------------------------------------------- what is asked for

  status(): PreforkStatus {
    const pool = this.#pool;
    return {
      version: 1,
      pid: this.pid,
      state: this.#state,
      application: this.#plan.application,
      method: this.#crew.method ?? (this.#plan.spawnMethod === 'spawn' ? 'spawn' : 'fork'),
      reason: this.#reason,
      generation: pool.generation,
      listen:
        this.#listeners.addresses.length > 0 ? [...this.#listeners.addresses] : this.#plan.listen.map(nameOf),
      target: pool.target,
      ready: pool.serving.length,
      workers: pool.members.flatMap((member) => this.#crew.of(member)?.status() ?? []),
      exits: { ...this.#exits },
    };
  }

  async scale(workers: number): Promise<void> {
    this.#checkRunning();
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
    this.#checkRunning();
    this.#state = 'draining';
    this.#renewals.abort('The server drains');
    this.#pool.close();
    this.#notifier.status('Draining');
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
    this.#checkRunning();
    if (this.#upgrade !== undefined) {
      throw stateError('UPGRADE_RUNNING', `An upgrade runs already, to process ${this.#upgrade.pid}`);
    }
    try {
      const upgrade = Upgrade.begin(this.#loop, this.#listeners.all, this.#plan, this.#options.command);
      this.#upgrade = upgrade;
      const { pid } = upgrade;
      this.emit('upgrade-started', { pid });
      await upgrade.ready;
      this.#checkRunning();
      this.#notifier.mainPid(pid);
      this.#isOurs = false;
      this.#upgrade = undefined;
      upgrade.handOver();
      this.emit('upgrade-done', { pid });
    } catch (error) {
      await this.#cancelUpgrade();
      this.emit('upgrade-failed', { message: (error as Error).message });
      throw error;
    }
    await this.#stop('graceful', 'upgrade');
  }

  /** The successor is gone afterwards, so that it never is one monitor too many. */
  async #cancelUpgrade(): Promise<void> {
    await this.#upgrade?.cancel();
    this.#upgrade = undefined;
    this.#finishIfEmpty();
  }

  stop(options: { quick?: boolean } = {}): Promise<number> {
    return this.#stop(options.quick ? 'quick' : 'graceful', 'asked');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // ------------------------------------------------------------------------------- the end

  get #isStopping(): boolean {
    return this.#state === 'stopping' || this.#state === 'stopped';
  }

  #stop(how: 'graceful' | 'quick', cause: string): Promise<number> {
    const hurry = how === 'quick' && !this.#quick;
    if (this.#state === 'stopped' || (this.#isStopping && !hurry)) return this.closed;
    this.#quick ||= hurry;
    this.#state = 'stopping';
    this.emit('stopping', { how, cause });
    if (this.#isOurs) this.#notifier.stopping();
    void this.#cancelUpgrade();
    this.#readiness.reject(new Error('The server was stopped before it was ready'));
    this.#renewals.abort('The server stops');
    for (const { reject } of this.#waiters) reject(new Error('The server stops'));
    this.#waiters.clear();
    this.#pool.close();
    // Workers give theirs up as they leave: whoever comes now is refused at once, and does not wait for nobody.
    this.#listeners.close(!this.#isOurs);
    if (hurry) this.#hurry();
    this.#settle();
    this.#molds.releaseAll();
    this.#settle();
    return this.closed;
  }

  /** Those too that have been told to take their time. */
  #hurry(): void {
    for (const worker of this.#crew.workers) this.#crew.dismiss(worker, 'quick');
    this.#after(QUICK_TIMEOUT, () => {
      this.#molds.killAll();
      for (const worker of this.#crew.workers) worker.kill('graceful-deadline');
    });
  }

  /** There is nothing to go on for. */
  #giveUp(exitCode: number, message: string): void {
    if (this.#isStopping) return;
    this.#exitCode = exitCode;
    this.#readiness.reject(Object.assign(new Error(message), { exitCode }));
    void this.#stop('quick', message);
  }

  #finishIfEmpty(): void {
    if (this.#state !== 'stopping' || this.#upgrade !== undefined) return;
    if (!this.#crew.empty || !this.#molds.empty) return;
    this.#state = 'stopped';
    this.#wake?.[Symbol.dispose]();
    for (const timer of this.#timers) timer[Symbol.dispose]();
    this.#listeners.close(!this.#isOurs);
    this.#handover?.close();
    if (this.#plan.pidFile !== null && this.#isOurs) removePidFile(this.#plan.pidFile);
    this.#notifier.close();
    close(this.#boardFd);
    this.emit('stopped', { code: this.#exitCode });
    this.#close(this.#exitCode);
  }

  // ------------------------------------------------------------------------------- odds and ends

  get #summary(): string {
    const { serving, target, generation } = this.#pool;
    return `${serving.length} of ${target} workers, generation ${generation}`;
  }

  #checkRunning(): void {
    if (this.#isStopping) throw stateError('STOPPING', 'The server stops');
  }

  #writePidFile(): void {
    const { pidFile } = this.#plan;
    if (pidFile === null) return;
    try {
      writePidFile(pidFile);
    } catch (error) {
      this.#warn(`The pid file could not be written: ${(error as Error).message}`);
    }
  }

  #until(until: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      if (until()) resolve();
      else this.#waiters.add({ until, resolve, reject });
    });
  }

  #every(ms: number, callback: () => void): void {
    const again = () => {
      callback();
      this.#after(ms, again);
    };
    this.#after(ms, again);
  }

  #after(ms: number, callback: () => void): void {
    if (this.#state === 'stopped') return;
    const timer = this.#loop.watchTime({ after: ms }, () => {
      this.#timers.delete(timer);
      callback();
    });
    this.#timers.add(timer);
  }

  #warn(message: string, code?: string): void {
    this.emit('warning', code === undefined ? { message } : { message, code });
  }
}

function who(worker: Worker): { worker: number; pid: number } {
  return { worker: worker.member.place, pid: worker.pid };
}
