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
import { isMainThread } from 'node:worker_threads';
import {
  checkBoolean,
  checkFd,
  checkFunction,
  checkKeys,
  checkObject,
  invalidType,
  invalidValue,
  outOfRange,
  stateError,
  systemError,
} from '../sys/errors.ts';
import type {
  BackendName,
  IoHandlers,
  IoOptions,
  IoWatcher,
  LoopOptions,
  TimeWatcher,
  Watcher,
} from './contract.ts';
import { checkHandlers, type IoHost, IoTable } from './io.ts';
import { forkGeneration, HANGUP, type Handle, nativeLoop, READ, WRITE } from './native-loop.ts';
import { now, Timers, type TimeWatch, wallNow } from './time.ts';
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

interface Run {
  /** A blocking run looks at this after each round; the promise of an integrated one is settled by these. */
  ended: boolean;
  result: unknown;
  resolve?: (result: unknown) => void;
  reject?: (error: Error) => void;
}

class IdleWatch extends WatcherBase {
  readonly callback: () => void;
  constructor(loop: IoHost, callback: () => void) {
    super('FORKBEARD_IDLE', loop);
    this.callback = callback;
    this.enlist();
  }
  protected override onStop(): void {
    // The queue skips what is not active.
  }
}

const FIRST_BATCH = 256;
const LARGEST_BATCH = 1 << 16;
/** How often a wall-clock deadline is looked at where the kernel does not say that the clock was set, ms. */
const WALL_RECHECK = 1000;
/** A Worker that is terminated is not told by the kernel: it must come back to JavaScript to notice, ms. */
const LONGEST_SLEEP = isMainThread ? Infinity : 100;
/**
 * Where the stack ends in the middle of an async context, Node ends the process. A handler that starts a round which calls
 * it again gets there after 700 rounds, with the stack that V8 has by default.
 */
const MOST_ROUNDS_DEEP = 250;
const ESTALE = -constants.errno.ESTALE;

/**
 * Runs what `process.nextTick` and promises have queued, as Node does between two of its own callbacks. It has been on
 * `process` since before there were promises, and Node's timers use the same function between one another.
 */
const drainTicks = (process as unknown as { _tickCallback?: () => void })._tickCallback;

let loopsMade = 0;
/** Rounds in progress in this thread, of whichever loop, one inside the other. */
let roundsDeep = 0;
/** `runSync` calls that this thread is inside of. */
let blockingRuns = 0;
let available: readonly BackendName[] | undefined;

export class EventLoop implements Disposable {
  /** Backends that are compiled in and usable on this machine, best first. */
  static get backends(): readonly BackendName[] {
    available ??= Object.freeze(nativeLoop().backends());
    return available;
  }

  readonly backend: BackendName;
  readonly #handle: Handle;
  readonly #drainEach: boolean;
  readonly #io: IoTable;
  readonly #timers: Timers;
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
  #due: TimeWatch[] = [];
  #dueCursor = 0;
  #idle: IdleWatch[] = [];
  #idleNow: IdleWatch[] = [];
  #idleCursor = 0;

  /** Rounds in progress, one inside the other. */
  #depth = 0;
  /** Callbacks run so far. */
  #calls = 0;
  #errors: unknown[] = [];

  readonly #runs: Run[] = [];
  /** Ended integrated runs whose promises are settled when the round is over. */
  #ended: Run[] = [];
  /** Rejects the promises of `later` and `delay` that are still open. */
  readonly #waiting = new Set<(error: Error) => void>();

  // What Node's loop was told last.
  #driven = false;
  #actives = 0;
  #refs = 0;
  #isHeld = false;
  #isRef = false;
  #isPending = false;
  #alarm = Infinity;
  #wallAlarm = Infinity;
  #kernelTellsWall = true;

  constructor(options: LoopOptions = {}) {
    checkObject(options, 'options');
    checkKeys(options, ['backend', 'drain'], 'loop option');
    const { drain = 'handler' } = options;
    if (drain !== 'handler' && drain !== 'batch')
      throw invalidValue('options.drain', "'handler' or 'batch'", drain);
    this.#drainEach = drain === 'handler' && drainTicks !== undefined;
    this.backend = chooseBackend(options.backend);
    const handle = nativeLoop().open(this.backend);
    if (typeof handle === 'number') throw systemError(handle, CREATE_CALLS[this.backend]);
    this.#handle = handle;
    this.#generation = forkGeneration();
    nativeLoop().setBatch(handle, this.#batch);
    this.#id = makeId();
    this.#turn = (count) => {
      if (count < 0) throw systemError(count, WAIT_CALLS[this.backend]);
      this.#cursor = 0;
      this.#count = count;
      this.#round();
    };
    this.#host = {
      backend: this.backend,
      usable: () => this.usable(),
      invoke: this.invoke.bind(this),
      invoke2: (watcher, callback, a, b) => this.#invoke2(watcher, callback, a, b),
      count: (actives, refs) => this.#countWatchers(actives, refs),
      hurry: () => this.hurry(),
    };
    this.#io = new IoTable(this.#host, handle);
    this.#timers = new Timers(this.#host);
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
    return this.#runs.length > 0;
  }

  /** Monotonic clock, ms with sub-millisecond digits. */
  now(): number {
    return now();
  }

  // ------------------------------------------------------------------------------------- watchers

  /** Any number of watchers may share a descriptor. Regular files are always ready, on every backend. */
  watchIo(fd: number, handlers: IoHandlers, options: IoOptions = {}): IoWatcher {
    checkFd(fd);
    checkObject(handlers, 'handlers');
    checkKeys(handlers, IO_HANDLERS, 'handler');
    // Read once: what was checked is what is used.
    const taken: IoHandlers = {};
    for (const name of IO_HANDLERS) {
      const handler = handlers[name];
      if (handler === undefined) continue;
      checkFunction(handler, `handlers.${name}`);
      taken[name] = handler as never;
    }
    checkHandlers(taken);
    checkObject(options, 'options');
    checkKeys(options, IO_OPTIONS, 'option');
    const chosen: IoOptions = {};
    for (const name of IO_OPTIONS) {
      const value = options[name];
      if (value === undefined) continue;
      checkBoolean(value, `options.${name}`);
      chosen[name] = value;
    }
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
    if (this.#depth === 0) this.#settleAlarms();
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
    const watcher = new IdleWatch(this.#host, callback as () => void);
    this.#idle.push(watcher);
    this.hurry();
    return watcher;
  }

  /** The same as `watchIdle`; without a callback a promise that is fulfilled then. */
  later(): Promise<void>;
  later(callback: () => void): Watcher;
  later(callback?: () => void): Promise<void> | Watcher {
    if (callback !== undefined) return this.watchIdle(callback);
    return this.#promise((done) => this.watchIdle(done));
  }

  /** Fulfilled after `ms` milliseconds, never early; rejected with an AbortError when `signal` says so. */
  async delay(ms: number, options: { signal?: AbortSignal } = {}): Promise<void> {
    checkMillis(ms, 'ms');
    checkObject(options, 'options');
    checkKeys(options, ['signal'], 'option');
    return this.#promise((done) => this.watchTime({ after: ms }, done), checkSignal(options.signal));
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
    return new Promise<unknown>((resolve, reject) => {
      this.#runs.push({ ended: false, result: undefined, resolve, reject });
    }) as Promise<T>;
  }

  /**
   * The same, blocking this thread in the backend; Node's own handles rest meanwhile. Nests, some hundred times
   * (ERR_FORKBEARD_NESTED_TOO_DEEP).
   */
  runSync<T = void>(): T {
    this.ready();
    checkDepth();
    const run: Run = { ended: false, result: undefined };
    this.#runs.push(run);
    blockingRuns++;
    try {
      while (!run.ended) {
        this.#fetch(Infinity);
        this.#round();
        if (this.#closed && !run.ended) throw closedError();
      }
    } finally {
      blockingRuns--;
      const index = this.#runs.indexOf(run);
      if (index >= 0) this.#runs.splice(index, 1);
    }
    return run.result as T;
  }

  /** One blocking pass: waits `timeout` ms at most (default: for ever), returns the number of callbacks run. */
  runOnce(timeout = Infinity): number {
    checkMillis(timeout, 'timeout');
    if (timeout < 0) throw outOfRange('timeout', '>= 0', timeout);
    this.ready();
    checkDepth();
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
    const run = this.#runs.pop();
    if (run === undefined) return;
    run.ended = true;
    run.result = result;
    if (run.resolve === undefined) return;
    this.#ended.push(run);
    if (this.#depth === 0) this.#settleRuns();
  }

  /** Re-creates the kernel objects and keeps the watchers: for code that forked by other means. */
  postFork(): void {
    if (this.#closed) throw closedError();
    const errno = nativeLoop().recreate(this.#handle);
    if (errno < 0) throw systemError(errno, CREATE_CALLS[this.backend]);
    this.#id = makeId();
    // Events that the parent fetched are the parent's; what is still so, the new kernel objects will say.
    if (forkGeneration() !== this.#generation) this.#cursor = this.#count;
    this.#generation = forkGeneration();
    this.#isHeld = false;
    this.#isRef = false;
    this.#isPending = false;
    this.#alarm = Infinity;
    this.#wallAlarm = Infinity;
    for (const phase of this.#phases) phase.recreated();
    if (this.#depth === 0) this.#settleDrive();
  }

  /** Stops every watcher and closes the kernel objects. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#io.stopAll();
    this.#timers.stopAll();
    for (const watcher of this.#due) watcher.stop();
    for (const watcher of [...this.#idle, ...this.#idleNow]) watcher.stop();
    for (const phase of this.#phases) phase.close();
    this.#closed = true;
    this.#cursor = this.#count;
    nativeLoop().close(this.#handle);
    const runs = this.#runs.filter((run) => run.reject !== undefined);
    this.#runs.length = 0;
    for (const run of runs.reverse()) run.reject?.(closedError());
    for (const reject of [...this.#waiting]) reject(closedError());
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [inspect.custom](): string {
    const state = this.#closed ? 'closed' : this.running ? 'running' : 'open';
    return `Loop { backend: '${this.backend}', id: '${this.#id}', ${state}, watchers: ${this.#actives} }`;
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
    if (this.#driven) return;
    const errno = nativeLoop().startDrive(this.#handle, this.#turn);
    if (errno < 0) throw systemError(errno, 'uv_poll_init');
    this.#driven = true;
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
    const count = nativeLoop().wait(this.#handle, this.#hasWork() ? 0 : this.#patience(limit));
    if (count < 0) {
      if (count === ESTALE) throw forkedError();
      throw systemError(count, WAIT_CALLS[this.backend]);
    }
    this.#cursor = 0;
    this.#count = count;
  }

  #hasWork(): boolean {
    if (this.#idle.length > 0 || this.#idleCursor < this.#idleNow.length) return true;
    if (this.#dueCursor < this.#due.length || this.#io.pending) return true;
    for (const phase of this.#phases) if (phase.pending) return true;
    return false;
  }

  /** `limit`, or less if a timer is due before. */
  #patience(limit: number): number {
    let wait = Math.min(limit, LONGEST_SLEEP);
    const next = this.#timers.nextDeadline();
    if (next !== Infinity) wait = Math.min(wait, Math.max(0, next - now()));
    const wall = this.#timers.nextWallDeadline();
    if (wall !== Infinity) {
      this.#settleWallAlarm();
      wait = Math.min(wait, Math.max(0, wall - wallNow()));
      if (!this.#kernelTellsWall) wait = Math.min(wait, WALL_RECHECK);
    }
    return wait;
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
      this.#fireTimers();
      this.#runIdle();
      if (!this.#drainEach && this.#calls !== before) this.#drain();
    } finally {
      roundsDeep--;
      this.#depth--;
      this.#errors = outerErrors;
    }
    if (this.#depth === 0) {
      if (this.#ended.length > 0) this.#settleRuns();
      // The alarm that rang brought this round about, or was swallowed by its wait. So may have been the one on the wall
      // clock, for a time that has not come yet: the clock was set back before we looked.
      if (this.#alarm <= now()) this.#alarm = Infinity;
      this.#wallAlarm = Infinity;
      if (!this.#closed) this.#settleDrive();
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} callbacks of a loop failed`);
    return this.#calls - before;
  }

  #dispatchBatch(): void {
    const batch = this.#batch;
    const full = this.#count * 3 === batch.length;
    while (this.#cursor < this.#count) {
      const at = 3 * this.#cursor++;
      this.#io.dispatch(batch[at] as number, batch[at + 1] as number, batch[at + 2] as number);
    }
    // A small batch would let the kernel's first ones starve the rest. Not while a nested round has replaced it.
    if (full && batch === this.#batch && batch.length < 3 * LARGEST_BATCH && !this.#closed) {
      this.#batch = new Uint32Array(batch.length * 2);
      nativeLoop().setBatch(this.#handle, this.#batch);
    }
  }

  #fireTimers(): void {
    const moment = this.#timers.moment();
    // A round further out that was firing when this one began goes first, and finds what else it had to fire itself.
    let more = this.#dueCursor >= this.#due.length && this.#timers.takeDue(moment, this.#due);
    for (;;) {
      while (this.#dueCursor < this.#due.length) {
        const watcher = this.#due[this.#dueCursor++] as TimeWatch;
        if (!watcher.active) continue;
        watcher.retire();
        this.invoke(watcher, watcher.callback, undefined);
        watcher.emitDestroy();
      }
      this.#due.length = 0;
      this.#dueCursor = 0;
      if (!more) return;
      more = this.#timers.takeDue(moment, this.#due);
    }
  }

  #runIdle(): void {
    if (this.#idleNow.length === 0) {
      if (this.#idle.length === 0) return;
      this.#idleNow = this.#idle;
      this.#idle = [];
    }
    while (this.#idleCursor < this.#idleNow.length) {
      const watcher = this.#idleNow[this.#idleCursor++] as IdleWatch;
      if (!watcher.active) continue;
      watcher.retire();
      this.invoke(watcher, watcher.callback, undefined);
      watcher.emitDestroy();
    }
    this.#idleNow = [];
    this.#idleCursor = 0;
  }

  #drain(): void {
    for (;;) {
      try {
        drainTicks?.call(process);
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
    const ended = this.#ended;
    this.#ended = [];
    for (const run of ended) {
      this.#countWatchers(-1, -1);
      run.resolve?.(run.result);
    }
  }

  // ------------------------------------------------------------------------------ integrated mode

  #countWatchers(actives: number, refs: number): void {
    this.#actives += actives;
    this.#refs += refs;
    if (this.#depth === 0) this.#settleKeeping();
  }

  /** Tells Node's loop whether to live for us, and the garbage collector whether we are needed. */
  #settleKeeping(): void {
    if (!this.#driven || this.#closed) return;
    const held = this.#actives > 0;
    if (held !== this.#isHeld) {
      this.#isHeld = held;
      nativeLoop().setHold(this.#handle, held);
    }
    const ref = this.#refs > 0;
    if (ref !== this.#isRef) {
      this.#isRef = ref;
      nativeLoop().setRef(this.#handle, ref);
    }
  }

  #settleDrive(): void {
    this.#settleKeeping();
    const pending = this.#hasWork();
    if (pending !== this.#isPending) {
      this.#isPending = pending;
      nativeLoop().setPending(this.#handle, pending);
    }
    this.#settleAlarms();
  }

  /** The alarm that wakes Node's loop may ring too early, which costs a turn, but never too late. */
  #settleAlarms(): void {
    let wanted = this.#timers.nextDeadline();
    const wall = this.#timers.nextWallDeadline();
    if (wall === Infinity && wanted >= this.#alarm) return;
    const time = now();
    if (wall !== Infinity) {
      this.#settleWallAlarm();
      if (!this.#kernelTellsWall)
        wanted = Math.min(wanted, time + Math.min(WALL_RECHECK, Math.max(0, wall - wallNow())));
    }
    if (wanted >= this.#alarm) return;
    const errno = nativeLoop().setAlarm(this.#handle, Math.max(0, wanted - time));
    if (errno >= 0) this.#alarm = wanted;
  }

  #settleWallAlarm(): void {
    const wall = this.#timers.nextWallDeadline();
    if (wall === this.#wallAlarm || !this.#kernelTellsWall) return;
    this.#wallAlarm = wall;
    // Not within the millisecond before: our own reading of that clock has whole ones, and the alarm rings only once.
    const at = Math.ceil(Math.max(0, wall));
    this.#kernelTellsWall = nativeLoop().setWallAlarm(this.#handle, at) >= 0;
  }

  /** A promise for what `start` calls; rejected when the loop is closed before, or when `signal` aborts. */
  #promise(start: (done: () => void) => Watcher, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(abortError(signal));
        return;
      }
      const settle = (action: () => void) => {
        this.#waiting.delete(fail);
        signal?.removeEventListener('abort', abort);
        action();
      };
      const watcher = start(() => settle(resolve));
      const fail = (error: Error) => settle(() => reject(error));
      const abort = () => {
        watcher.stop();
        fail(abortError(signal as AbortSignal));
      };
      this.#waiting.add(fail);
      signal?.addEventListener('abort', abort);
    });
  }
}

// ------------------------------------------------------------------------------------- constants and checks

const TIMES = ['after', 'at'] as const;
const IO_HANDLERS = ['onReadReady', 'onWriteReady', 'onHangup', 'onError'] as const;
const IO_OPTIONS = ['edge', 'oneshot', 'exclusive'] as const;
const BACKENDS: readonly string[] = ['epoll', 'kqueue', 'poll'];
const CREATE_CALLS = { epoll: 'epoll_create1', kqueue: 'kqueue', poll: 'eventfd' } as const;
const WAIT_CALLS = { epoll: 'epoll_wait', kqueue: 'kevent', poll: 'poll' } as const;

function chooseBackend(asked: BackendName | undefined): BackendName {
  const usable = EventLoop.backends;
  if (asked !== undefined) {
    if (!BACKENDS.includes(asked))
      throw invalidValue('options.backend', `one of ${BACKENDS.join(', ')}`, asked);
    if (!usable.includes(asked)) {
      throw stateError(
        'BACKEND_UNAVAILABLE',
        `The backend '${asked}' is not available here; ${usable.join(', ')} are`,
      );
    }
    return asked;
  }
  const names = (process.env['FORKBEARD_LOOP'] ?? '').split(',').map((name) => name.trim());
  const found = names.find((name) => usable.includes(name as BackendName));
  for (const name of names) {
    if (name === found) break;
    // One list may serve several platforms: what only another one has is passed over in silence.
    if (name === '' || (found !== undefined && BACKENDS.includes(name))) continue;
    process.emitWarning(`FORKBEARD_LOOP names '${name}', which is not available here`, {
      code: 'FORKBEARD_BACKEND_UNAVAILABLE',
    });
  }
  return (found ?? usable[0]) as BackendName;
}

function makeId(): string {
  loopsMade++;
  return `${nativeLoop().processId()}-${process.hrtime.bigint().toString(36)}-${loopsMade}`;
}

/** Any number of milliseconds but NaN; Infinity is never. */
function checkMillis(value: unknown, name: string): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'a number', value);
  if (Number.isNaN(value)) throw outOfRange(name, 'a number of milliseconds', value);
}

function checkSignal(signal: AbortSignal | undefined): AbortSignal | undefined {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw invalidType('options.signal', 'an AbortSignal', signal);
  return signal;
}

function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ABORT_ERR' });
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
