/**
 * The timers of a loop: the watchers, and the two queues that they stand in. `after` counts on the monotonic clock;
 * `at` stands on the wall clock, which may be set, so its distance is worked out anew whenever somebody asks.
 */
import type { TimeWatcher } from './contract.ts';
import { type TimerNode, TimerQueue } from './timer-queue.ts';
import { type Keeper, WatcherBase } from './watcher.ts';

// Taken once: whoever fakes the global clocks later does not mean the loop's.
const { performance, Date: WallClock } = globalThis;

/** Milliseconds on the monotonic clock, with digits. */
export const now: () => number = performance.now.bind(performance);
/** Whole milliseconds since 1970: never ahead of the true time. */
export const wallNow: () => number = WallClock.now;

/** As many timers as stay in the processor's caches between being taken out of the queue and being called. */
const SOME = 128;

abstract class QueuedWatch extends WatcherBase implements TimeWatcher {
  readonly callback: () => void;
  abstract readonly deadline: number;

  constructor(keeper: Keeper, callback: () => void) {
    super('FORKBEARD_TIMER', keeper);
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
  readonly #queue: TimerQueue<MonotonicWatch>;

  constructor(queue: TimerQueue<MonotonicWatch>, keeper: Keeper, deadline: number, callback: () => void) {
    super(keeper, callback);
    const isSmall = deadline < 2 ** 31;
    this.#millis = isSmall ? deadline | 0 : deadline;
    // Rounded up: never early.
    this.#nanos = isSmall ? Math.ceil((deadline - this.#millis) * 1e6) : 0;
    this.#queue = queue;
    queue.add(this);
  }

  get deadline(): number {
    return this.#millis + this.#nanos / 1e6;
  }

  protected override onStop(): void {
    this.#queue.remove(this);
  }
}

interface WallNode extends TimerNode {
  readonly watcher: WallWatch;
}

/** A timer on the wall clock. */
class WallWatch extends QueuedWatch {
  readonly #node: WallNode;
  readonly #queue: TimerQueue<WallNode>;

  constructor(queue: TimerQueue<WallNode>, keeper: Keeper, at: number, callback: () => void) {
    super(keeper, callback);
    this.#node = { deadline: at, slot: 0, watcher: this };
    this.#queue = queue;
    queue.add(this.#node);
  }

  get deadline(): number {
    return now() + (this.#node.deadline - wallNow());
  }

  protected override onStop(): void {
    this.#queue.remove(this.#node);
  }
}

export type TimeWatch = MonotonicWatch | WallWatch;

export class Timers {
  readonly #keeper: Keeper;
  readonly #monotonic = new TimerQueue<MonotonicWatch>(now());
  #wall: TimerQueue<WallNode> | undefined;

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
  }

  /** `delay` in milliseconds from now; nothing or less means the next round. */
  after(delay: number, callback: () => void): TimeWatch {
    return new MonotonicWatch(this.#monotonic, this.#keeper, now() + Math.max(0, delay), callback);
  }

  at(time: number, callback: () => void): TimeWatch {
    this.#wall ??= new TimerQueue(wallNow());
    return new WallWatch(this.#wall, this.#keeper, time, callback);
  }

  /** Both in ms on their own clock, Infinity when there is none. */
  nextDeadline(): number {
    return this.#monotonic.nextDeadline();
  }
  nextWallDeadline(): number {
    return this.#wall === undefined ? Infinity : this.#wall.nextDeadline();
  }

  /** What a round measures its timers by: those set from now on are the next one's, however little they wait. */
  moment(): number {
    return this.#monotonic.size > 0 ? now() : -Infinity;
  }

  /** Appends some of what was due at that moment to `due`, in order. True when there may be more. */
  takeDue(moment: number, due: TimeWatch[]): boolean {
    if (this.#monotonic.takeDue(moment, due as MonotonicWatch[], SOME) >= SOME) return true;
    if (this.#wall === undefined || this.#wall.size === 0) return false;
    const nodes: WallNode[] = [];
    this.#wall.takeDue(wallNow(), nodes);
    for (const { watcher } of nodes) due.push(watcher);
    return false;
  }

  stopAll(): void {
    const all: TimeWatch[] = [];
    this.#monotonic.takeDue(Infinity, all as MonotonicWatch[]);
    const nodes: WallNode[] = [];
    this.#wall?.takeDue(Infinity, nodes);
    for (const { watcher } of nodes) all.push(watcher);
    for (const watcher of all) watcher.stop();
  }
}
