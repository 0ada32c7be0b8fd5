/**
 * The timers of a loop: the watchers, and the two queues that they stand in. `after` counts on the monotonic clock;
 * `at` stands on the wall clock, which may be set, so its distance is worked out anew whenever somebody asks.
 */
import type { TimeWatcher } from './contract.ts';
import { type TimerNode, TimerQueue } from './timer-queue.ts';
import { type Host, type Keeper, WatcherBase } from './watcher.ts';

// Taken once: whoever fakes the global clocks later does not mean the loop's.
const { performance, Date: WallClock } = globalThis;

/** Milliseconds on the monotonic clock, with digits. */
export const now: () => number = performance.now.bind(performance);
/** Whole milliseconds since 1970: never ahead of the true time. */
export const wallNow: () => number = WallClock.now;

/** As many timers as stay in the processor's caches between being taken out of the queue and being called. */
const SOME = 128;

abstract class QueuedWatch extends WatcherBase<Timers> implements TimeWatcher {
  readonly callback: () => void;
  abstract readonly deadline: number;

  constructor(timers: Timers, callback: () => void) {
    super('FORKBEARD_TIMER', timers);
    this.callback = callback;
    this.enlist();
  }
}

/** A timer on the monotonic clock; stands in its queue itself. */
class MonotonicWatch extends QueuedWatch implements TimerNode {
  slot = 0;
  // The deadline in two small integers: a number with digits would be an object of its own to the garbage collector.
  readonly #millis: number;
  readonly #nanos: number;

  constructor(timers: Timers, deadline: number, callback: () => void) {
    super(timers, callback);
    const isSmall = deadline < 2 ** 31;
    this.#millis = isSmall ? deadline | 0 : deadline;
    // Rounded up: never early.
    this.#nanos = isSmall ? Math.ceil((deadline - this.#millis) * 1e6) : 0;
    timers.monotonic.add(this);
  }

  get deadline(): number {
    return this.#millis + this.#nanos / 1e6;
  }

  protected override onStop(): void {
    this.keeper.monotonic.remove(this);
  }
}

interface WallNode extends TimerNode {
  readonly watcher: WallWatch;
}

/** A timer on the wall clock. */
class WallWatch extends QueuedWatch {
  readonly #node: WallNode;

  constructor(timers: Timers, at: number, callback: () => void) {
    super(timers, callback);
    this.#node = { deadline: at, slot: 0, watcher: this };
    timers.wall.add(this.#node);
  }

  get deadline(): number {
    return now() + (this.#node.deadline - wallNow());
  }

  protected override onStop(): void {
    this.keeper.wall.remove(this.#node);
  }
}

export type TimeWatch = MonotonicWatch | WallWatch;

let _ids = 0;

/**
 * Looks at the async id of each, which Node does when it calls them. The ids lie somewhere in memory, and here the
 * processor fetches many at the same time: of a burst, one after the other they cost more than all else at a call.
 */
function fetch(watchers: readonly TimeWatch[]): void {
  for (const watcher of watchers) _ids ^= watcher.asyncId();
}

/** Also the book that its watchers are in, and so what they have to remember only once. */
export class Timers implements Keeper {
  readonly monotonic = new TimerQueue<MonotonicWatch>(now());
  readonly #host: Host;
  #wall: TimerQueue<WallNode> | undefined;
  // Those that are being called. A round inside one of them goes on with the rest.
  readonly #due: TimeWatch[] = [];
  #cursor = 0;

  constructor(host: Host) {
    this.#host = host;
  }

  get wall(): TimerQueue<WallNode> {
    this.#wall ??= new TimerQueue(wallNow());
    return this.#wall;
  }

  count(actives: number, refs: number): void {
    this.#host.count(actives, refs);
  }

  /** `delay` in milliseconds from now; nothing or less means the next round. */
  after(delay: number, callback: () => void): TimeWatch {
    return new MonotonicWatch(this, now() + Math.max(0, delay), callback);
  }

  at(time: number, callback: () => void): TimeWatch {
    return new WallWatch(this, time, callback);
  }

  /** Both in ms on their own clock, Infinity when there is none. */
  nextDeadline(): number {
    return this.monotonic.nextDeadline();
  }
  nextWallDeadline(): number {
    return this.#wall === undefined ? Infinity : this.#wall.nextDeadline();
  }

  /** True when some were taken for a round that is not through with them. */
  get pending(): boolean {
    return this.#cursor < this.#due.length;
  }

  /** Calls what is due. What is set from now on is the next round's, however little it waits. */
  run(): void {
    const moment = this.monotonic.size > 0 ? now() : -Infinity;
    // A round further out that was calling when this one began goes first, and finds what else it had to call itself.
    let more = !this.pending && this.#takeDue(moment);
    for (;;) {
      while (this.#cursor < this.#due.length) {
        const watcher = this.#due[this.#cursor++] as TimeWatch;
        if (!watcher.active) continue;
        watcher.retire();
        this.#host.invoke(watcher, watcher.callback, undefined);
        watcher.emitDestroy();
      }
      this.#due.length = 0;
      this.#cursor = 0;
      if (!more) return;
      more = this.#takeDue(moment);
    }
  }

  /** Takes some of what was due at that moment, in order. True when there may be more. */
  #takeDue(moment: number): boolean {
    const taken = this.monotonic.takeDue(moment, this.#due as MonotonicWatch[], SOME);
    fetch(this.#due);
    if (taken >= SOME) return true;
    if (this.#wall === undefined || this.#wall.size === 0) return false;
    const nodes: WallNode[] = [];
    this.#wall.takeDue(wallNow(), nodes);
    for (const { watcher } of nodes) this.#due.push(watcher);
    return false;
  }

  stopAll(): void {
    const all: TimeWatch[] = [...this.#due];
    this.monotonic.takeDue(Infinity, all as MonotonicWatch[]);
    const nodes: WallNode[] = [];
    this.#wall?.takeDue(Infinity, nodes);
    for (const { watcher } of nodes) all.push(watcher);
    for (const watcher of all) watcher.stop();
  }
}
