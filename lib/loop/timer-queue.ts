/**
 * TimerQueue: the deadlines of a loop, kept in exact order. `Loop` has one on the monotonic clock and one on the wall
 * clock; it adds and removes its watchers here, sleeps until `nextDeadline()` and calls what `takeDue()` hands out.
 * It must never read a clock, call a watcher, round a deadline or hand one out early.
 *
 * It is a hierarchical timing wheel (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987) whose buckets
 * are pairing heaps that compare nothing until they are asked for their first (Fredman et al., "The pairing heap",
 * 1986): adding and removing cost the same however many timers wait, and the order among neighbours is still exact.
 * Time is cut into ticks; a timer whose tick first differs from the present one in its n-th digit (base 1024) stands
 * on level n, in the bucket of that digit, and comes down when that bucket's time has come.
 *
 * Everything but the timer itself lives in one buffer, a record a slot: a million timers as linked objects would cost
 * more in garbage collection and write barriers than all the work of the queue does, and with an array for each field
 * it would be cache misses, since timers come due in another order than they were added in.
 */

/** What a watcher's class brings along, so that queueing allocates nothing. A node is in one queue at most. */
export interface TimerNode {
  /** Milliseconds on the queue's clock. Any number but NaN; the past and ±Infinity are fine. A change while the node is queued is not seen. */
  readonly deadline: number;
  /** Written by the queue alone: where the node stands in it, 0 when in none. Declare it as `slot = 0`. */
  slot: number;
}

/** Fine enough that the bucket which fires next seldom holds more than a few dozen timers, even out of a million. */
const TICKS_PER_MS = 64;
const DIGIT_BITS = 10;
const BASE = 1 << DIGIT_BITS;
const LEVELS = 3;
/** Ticks that the wheel can tell apart, more than four hours: what is later waits in one bucket of its own. */
const RANGE = 1 << (DIGIT_BITS * LEVELS);

// Slots. 0 is nobody, so that it can end lists; then each bucket has one, so that the first of a list always has
// something to hang from; then the timers.
const WHEEL = 1;
const DUE = WHEEL + BASE * LEVELS;
const FAR = DUE + 1;
const TIMERS = FAR + 1;
/** In slots, at first and again whenever the queue is empty. */
const CAPACITY = 4096;

// A record is 32 bytes: the deadline, and the sequence of adding; then the links of a tree as the pairing heap has them:
// the first child, the next sibling (or the next free slot), and who points here, an elder sibling or the parent.
const TIMES = 4;
const SEQUENCE = 1;
const LINKS = 8;
const CHILD = 4;
const NEXT = 5;
const PREVIOUS = 6;

/** Up to here sorting by insertion is the faster one. */
const FEW = 32;

export class TimerQueue<T extends TimerNode> {
  #size = 0;
  #sequence = 0;
  /** The clock's reading at tick 0. */
  #origin: number;
  /** The tick up to which the wheel has turned. Whatever is not later than it stands in the due bucket. */
  #tick = 0;

  #nodes: (T | undefined)[] = new Array(TIMERS).fill(undefined);
  // Two views of the same records.
  #times = new Float64Array(CAPACITY * TIMES);
  #links = new Int32Array(this.#times.buffer);
  #free = 0;
  /** Room for sorting a bucket. */
  #sorted = new Int32Array(FEW);

  /** A bit for every bucket of the wheel that is not empty, and a word a level that says which words are not 0. */
  readonly #occupied = new Int32Array((BASE * LEVELS) >> 5);
  readonly #summary = new Int32Array(LEVELS);

  /** `now`: the clock's present reading. A wrong one costs speed, never correctness. */
  constructor(now = 0) {
    this.#origin = now;
  }

  get size(): number {
    return this.#size;
  }

  add(node: T): void {
    let slot = this.#free;
    if (slot !== 0) {
      this.#free = this.#links[slot * LINKS + NEXT] as number;
      this.#nodes[slot] = node;
    } else {
      slot = this.#nodes.length;
      if (slot * TIMES === this.#times.length) this.#allocate(2 * slot);
      this.#nodes.push(node);
    }
    node.slot = slot;
    this.#times[slot * TIMES] = node.deadline;
    this.#times[slot * TIMES + SEQUENCE] = this.#sequence++;
    this.#size++;
    this.#place(slot);
  }

  /** False, and nothing happens, when the node is not in this queue. */
  remove(node: T): boolean {
    const { slot } = node;
    if (slot < TIMERS || this.#nodes[slot] !== node) return false;
    this.#unlink(slot);
    this.#release(slot);
    return true;
  }

  /** The earliest deadline, to the last digit; Infinity when the queue is empty. */
  nextDeadline(): number {
    const bucket = this.#firstBucket();
    return bucket === 0 ? Infinity : (this.#times[this.#firstOf(bucket) * TIMES] as number);
  }

  /**
   * Takes everything out whose deadline is not later than `now`, appends it to `into` in the order of deadlines (and of
   * adding, where they are equal) and returns how many there were. `now` may be earlier than at the last call. With a
   * limit it stops soon after `into` is that long: then there may be more.
   */
  takeDue(now: number, into: T[], limit = Infinity): number {
    const before = this.#size;
    const ticks = (now - this.#origin) * TICKS_PER_MS;
    this.#takeFrom(DUE, now, into, limit);
    if (ticks >= this.#tick + 1) this.#turn(ticks, now, into, limit);
    if (this.#size === 0) this.#restart(now);
    return before - this.#size;
  }

  #place(slot: number): void {
    const ticks = ((this.#times[slot * TIMES] as number) - this.#origin) * TICKS_PER_MS;
    // The unrounded number is compared first: `| 0` wraps beyond 2^31.
    let bucket = DUE;
    if (ticks >= RANGE) bucket = FAR;
    else if (ticks >= this.#tick + 1) {
      const tick = ticks | 0;
      const difference = tick ^ this.#tick;
      let index: number;
      if (difference < BASE) index = tick & (BASE - 1);
      else if (difference < BASE * BASE) index = BASE | ((tick >> DIGIT_BITS) & (BASE - 1));
      else index = (2 * BASE) | (tick >> (2 * DIGIT_BITS));
      bucket = WHEEL + index;
      if (this.#links[bucket * LINKS + CHILD] === 0) {
        const word = index >> 5;
        this.#occupied[word] = (this.#occupied[word] as number) | (1 << (index & 31));
        const level = index >> DIGIT_BITS;
        this.#summary[level] = (this.#summary[level] as number) | (1 << (word & 31));
      }
    }
    const second = this.#links[bucket * LINKS + CHILD] as number;
    this.#links[slot * LINKS + CHILD] = 0;
    this.#links[slot * LINKS + NEXT] = second;
    this.#links[slot * LINKS + PREVIOUS] = bucket;
    this.#links[second * LINKS + PREVIOUS] = slot;
    this.#links[bucket * LINKS + CHILD] = slot;
  }

  /** Moves the present tick on to that of `now`: hands out what lies before it and makes due what lies at it. */
  #turn(ticks: number, now: number, into: T[], limit: number): void {
    const target = ticks < RANGE ? ticks | 0 : RANGE - 1;
    for (;;) {
      if (into.length >= limit) return;
      const bucket = this.#firstOnWheel();
      if (bucket === 0) break;
      const index = bucket - WHEEL;
      const level = index >> DIGIT_BITS;
      const shift = level * DIGIT_BITS;
      // The bucket's first tick: the higher digits of the present one, its own digit, and zeroes.
      const above = shift + DIGIT_BITS;
      const start = ((this.#tick >> above) << above) | ((index & (BASE - 1)) << shift);
      if (start > target) break;
      this.#tick = start;
      if (level === 0 && start < target) {
        this.#takeAll(bucket, into);
      } else {
        this.#spread(bucket);
        this.#takeFrom(DUE, now, into, limit);
      }
    }
    this.#tick = target;
    if (ticks < RANGE) return;
    // The wheel has run out, and is empty.
    this.#takeFrom(FAR, now, into, limit);
    if (this.#links[FAR * LINKS + CHILD] === 0) return;
    this.#origin = now;
    this.#tick = 0;
    this.#spread(FAR);
  }

  /** An empty queue has no past: it starts anew at the present reading, also when the clock was set back. */
  #restart(now: number): void {
    if (!Number.isFinite(now)) return;
    this.#origin = now;
    this.#tick = 0;
    this.#sequence = 0;
  }

  #takeFrom(bucket: number, now: number, into: T[], limit: number): void {
    while (into.length < limit && this.#links[bucket * LINKS + CHILD] !== 0) {
      const slot = this.#firstOf(bucket);
      if ((this.#times[slot * TIMES] as number) > now) return;
      into.push(this.#nodes[slot] as T);
      this.#unlink(slot);
      this.#release(slot);
    }
  }

  /** Takes everything out of a bucket. Most of it was never compared, and to sort it once is cheaper than a heap. */
  #takeAll(bucket: number, into: T[]): void {
    let count = 0;
    for (let slot = this.#detach(bucket); slot !== 0; slot = this.#following(slot)) {
      if (count === this.#sorted.length) this.#sorted = enlarged(this.#sorted);
      this.#sorted[count++] = slot;
    }
    const sorted = this.#sorted;
    if (count > FEW) {
      sorted.subarray(0, count).sort((one, other) => (this.#isBefore(one, other) ? -1 : 1));
    } else {
      for (let next = 1; next < count; next++) {
        const slot = sorted[next] as number;
        let at = next;
        for (; at > 0 && this.#isBefore(slot, sorted[at - 1] as number); at--) {
          sorted[at] = sorted[at - 1] as number;
        }
        sorted[at] = slot;
      }
    }
    for (let index = 0; index < count; index++) {
      const slot = sorted[index] as number;
      into.push(this.#nodes[slot] as T);
      this.#release(slot);
    }
  }

  /** Puts every timer of a bucket where it belongs by now. */
  #spread(bucket: number): void {
    let slot = this.#detach(bucket);
    while (slot !== 0) {
      const next = this.#following(slot);
      this.#place(slot);
      slot = next;
    }
  }

  /** Empties a bucket. What stood in it is walked from the returned slot on, each one to be placed or released. */
  #detach(bucket: number): number {
    const first = this.#links[bucket * LINKS + CHILD] as number;
    this.#links[bucket * LINKS + CHILD] = 0;
    if (bucket < DUE) this.#emptied(bucket);
    return first;
  }

  /** The next one of such a walk: what was melded under a timer comes right after it. */
  #following(slot: number): number {
    const links = this.#links;
    const next = links[slot * LINKS + NEXT] as number;
    const child = links[slot * LINKS + CHILD] as number;
    if (child === 0) return next;
    let last = child;
    while (links[last * LINKS + NEXT] !== 0) last = links[last * LINKS + NEXT] as number;
    links[last * LINKS + NEXT] = next;
    return child;
  }

  /** The first timer of a bucket that is not empty, by melding all its trees into one. */
  #firstOf(bucket: number): number {
    const root = this.#meld(this.#links[bucket * LINKS + CHILD] as number);
    this.#links[bucket * LINKS + CHILD] = root;
    this.#links[root * LINKS + PREVIOUS] = bucket;
    return root;
  }

  /** Melds a list of trees into one tree: in pairs along the list, then all pairs from the last to the first. */
  #meld(list: number): number {
    if (this.#links[list * LINKS + NEXT] === 0) return list;
    let pairs = 0;
    while (list !== 0) {
      let tree = list;
      const other = this.#links[tree * LINKS + NEXT] as number;
      list = 0;
      if (other !== 0) {
        list = this.#links[other * LINKS + NEXT] as number;
        tree = this.#join(tree, other);
      }
      this.#links[tree * LINKS + NEXT] = pairs;
      pairs = tree;
    }
    let root = pairs;
    let rest = this.#links[root * LINKS + NEXT] as number;
    while (rest !== 0) {
      const tree = rest;
      rest = this.#links[tree * LINKS + NEXT] as number;
      root = this.#join(root, tree);
    }
    this.#links[root * LINKS + NEXT] = 0;
    return root;
  }

  /** The later of two trees becomes the first child of the earlier. */
  #join(one: number, other: number): number {
    const first = this.#isBefore(one, other) ? one : other;
    const second = first === one ? other : one;
    const child = this.#links[first * LINKS + CHILD] as number;
    this.#links[second * LINKS + NEXT] = child;
    this.#links[child * LINKS + PREVIOUS] = second;
    this.#links[second * LINKS + PREVIOUS] = first;
    this.#links[first * LINKS + CHILD] = second;
    return first;
  }

  #isBefore(one: number, other: number): boolean {
    const a = this.#times[one * TIMES] as number;
    const b = this.#times[other * TIMES] as number;
    return (
      a < b ||
      (a === b &&
        (this.#times[one * TIMES + SEQUENCE] as number) < (this.#times[other * TIMES + SEQUENCE] as number))
    );
  }

  /** Takes a timer out of its tree; its children, melded, stand in its place. */
  #unlink(slot: number): void {
    const previous = this.#links[slot * LINKS + PREVIOUS] as number;
    const next = this.#links[slot * LINKS + NEXT] as number;
    let heir = this.#links[slot * LINKS + CHILD] as number;
    if (heir === 0) heir = next;
    else {
      heir = this.#meld(heir);
      this.#links[heir * LINKS + NEXT] = next;
      this.#links[next * LINKS + PREVIOUS] = heir;
    }
    this.#links[heir * LINKS + PREVIOUS] = previous;
    if (this.#links[previous * LINKS + CHILD] === slot) {
      this.#links[previous * LINKS + CHILD] = heir;
      if (heir === 0 && previous < DUE) this.#emptied(previous);
    } else this.#links[previous * LINKS + NEXT] = heir;
  }

  #release(slot: number): void {
    (this.#nodes[slot] as T).slot = 0;
    this.#nodes[slot] = undefined;
    this.#links[slot * LINKS + NEXT] = this.#free;
    this.#free = slot;
    if (--this.#size > 0 || this.#times.length === CAPACITY * TIMES) return;
    // A burst is over: its memory goes too.
    this.#nodes = this.#nodes.slice(0, TIMERS);
    this.#free = 0;
    this.#allocate(CAPACITY);
    if (this.#sorted.length > CAPACITY) this.#sorted = new Int32Array(FEW);
  }

  #emptied(bucket: number): void {
    const index = bucket - WHEEL;
    const word = index >> 5;
    const rest = (this.#occupied[word] as number) & ~(1 << (index & 31));
    this.#occupied[word] = rest;
    const level = index >> DIGIT_BITS;
    if (rest === 0) this.#summary[level] = (this.#summary[level] as number) & ~(1 << (word & 31));
  }

  #firstBucket(): number {
    if (this.#links[DUE * LINKS + CHILD] !== 0) return DUE;
    const bucket = this.#firstOnWheel();
    if (bucket !== 0) return bucket;
    return this.#links[FAR * LINKS + CHILD] !== 0 ? FAR : 0;
  }

  /** The lowest level's lowest bucket is the earliest: a higher level differs from the present tick in a higher digit. */
  #firstOnWheel(): number {
    for (let level = 0; level < LEVELS; level++) {
      const summary = this.#summary[level] as number;
      if (summary === 0) continue;
      const word = level * (BASE >> 5) + lowestBit(summary);
      return WHEEL + (word << 5) + lowestBit(this.#occupied[word] as number);
    }
    return 0;
  }

  #allocate(capacity: number): void {
    const times = new Float64Array(capacity * TIMES);
    times.set(this.#times.subarray(0, times.length));
    this.#times = times;
    this.#links = new Int32Array(times.buffer);
  }
}

function enlarged(from: Int32Array): Int32Array<ArrayBuffer> {
  const into = new Int32Array(2 * from.length);
  into.set(from);
  return into;
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
