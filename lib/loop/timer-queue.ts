/**
 * TimerQueue: the deadlines of a loop, kept in exact order. `Loop` has one on the monotonic clock and one on the wall
 * clock; it adds and removes its watchers here, sleeps until `nextDeadline()` and calls what `takeDue()` hands out.
 * It must never read a clock, call a watcher, round a deadline or hand one out early.
 *
 * What is near stands in a heap, in exact order; what is later lies unsorted in buckets of some milliseconds each,
 * which are taken into the heap one after the other when their time comes; and what is later than the last bucket
 * lies in one bucket of its own. So a heap of the next few milliseconds is all that is ever sorted, however many
 * timers there are, and nearly all that are removed were never compared with anything.
 *
 * A removal only strikes a timer off the list of nodes. Its entry stays behind, stale, until it is met on the way, or
 * until there are more stale entries than others. All that is walked through is flat numbers, in order: a million timers
 * as linked objects would cost more in cache misses and garbage collection than all the work of the queue does.
 */

/** What a watcher's class brings along, so that queueing allocates nothing. A node is in one queue at most. */
export interface TimerNode {
  /** Milliseconds on the queue's clock. Any number but NaN; the past and ±Infinity are fine. A change while the node is queued is not seen. */
  readonly deadline: number;
  /** Written by the queue alone: where the node stands in its list, 0 when in none. Declare it as `slot = 0`. */
  slot: number;
}

/** Of a bucket, in milliseconds: the heap of a hundred thousand timers a second still fits into the nearest cache. */
const WIDTH = 16;
/** Sixteen seconds. What is later is looked through once in that time. */
const BUCKETS = 1024;
/** The index of the bucket for all that. */
const FAR = BUCKETS;
/** A bucket of so few is looked through for its first rather than taken apart. */
const FEW = 256;
/** As many nodes as stay in the nearest caches between being taken and being called. */
const AT_ONCE = 128;
/** So many stale entries are not worth a sweep. */
const MOST_STALE = 1024;
/** Entries that the heap has room for at first, and again whenever the queue is empty. */
const CAPACITY = 256;

export class TimerQueue<T extends TimerNode> {
  #size = 0;

  // By slot; slot 0 is nobody's. A removed timer's slot is not given away before its entry is met.
  #nodes: (T | undefined)[] = [undefined];
  #free: number[] = [];
  #stale = 0;

  readonly #heap = new DeadlineHeap();
  /** Room for what was taken from the heap, to be handed out next. */
  readonly #taken = new Int32Array(AT_ONCE);

  /** Where the first bucket begins. */
  #origin: number;
  /** Whatever belongs before this bucket stands in the heap, so that all of the heap comes before all of the buckets. */
  #horizon = 0;
  /** A deadline and a slot, an entry after the other, in the order of adding. No bucket is empty. */
  readonly #buckets: (number[] | undefined)[] = new Array(BUCKETS + 1).fill(undefined);
  // By bucket: whose deadline is the earliest (it may have been removed since), and that deadline.
  readonly #earliest = new Int32Array(BUCKETS + 1);
  readonly #earliestTimes = new Float64Array(BUCKETS + 1);
  /** A bit for every bucket that has entries, but for the far one. */
  readonly #occupied = new Int32Array(BUCKETS >> 5);

  /** `now`: the clock's present reading. A wrong one costs speed, never correctness. */
  constructor(now = 0) {
    this.#origin = now;
  }

  get size(): number {
    return this.#size;
  }

  add(node: T): void {
    const slot = this.#free.pop() ?? this.#nodes.length;
    this.#nodes[slot] = node;
    node.slot = slot;
    this.#size++;
    this.#place(node.deadline, slot);
  }

  /** False, and nothing happens, when the node is not in this queue. */
  remove(node: T): boolean {
    const { slot } = node;
    if (slot === 0 || this.#nodes[slot] !== node) return false;
    node.slot = 0;
    this.#nodes[slot] = undefined;
    this.#size--;
    this.#stale++;
    if (this.#size === 0) this.#clear();
    else if (this.#stale > MOST_STALE && this.#stale > this.#size) this.#sweep();
    return true;
  }

  /** The earliest deadline, to the last digit; Infinity when the queue is empty. */
  nextDeadline(): number {
    for (;;) {
      while (this.#heap.size > 0) {
        if (this.#nodes[this.#heap.slot] !== undefined) return this.#heap.time;
        this.#forget(this.#heap.take());
      }
      const index = this.#firstIndex();
      if (this.#buckets[index] === undefined) return Infinity;
      if (this.#nodes[this.#earliest[index] as number] !== undefined)
        return this.#earliestTimes[index] as number;
      // That one was removed. In a large bucket the next one might be as well, and the one after it.
      if (this.#refresh(index) <= FEW) continue;
      if (index < FAR) this.#ripen(index);
      else this.#spreadFar(this.#earliestTimes[FAR] as number);
    }
  }

  /**
   * Takes everything out whose deadline is not later than `now`, appends it to `into` in the order of deadlines (and of
   * adding, where they are equal) and returns how many there were. `now` may be earlier than at the last call. With a
   * limit it stops when `into` is that long: then there may be more.
   */
  takeDue(now: number, into: T[], limit = Infinity): number {
    const before = this.#size;
    while (into.length < limit) {
      const count = this.#heap.takeDue(now, this.#taken, limit - into.length);
      if (count > 0) this.#handOut(count, into);
      else if (this.#heap.size > 0 || !this.#advance(now)) break;
    }
    if (this.#size === 0) {
      if (before > 0) this.#clear();
      this.#restart(now);
    }
    return before - this.#size;
  }

  /** Apart from the heap's work, so that the processor fetches many of these nodes from memory at the same time. */
  #handOut(count: number, into: T[]): void {
    for (let at = 0; at < count; at++) {
      const slot = this.#taken[at] as number;
      const node = this.#nodes[slot];
      if (node === undefined) {
        this.#forget(slot);
        continue;
      }
      node.slot = 0;
      this.#nodes[slot] = undefined;
      this.#free.push(slot);
      this.#size--;
      into.push(node);
    }
  }

  /** Which bucket a deadline belongs into; -1 for what comes before them all. Never decreases with the deadline. */
  #indexOf(time: number): number {
    const index = (time - this.#origin) / WIDTH;
    if (index < 0) return -1;
    return index < BUCKETS ? index | 0 : FAR;
  }

  #place(time: number, slot: number): void {
    const index = this.#indexOf(time);
    if (index < this.#horizon) {
      this.#heap.add(time, slot);
      return;
    }
    const bucket = this.#buckets[index];
    if (bucket === undefined) {
      this.#buckets[index] = [time, slot];
      if (index < FAR)
        this.#occupied[index >> 5] = (this.#occupied[index >> 5] as number) | (1 << (index & 31));
    } else {
      bucket.push(time, slot);
      if (time >= (this.#earliestTimes[index] as number)) return;
    }
    this.#earliest[index] = slot;
    this.#earliestTimes[index] = time;
  }

  /** The heap is empty: fills it with the next bucket, if that has come by `now`. False when none has. */
  #advance(now: number): boolean {
    const index = this.#firstIndex();
    if (this.#buckets[index] === undefined || index > this.#indexOf(now)) return false;
    if (index < FAR) this.#ripen(index);
    else this.#spreadFar(now);
    return true;
  }

  /** Takes a bucket into the heap. It is the first one, and the heap is empty. */
  #ripen(index: number): void {
    this.#horizon = index + 1;
    this.#placeAgain(index);
  }

  /** The buckets begin anew at `origin`, and what was beyond them goes where it belongs now. All others are empty. */
  #spreadFar(origin: number): void {
    if (Number.isFinite(origin)) this.#restart(origin);
    // Nothing is later than that.
    else this.#horizon = FAR + 1;
    this.#placeAgain(FAR);
  }

  #placeAgain(index: number): void {
    const entries = this.#buckets[index] as number[];
    this.#emptied(index);
    const end = this.#purge(entries);
    for (let at = 0; at < end; at += 2) this.#place(entries[at] as number, entries[at + 1] as number);
  }

  /** Rids a bucket of stale entries and finds its earliest. Returns how many it has left. */
  #refresh(index: number): number {
    const entries = this.#buckets[index] as number[];
    entries.length = this.#purge(entries);
    if (entries.length === 0) {
      this.#emptied(index);
      return 0;
    }
    let earliest = 0;
    for (let at = 2; at < entries.length; at += 2) {
      if ((entries[at] as number) < (entries[earliest] as number)) earliest = at;
    }
    this.#earliestTimes[index] = entries[earliest] as number;
    this.#earliest[index] = entries[earliest + 1] as number;
    return entries.length >> 1;
  }

  /** Moves what is not stale to the front and returns where that ends. */
  #purge(entries: number[]): number {
    let end = 0;
    for (let at = 0; at < entries.length; at += 2) {
      const slot = entries[at + 1] as number;
      if (this.#nodes[slot] === undefined) {
        this.#forget(slot);
        continue;
      }
      entries[end] = entries[at] as number;
      entries[end + 1] = slot;
      end += 2;
    }
    return end;
  }

  #emptied(index: number): void {
    this.#buckets[index] = undefined;
    if (index < FAR)
      this.#occupied[index >> 5] = (this.#occupied[index >> 5] as number) & ~(1 << (index & 31));
  }

  #firstIndex(): number {
    for (let word = this.#horizon >> 5; word < this.#occupied.length; word++) {
      const bits = this.#occupied[word] as number;
      if (bits !== 0) return (word << 5) + lowestBit(bits);
    }
    return FAR;
  }

  /** The entry of a removed timer is gone. */
  #forget(slot: number): void {
    this.#stale--;
    this.#free.push(slot);
  }

  #sweep(): void {
    for (let index = 0; index <= FAR; index++) {
      if (this.#buckets[index] !== undefined) this.#refresh(index);
    }
    this.#heap.sweep((slot) => {
      if (this.#nodes[slot] !== undefined) return true;
      this.#forget(slot);
      return false;
    });
  }

  /** Nobody is left: whatever entries there are, they are stale. The memory of a burst goes too. */
  #clear(): void {
    this.#nodes.length = 1;
    this.#free.length = 0;
    this.#stale = 0;
    this.#heap.clear();
    for (let index = this.#firstIndex(); index < FAR; index = this.#firstIndex()) this.#emptied(index);
    this.#emptied(FAR);
  }

  /** Without entries there is no past: the buckets begin at the present reading, also when the clock was set back. */
  #restart(now: number): void {
    if (!Number.isFinite(now)) return;
    this.#origin = now;
    this.#horizon = 0;
  }
}

/** A heap of deadlines with four children a node; of equal ones the first that was added comes first. */
class DeadlineHeap {
  #size = 0;
  #added = 0;
  // A deadline and the sequence of adding, an entry after the other; and, apart from these, the slots.
  #keys = new Float64Array(2 * CAPACITY);
  #slots = new Int32Array(CAPACITY);

  get size(): number {
    return this.#size;
  }

  /** Of the first entry. There must be one. */
  get time(): number {
    return this.#keys[0] as number;
  }
  get slot(): number {
    return this.#slots[0] as number;
  }

  add(time: number, slot: number): void {
    if (this.#size === this.#slots.length) this.#allocate(2 * this.#size);
    this.#rise(this.#size++, time, this.#added++, slot);
  }

  /** Takes out the first entry and returns its slot. */
  take(): number {
    const slot = this.#slots[0] as number;
    const last = --this.#size;
    if (last === 0) this.#added = 0;
    else
      this.#sink(
        0,
        this.#keys[2 * last] as number,
        this.#keys[2 * last + 1] as number,
        this.#slots[last] as number,
      );
    return slot;
  }

  /** Takes out what is not later than `now`, in order, as long as `into` has room. Returns how many, `limit` at most. */
  takeDue(now: number, into: Int32Array, limit: number): number {
    const most = Math.min(limit, into.length);
    let count = 0;
    while (count < most && this.#size > 0 && (this.#keys[0] as number) <= now) into[count++] = this.take();
    return count;
  }

  /** Leaves only those entries that `keeps` is true of. */
  sweep(keeps: (slot: number) => boolean): void {
    const keys = this.#keys;
    const slots = this.#slots;
    const size = this.#size;
    this.#size = 0;
    // An entry never moves behind the place that it is read from.
    for (let at = 0; at < size; at++) {
      const slot = slots[at] as number;
      if (keeps(slot)) this.#rise(this.#size++, keys[2 * at] as number, keys[2 * at + 1] as number, slot);
    }
  }

  clear(): void {
    this.#size = 0;
    this.#added = 0;
    if (this.#slots.length > CAPACITY) this.#allocate(CAPACITY);
  }

  /** Puts an entry at a free place, or above it, as far as it belongs. */
  #rise(place: number, time: number, added: number, slot: number): void {
    const keys = this.#keys;
    const slots = this.#slots;
    let at = place;
    while (at > 0) {
      const parent = (at - 1) >> 2;
      const parentTime = keys[2 * parent] as number;
      if (parentTime < time || (parentTime === time && (keys[2 * parent + 1] as number) < added)) break;
      put(keys, slots, at, parentTime, keys[2 * parent + 1] as number, slots[parent] as number);
      at = parent;
    }
    put(keys, slots, at, time, added, slot);
  }

  /** Puts an entry at a free place, or below it. */
  #sink(place: number, time: number, added: number, slot: number): void {
    const keys = this.#keys;
    const slots = this.#slots;
    const size = this.#size;
    let at = place;
    for (;;) {
      const first = 4 * at + 1;
      if (first >= size) break;
      let child = first;
      let childTime = keys[2 * first] as number;
      for (let other = first + 1; other < first + 4 && other < size; other++) {
        const otherTime = keys[2 * other] as number;
        if (otherTime > childTime) continue;
        if (otherTime === childTime && (keys[2 * other + 1] as number) > (keys[2 * child + 1] as number))
          continue;
        child = other;
        childTime = otherTime;
      }
      if (childTime > time || (childTime === time && (keys[2 * child + 1] as number) > added)) break;
      put(keys, slots, at, childTime, keys[2 * child + 1] as number, slots[child] as number);
      at = child;
    }
    put(keys, slots, at, time, added, slot);
  }

  #allocate(capacity: number): void {
    const keys = new Float64Array(2 * capacity);
    keys.set(this.#keys.subarray(0, 2 * this.#size));
    this.#keys = keys;
    const slots = new Int32Array(capacity);
    slots.set(this.#slots.subarray(0, this.#size));
    this.#slots = slots;
  }
}

/** Writes an entry of a heap. */
function put(
  keys: Float64Array,
  slots: Int32Array,
  at: number,
  time: number,
  added: number,
  slot: number,
): void {
  keys[2 * at] = time;
  keys[2 * at + 1] = added;
  slots[at] = slot;
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
