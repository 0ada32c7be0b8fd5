/**
 * EventLoop: readiness, time and idle work over a native poller, dispatched in rounds. A round is: the batch of I/O
 * events, what the floors above add (signals, exits of processes), timers, idle work. Rounds come in two ways with the
 * same core: *integrated*, when Node's own event loop finds our kernel object readable and calls `#turn`, and
 * *blocking*, when `runOnce` or `runSync` sleep in the backend themselves.
 *
 * `Loop` of the floor above extends it with signals and processes; nobody else makes one.
 */
import { constants } from 'node:os';
import { inspect } from 'node:util';
import {
  checkAbortSignal,
  checkBoolean,
  checkFd,
  checkFunction,
  checkKeys,
  checkMillis,
  checkObject,
  invalidType,
  invalidValue,
  outOfRange,
  stateError,
  systemError,
} from '../sys/errors.ts';
import { CALLS, chooseBackend, usableBackends } from './backends.ts';
import type {
  BackendName,
  IoHandlers,
  IoOptions,
  IoWatcher,
  LoopOptions,
  TimeWatcher,
  Watcher,
} from './contract.ts';
import { Drive } from './drive.ts';
import { IdleQueue } from './idle.ts';
import { type IoHost, IoTable } from './io.ts';
import { takeHandlers, takeOptions } from './io-arguments.ts';
import { forkGeneration, HANGUP, type Handle, nativeLoop, READ, WRITE } from './native-loop.ts';
import { OpenPromises } from './promises.ts';
import { Runs } from './runs.ts';
import { now, Timers, type TimeWatch } from './time.ts';
import { WatcherBase } from './watcher.ts';

/** Something that the floors above run in every round, between I/O and timers, in the order of adding. */
export interface Phase {
  /** True when there is something to run without waiting. */
  readonly pending: boolean;
  /** Calls what is due through the loop's `invoke`. */
  run(): void;
  /** The kernel objects were made anew. */
  recreated(): void;
  /** The loop closes: stop all, release all. */
  close(): void;
}

const FIRST_BATCH = 256;
const LARGEST_BATCH = 1 << 16;
/** As many watchers as stay in the processor's caches between being looked at and being called. */
const AT_ONCE = 128;
/**
 * Where the stack ends in the middle of an async context, Node ends the process. A handler that starts a round which calls
 * it again gets there after 700 rounds, with the stack that V8 has by default.
 */
const MOST_ROUNDS_DEEP = 250;
const ESTALE = -constants.errno.ESTALE;

/**
 * Runs what `process.nextTick` and promises have queued, as Node does between two of its own callbacks. It has been on
 * `process` since before there were promises, and Node's timers use the same function between one another. It looks at no
 * `this`; and the global `process` is a getter, which would cost every handler more than the rest of the call.
 */
const drainTicks = (process as unknown as { _tickCallback?: () => void })._tickCallback;

let loopsMade = 0;
/** Rounds in progress in this thread, of whichever loop, one inside the other. */
let roundsDeep = 0;
/** `runSync` calls that this thread is inside of. */
let blockingRuns = 0;

export class EventLoop implements Disposable {
  /** Backends that are compiled in and usable on this machine, best first. */
  static get backends(): readonly BackendName[] {
    return usableBackends();
  }

  readonly #backend: BackendName;
  readonly #handle: Handle;
  readonly #drainEach: boolean;
  readonly #io: IoTable;
  readonly #timers: Timers;
  readonly #idle: IdleQueue;
  readonly #drive: Drive;
  readonly #phases: Phase[] = [];
  readonly #host: IoHost;
  readonly #turn: (count: number) => void;
  #id: string;
  /** Of the process whose kernel objects these are. */
  #generation: number;
  #closed = false;

  // The batch that is being dispatched. A round that starts inside a handler goes on with it, so that no event waits
  // for a nested run to end.
  #batch = new Uint32Array(3 * FIRST_BATCH);
  #cursor = 0;
  #count = 0;

  /** Rounds in progress, one inside the other. */
  #depth = 0;
  /** Callbacks run so far. */
  #calls = 0;
  #errors: unknown[] = [];
  /** Why there is no alarm for the next timer, if it was refused. */
  #alarmErrno = 0;

  readonly #runs = new Runs();
  readonly #promises = new OpenPromises();

  constructor(options: LoopOptions = {}) {
    checkObject(options, 'options');
    checkKeys(options, ['backend', 'drain'], 'loop option');
    const { drain = 'handler' } = options;
    if (drain !== 'handler' && drain !== 'batch')
      throw invalidValue('options.drain', "'handler' or 'batch'", drain);
    this.#drainEach = drain === 'handler' && drainTicks !== undefined;
    this.#backend = chooseBackend(options.backend);
    const handle = nativeLoop().open(this.#backend);
    if (typeof handle === 'number') throw systemError(handle, CALLS[this.#backend].create);
    this.#handle = handle;
    this.#generation = forkGeneration();
    nativeLoop().setBatch(handle, this.#batch);
    this.#id = makeId();
    this.#turn = (count) => {
      if (count < 0) throw systemError(count, CALLS[this.#backend].wait);
      this.#cursor = 0;
      this.#count = count;
      const isSecondTry = this.#alarmErrno < 0;
      this.#round();
      if (isSecondTry && this.#alarmErrno < 0) this.#surfaceAlarm();
    };
    this.#host = {
      backend: this.#backend,
      usable: () => this.usable(),
      invoke: this.invoke.bind(this),
      invoke2: (watcher, callback, a, b) => this.#invoke2(watcher, callback, a, b),
      count: (actives, refs) => this.#countWatchers(actives, refs),
      hurry: () => this.hurry(),
    };
    this.#io = new IoTable(this.#host, handle);
    this.#timers = new Timers(this.#host);
    this.#idle = new IdleQueue(this.#host);
    this.#drive = new Drive(handle, this.#timers);
  }

  /** What it runs on. */
  get backend(): BackendName {
    return this.#backend;
  }

  /** Unique in this process tree: a loop re-created in a forked child has another id. */
  get id(): string {
    return this.#id;
  }

  /**
   * The kernel object (epoll or kqueue descriptor), -1 for 'poll' and when closed. After a fork it is another object
   * (the number may be the same).
   */
  get fd(): number {
    return this.#closed ? -1 : Math.max(-1, nativeLoop().fd(this.#handle));
  }

  /** Whether a run of this loop is under way, of whichever kind. */
  get running(): boolean {
    return this.#runs.size > 0;
  }

  /** Monotonic clock, ms with sub-millisecond digits. */
  now(): number {
    return now();
  }

  // ------------------------------------------------------------------------------------- watchers

  /** Any number of watchers may share a descriptor. Regular files are always ready, on every backend. */
  watchIo(fd: number, handlers: IoHandlers, options: IoOptions = {}): IoWatcher {
    checkFd(fd);
    const taken = takeHandlers(handlers);
    const chosen = takeOptions(options);
    this.ready();
    return this.#io.watch(fd, taken, chosen);
  }

  /** Stops every watcher of `fd`, or just the directions named. Unknown descriptors are fine. */
  unwatchIo(fd: number, which?: { read?: boolean; write?: boolean; hangup?: boolean }): void {
    checkFd(fd);
    if (which === undefined) {
      this.#io.unwatch(fd);
      return;
    }
    checkObject(which, 'which');
    checkKeys(which, ['read', 'write', 'hangup'], 'direction');
    const { read = false, write = false, hangup = false } = which;
    checkBoolean(read, 'which.read');
    checkBoolean(write, 'which.write');
    checkBoolean(hangup, 'which.hangup');
    this.#io.unwatch(fd, (read ? READ : 0) | (write ? WRITE : 0) | (hangup ? HANGUP : 0));
  }

  /** `after` counts on the monotonic clock and is never early; `at` follows the wall clock when it is set. */
  watchTime(when: { after: number } | { at: number | Date }, callback: () => void): TimeWatcher {
    checkObject(when, 'when');
    checkKeys(when, TIMES, 'time');
    const { after, at } = when as { after?: number; at?: number | Date };
    let watcher: TimeWatch;
    if (after !== undefined && at === undefined) {
      checkMillis(after, 'when.after');
      checkFunction(callback, 'callback');
      this.ready();
      watcher = this.#timers.after(after, callback as () => void);
    } else if (at !== undefined && after === undefined) {
      const time = at instanceof Date ? at.getTime() : at;
      checkMillis(time, 'when.at');
      checkFunction(callback, 'callback');
      this.ready();
      watcher = this.#timers.at(time, callback as () => void);
    } else {
      throw invalidValue('when', 'an object with either "after" or "at"', when);
    }
    if (this.#depth > 0) return watcher;
    const errno = this.#drive.settleAlarms();
    if (errno < 0) {
      watcher.stop();
      throw systemError(errno, CALLS[this.#backend].alarm);
    }
    return watcher;
  }

  unwatchTime(watcher: TimeWatcher): void {
    checkObject(watcher, 'watcher');
    if (!(watcher instanceof WatcherBase)) throw invalidType('watcher', 'what watchTime returned', watcher);
    watcher.stop();
  }

  /**
   * Once, after the I/O of the current round, also when registered by that I/O. Registered by an idle callback: in the
   * next round.
   */
  watchIdle(callback: () => void): Watcher {
    checkFunction(callback, 'callback');
    this.ready();
    const watcher = this.#idle.add(callback as () => void);
    this.hurry();
    return watcher;
  }

  /** The same as `watchIdle`; without a callback a promise that is fulfilled then. */
  later(): Promise<void>;
  later(callback: () => void): Watcher;
  later(callback?: () => void): Promise<void> | Watcher {
    if (callback !== undefined) return this.watchIdle(callback);
    return this.#promises.make((done) => this.watchIdle(done));
  }

  /** Fulfilled after `ms` milliseconds, never early; rejected with an AbortError when `signal` says so. */
  async delay(ms: number, options: { signal?: AbortSignal } = {}): Promise<void> {
    checkMillis(ms, 'ms');
    checkObject(options, 'options');
    checkKeys(options, ['signal'], 'option');
    const signal = checkAbortSignal(options.signal);
    return this.#promises.make((done) => this.watchTime({ after: ms }, done), signal);
  }

  // ------------------------------------------------------------------------------------- running

  /**
   * Watchers work as soon as they exist, on Node's own event loop; `run` resolves with what `stop` is given, keeps the
   * process alive until then, nests (the latest ends first) and rejects with ERR_FORKBEARD_LOOP_CLOSED when the loop
   * is closed.
   */
  async run<T = void>(): Promise<T> {
    this.ready();
    this.#countWatchers(1, 1);
    return this.#runs.promise() as Promise<T>;
  }

  /**
   * The same, blocking this thread in the backend; Node's own handles rest meanwhile. Nests, some hundred times
   * (ERR_FORKBEARD_NESTED_TOO_DEEP).
   */
  runSync<T = void>(): T {
    this.ready();
    checkDepth();
    const run = this.#runs.enter();
    blockingRuns++;
    try {
      // What the caller has queued may be what the first event waits for: a stream that is about to flow.
      this.#drain();
      while (!run.ended) {
        if (this.#closed) throw closedError();
        this.#fetch(Infinity);
        this.#round();
      }
    } finally {
      blockingRuns--;
      this.#runs.leave(run);
    }
    return run.result as T;
  }

  /** One blocking pass: waits `timeout` ms at most (default: for ever), returns the number of callbacks run. */
  runOnce(timeout = Infinity): number {
    checkMillis(timeout, 'timeout');
    if (timeout < 0) throw outOfRange('timeout', '>= 0', timeout);
    this.ready();
    checkDepth();
    this.#drain();
    if (this.#closed) return 0;
    const deadline = now() + timeout;
    for (let left = timeout; ; left = Math.max(0, deadline - now())) {
      this.#fetch(left);
      const calls = this.#round();
      // Woken without anything to run (a signal of somebody else's, an alarm of integrated mode): the time goes on.
      if (calls > 0 || this.#closed || now() >= deadline) return calls;
    }
  }

  /** Ends the innermost run, after the current batch. */
  stop(result?: unknown): void {
    this.#runs.end(result);
    if (this.#depth === 0) this.#settleRuns();
  }

  /** Re-creates the kernel objects and keeps the watchers: for code that forked by other means. */
  postFork(): void {
    if (this.#closed) throw closedError();
    const errno = nativeLoop().recreate(this.#handle);
    if (errno < 0) throw systemError(errno, CALLS[this.#backend].create);
    this.#id = makeId();
    // Events that the parent fetched are the parent's; what is still so, the new kernel objects will say.
    if (forkGeneration() !== this.#generation) this.#cursor = this.#count;
    this.#generation = forkGeneration();
    this.#drive.recreated();
    for (const phase of this.#phases) phase.recreated();
    if (this.#depth === 0) this.#settleDrive();
  }

  /** Stops every watcher and closes the kernel objects. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#io.stopAll();
    this.#timers.stopAll();
    this.#idle.stopAll();
    for (const phase of this.#phases) phase.close();
    this.#closed = true;
    this.#cursor = this.#count;
    nativeLoop().close(this.#handle);
    this.#runs.rejectAll(closedError);
    this.#promises.rejectAll(closedError);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    const state = this.#closed ? 'closed' : this.running ? 'running' : 'open';
    return `Loop { backend: '${this.#backend}', id: '${this.#id}', ${state}, watchers: ${this.#drive.actives} }`;
  }

  // ------------------------------------------------------------- for the floor above (not for users)

  /** @internal Adds something to every round. */
  protected addPhase(phase: Phase): void {
    this.#phases.push(phase);
  }

  /** @internal The native half, for native code of the floor above. */
  protected get handle(): Handle {
    return this.#handle;
  }

  /** @internal Whether a `runSync` of any loop keeps this thread from Node's own event loop. */
  protected static isBlocking(this: void): boolean {
    return blockingRuns > 0;
  }

  /** @internal What watchers of the floor above count on. */
  protected get keeper(): IoHost {
    return this.#host;
  }

  /** @internal Neither closed nor the parent's. */
  protected get alive(): boolean {
    return !this.#closed && forkGeneration() === this.#generation;
  }

  /**
   * @internal Watches a descriptor for the loop's own purposes: `onReady` is not a user's callback, is not counted,
   * and keeps nobody alive. It must not throw.
   */
  protected watchInternally(fd: number, onReady: () => void): Disposable {
    this.ready();
    return this.#io.watch(fd, { onReadReady: onReady }, {}, true).unref();
  }

  /** @internal Throws when the loop is closed, or the parent's. */
  protected usable(): void {
    if (this.#closed) throw closedError();
    if (forkGeneration() !== this.#generation) throw forkedError();
  }

  /** @internal Usable, and driven by Node's event loop from now on. */
  protected ready(): void {
    this.usable();
    if (this.#drive.started) return;
    const errno = this.#drive.start(this.#turn);
    if (errno < 0) throw systemError(errno, 'uv_poll_init');
  }

  /** @internal There is something to run that no descriptor announces. */
  protected hurry(): void {
    if (this.#depth === 0 && !this.#closed) this.#settleDrive();
  }

  /** @internal Runs a user's callback: in the watcher's async context, its error set aside, ticks and microtasks after it. */
  protected invoke<A>(watcher: WatcherBase, callback: (a: A) => void, a: A): void {
    this.#calls++;
    try {
      watcher.runInAsyncScope(callback, undefined, a);
    } catch (error) {
      this.#errors.push(error);
    }
    if (this.#drainEach) this.#drain();
  }

  #invoke2<A, B>(watcher: WatcherBase, callback: (a: A, b: B) => void, a: A, b: B): void {
    this.invoke(watcher, () => callback(a, b), undefined);
  }

  // ------------------------------------------------------------------------------------- rounds

  /** Waits for a batch, `limit` ms at most, unless one is still being dispatched further out. */
  #fetch(limit: number): void {
    if (this.#cursor < this.#count) return;
    const count = nativeLoop().wait(this.#handle, this.#hasWork() ? 0 : this.#drive.patience(limit));
    if (count < 0) {
      if (count === ESTALE) throw forkedError();
      throw systemError(count, CALLS[this.#backend].wait);
    }
    this.#cursor = 0;
    this.#count = count;
  }

  #hasWork(): boolean {
    if (this.#idle.pending || this.#timers.pending || this.#io.pending) return true;
    for (const phase of this.#phases) if (phase.pending) return true;
    return false;
  }

  /** One round. Returns the number of callbacks run; throws what they threw. */
  #round(): number {
    const outerErrors = this.#errors;
    const before = this.#calls;
    const errors: unknown[] = [];
    this.#errors = errors;
    this.#depth++;
    roundsDeep++;
    // What callbacks throw is set aside; what comes out of here is the end of the stack.
    try {
      if (this.#cursor < this.#count) this.#dispatchBatch();
      if (this.#io.pending) this.#io.tellRefused();
      const phases = this.#phases;
      for (let i = 0; i < phases.length; i++) (phases[i] as Phase).run();
      this.#timers.run();
      this.#idle.run();
      if (!this.#drainEach && this.#calls !== before) this.#drain();
    } finally {
      roundsDeep--;
      this.#depth--;
      this.#errors = outerErrors;
    }
    if (this.#depth === 0) {
      this.#settleRuns();
      this.#drive.rang();
      if (!this.#closed) this.#settleDrive();
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} callbacks of a loop failed`);
    return this.#calls - before;
  }

  #dispatchBatch(): void {
    const batch = this.#batch;
    const io = this.#io;
    const full = this.#count * 3 === batch.length;
    while (this.#cursor < this.#count) {
      const cursor = this.#cursor;
      if (cursor % AT_ONCE === 0) io.fetch(batch, cursor, Math.min(cursor + AT_ONCE, this.#count));
      this.#cursor = cursor + 1;
      io.dispatch(
        batch[3 * cursor] as number,
        batch[3 * cursor + 1] as number,
        batch[3 * cursor + 2] as number,
      );
    }
    // A small batch would let the kernel's first ones starve the rest. Not while a nested round has replaced it.
    if (full && batch === this.#batch && batch.length < 3 * LARGEST_BATCH && !this.#closed) {
      this.#batch = new Uint32Array(batch.length * 2);
      nativeLoop().setBatch(this.#handle, this.#batch);
    }
  }

  #drain(): void {
    for (;;) {
      try {
        drainTicks?.();
        return;
      } catch (error) {
        // A tick is no callback of ours, so its error takes Node's way. It must: the tick has left its entry on Node's
        // stack of async contexts, which only this way clears, and which Node aborts over when it is found. Those
        // behind it are still queued.
        nativeLoop().uncaught(error);
      }
    }
  }

  #settleRuns(): void {
    const ended = this.#runs.settle();
    if (ended > 0) this.#countWatchers(-ended, -ended);
  }

  // ------------------------------------------------------------------------------ integrated mode

  #countWatchers(actives: number, refs: number): void {
    this.#drive.count(actives, refs);
    if (this.#depth === 0 && !this.#closed) this.#drive.settleKeeping();
  }

  #settleDrive(): void {
    this.#alarmErrno = this.#drive.settle(this.#hasWork());
  }

  /** The kernel gave no alarm in two turns. Without one the timers would never come, and nobody would know why. */
  #surfaceAlarm(): void {
    const errno = this.#alarmErrno;
    this.#alarmErrno = 0;
    this.#drive.rest(this.#hasWork());
    throw systemError(errno, CALLS[this.#backend].alarm);
  }
}

// ------------------------------------------------------------------------------------- constants and checks

const TIMES = ['after', 'at'] as const;
function makeId(): string {
  loopsMade++;
  return `${nativeLoop().processId()}-${process.hrtime.bigint().toString(36)}-${loopsMade}`;
}

function checkDepth(): void {
  if (roundsDeep < MOST_ROUNDS_DEEP) return;
  throw stateError('NESTED_TOO_DEEP', `${roundsDeep} rounds, one inside the other, are too many`);
}

function closedError(): Error {
  return stateError('LOOP_CLOSED', 'The loop is closed');
}

function forkedError(): Error {
  return stateError(
    'LOOP_FORKED',
    "The loop is the parent process's; use Loop.current(), or postFork() to take it over",
  );
}
