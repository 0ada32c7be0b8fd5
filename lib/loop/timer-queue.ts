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
 * Everything but the timer itself lives in typed arrays, indexed by slot: a million timers as linked objects would
 * cost more in garbage collection and write barriers than in all the work of the queue.
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
/** Of the arrays, at first and again whenever the queue is empty. */
const CAPACITY = 4096;

export class TimerQueue<T extends TimerNode> {
  #size = 0;
  #sequence = 0;
  /** The clock's reading at tick 0. */
  #origin: number;
  /** The tick up to which the wheel has turned. Whatever is not later than it stands in the due bucket. */
  #tick = 0;

  #nodes: (T | undefined)[] = new Array(TIMERS).fill(undefined);
  #deadlines = new Float64Array(CAPACITY);
  #sequences = new Float64Array(CAPACITY);
  // Trees, as the pairing heap has them: the first child; the siblings; and who points here, an elder sibling or the
  // parent. Free slots are a list through #next.
  #child = new Int32Array(CAPACITY);
  #next = new Int32Array(CAPACITY);
  #previous = new Int32Array(CAPACITY);
  #free = 0;

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
      this.#free = this.#next[slot] as number;
      this.#nodes[slot] = node;
    } else {
      slot = this.#nodes.length;
      if (slot === this.#next.length) this.#allocate(2 * slot);
      this.#nodes.push(node);
    }
    node.slot = slot;
    this.#deadlines[slot] = node.deadline;
    this.#sequences[slot] = this.#sequence++;
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
    return bucket === 0 ? Infinity : (this.#deadlines[this.#firstOf(bucket)] as number);
  }

  /**
   * Takes everything out whose deadline is not later than `now`, appends it to `into` in the order of deadlines (and of
   * adding, where they are equal) and returns how many there were. `now` may be earlier than at the last call.
   */
  takeDue(now: number, into: T[]): number {
    const before = this.#size;
    const ticks = (now - this.#origin) * TICKS_PER_MS;
    this.#takeFrom(DUE, now, into);
    if (ticks >= this.#tick + 1) this.#turn(ticks, now, into);
    if (this.#size === 0) this.#restart(now);
    return before - this.#size;
  }

  #place(slot: number): void {
    const ticks = ((this.#deadlines[slot] as number) - this.#origin) * TICKS_PER_MS;
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
      if (this.#child[bucket] === 0) {
        const word = index >> 5;
        this.#occupied[word] = (this.#occupied[word] as number) | (1 << (index & 31));
        const level = index >> DIGIT_BITS;
        this.#summary[level] = (this.#summary[level] as number) | (1 << (word & 31));
      }
    }
    const second = this.#child[bucket] as number;
    this.#child[slot] = 0;
    this.#next[slot] = second;
    this.#previous[slot] = bucket;
    this.#previous[second] = slot;
    this.#child[bucket] = slot;
  }

  /** Moves the present tick on to that of `now`: hands out what lies before it and makes due what lies at it. */
  #turn(ticks: number, now: number, into: T[]): void {
    const target = ticks < RANGE ? ticks | 0 : RANGE - 1;
    for (;;) {
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
      if (level === 0) this.#takeFrom(bucket, now, into);
      this.#spread(bucket);
      this.#takeFrom(DUE, now, into);
    }
    this.#tick = target;
    if (ticks < RANGE) return;
    // The wheel has run out, and is empty.
    this.#takeFrom(FAR, now, into);
    if (this.#child[FAR] === 0) return;
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

  #takeFrom(bucket: number, now: number, into: T[]): void {
    while (this.#child[bucket] !== 0) {
      const slot = this.#firstOf(bucket);
      if ((this.#deadlines[slot] as number) > now) return;
      into.push(this.#nodes[slot] as T);
      this.#unlink(slot);
      this.#release(slot);
    }
  }

  /** Puts every timer of a bucket where it belongs by now. */
  #spread(bucket: number): void {
    let slot = this.#child[bucket] as number;
    this.#child[bucket] = 0;
    if (bucket < DUE) this.#emptied(bucket);
    while (slot !== 0) {
      let next = this.#next[slot] as number;
      const child = this.#child[slot] as number;
      if (child !== 0) {
        // Its children are next on the walk.
        let last = child;
        while (this.#next[last] !== 0) last = this.#next[last] as number;
        this.#next[last] = next;
        next = child;
      }
      this.#place(slot);
      slot = next;
    }
  }

  /** The first timer of a bucket that is not empty, by melding all its trees into one. */
  #firstOf(bucket: number): number {
    const root = this.#meld(this.#child[bucket] as number);
    this.#child[bucket] = root;
    this.#previous[root] = bucket;
    return root;
  }

  /** Melds a list of trees into one tree: in pairs along the list, then all pairs from the last to the first. */
  #meld(list: number): number {
    if (this.#next[list] === 0) return list;
    let pairs = 0;
    while (list !== 0) {
      let tree = list;
      const other = this.#next[tree] as number;
      list = 0;
      if (other !== 0) {
        list = this.#next[other] as number;
        tree = this.#join(tree, other);
      }
      this.#next[tree] = pairs;
      pairs = tree;
    }
    let root = pairs;
    let rest = this.#next[root] as number;
    while (rest !== 0) {
      const tree = rest;
      rest = this.#next[tree] as number;
      root = this.#join(root, tree);
    }
    this.#next[root] = 0;
    return root;
  }

  /** The later of two trees becomes the first child of the earlier. */
  #join(one: number, other: number): number {
    const first = this.#isBefore(one, other) ? one : other;
    const second = first === one ? other : one;
    const child = this.#child[first] as number;
    this.#next[second] = child;
    this.#previous[child] = second;
    this.#previous[second] = first;
    this.#child[first] = second;
    return first;
  }

  #isBefore(one: number, other: number): boolean {
    const a = this.#deadlines[one] as number;
    const b = this.#deadlines[other] as number;
    return a < b || (a === b && (this.#sequences[one] as number) < (this.#sequences[other] as number));
  }

  /** Takes a timer out of its tree; its children, melded, stand in its place. */
  #unlink(slot: number): void {
    const previous = this.#previous[slot] as number;
    const next = this.#next[slot] as number;
    let heir = this.#child[slot] as number;
    if (heir === 0) heir = next;
    else {
      heir = this.#meld(heir);
      this.#next[heir] = next;
      this.#previous[next] = heir;
    }
    this.#previous[heir] = previous;
    if (this.#child[previous] === slot) {
      this.#child[previous] = heir;
      if (heir === 0 && previous < DUE) this.#emptied(previous);
    } else this.#next[previous] = heir;
  }

  #release(slot: number): void {
    (this.#nodes[slot] as T).slot = 0;
    this.#nodes[slot] = undefined;
    this.#next[slot] = this.#free;
    this.#free = slot;
    if (--this.#size > 0 || this.#next.length === CAPACITY) return;
    // A burst is over: its memory goes too.
    this.#nodes = this.#nodes.slice(0, TIMERS);
    this.#free = 0;
    this.#allocate(CAPACITY);
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
    if (this.#child[DUE] !== 0) return DUE;
    const bucket = this.#firstOnWheel();
    if (bucket !== 0) return bucket;
    return this.#child[FAR] !== 0 ? FAR : 0;
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
    this.#deadlines = resized(new Float64Array(capacity), this.#deadlines);
    this.#sequences = resized(new Float64Array(capacity), this.#sequences);
    this.#child = resized(new Int32Array(capacity), this.#child);
    this.#next = resized(new Int32Array(capacity), this.#next);
    this.#previous = resized(new Int32Array(capacity), this.#previous);
  }
}

function resized<A extends Float64Array | Int32Array>(into: A, from: A): A {
  into.set(from.subarray(0, into.length));
  return into;
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
