/**
 * Descriptors and their watchers. A descriptor that is watched has one record with any number of watchers, and one
 * interest in the poller: the union of what they are armed for. The record's generation is what makes stale events
 * harmless: when the last watcher goes, the record goes, and the next one of the same number has another generation.
 *
 * Used by the loop; decides who is told what, in which order. Calls no handler itself: the loop's `invoke` does.
 */
import { stateError, systemError } from '../sys/errors.ts';
import { CALLS } from './backends.ts';
import type { IoHandlers, IoOptions, IoWatcher } from './contract.ts';
import {
  EDGE,
  ERROR,
  EXCLUSIVE,
  HALF_CLOSED,
  HANGUP,
  type Handle,
  INVALID,
  nativeLoop,
  READ,
  WRITE,
} from './native-loop.ts';
import { type Host, type Keeper, WatcherBase } from './watcher.ts';

/** Which reports wake which handler. ERR and HUP come unasked and wake whoever can find out more. */
const WAKES_READ = READ | HANGUP | HALF_CLOSED | ERROR;
const WAKES_WRITE = WRITE | HANGUP | ERROR;
const WAKES_HANGUP = HANGUP | HALF_CLOSED | ERROR;

// For what runs with every event: constants of this module are part of the compiled code, imported ones are read from
// theirs each time.
const TO_READ = READ;
const TO_WRITE = WRITE;
const NOT_PLAIN = ~(READ | WRITE);
const UNUSABLE = INVALID;
/** What each report wakes. */
const WAKES = Uint8Array.from({ length: 256 }, (_, mask) => wakes(mask));

const EBADF = -9;
/** An INVALID report has the errno here. */
const ERRNO_SHIFT = 16;
/** What a watcher can be armed for. */
const DIRECTIONS = [READ, WRITE, HANGUP, ERROR] as const;

type Handler = (fd: number) => void;

let _ids = 0;

/** What the table needs of its loop. */
export interface IoHost extends Host {
  readonly backend: keyof typeof CALLS;
  /** Throws when the loop is closed, or the parent's. */
  usable(): void;
  invoke2<A, B>(watcher: WatcherBase, callback: (a: A, b: B) => void, a: A, b: B): void;
  /** There is something to tell that no descriptor will announce. */
  hurry(): void;
}

interface Descriptor {
  readonly fd: number;
  readonly slot: number;
  readonly generation: number;
  readonly edge: boolean;
  /** In the order of watching. One that joins or leaves while a dispatch walks them has nothing due. */
  readonly watchers: Set<IoWatch>;
  /** The only one, if there is but one. */
  single: IoWatch | undefined;
  /** How many of them are armed for each of DIRECTIONS: their union must not cost a walk through all of them. */
  readonly armed: number[];
  exclusives: number;
  /** What the poller has. */
  mask: number;
}

export class IoWatch extends WatcherBase implements IoWatcher {
  readonly fd: number;
  readonly oneshot: boolean;
  readonly exclusive: boolean;
  readonly onReadReady: Handler | undefined;
  readonly onWriteReady: Handler | undefined;
  readonly onHangup: Handler | undefined;
  readonly onError: ((error: Error, fd: number) => void) | undefined;
  /** What it is interested in at all. */
  wants: number;
  /** What it waits for now. Set by the table, which counts. */
  arms = 0;
  /** What the event that is being dispatched has for it. */
  due = 0;
  /** The loop's own: its read handler is not a user's callback. */
  readonly internal: boolean;
  readonly #table: IoTable;

  constructor(
    table: IoTable,
    keeper: Keeper,
    fd: number,
    handlers: IoHandlers,
    options: IoOptions,
    internal: boolean,
  ) {
    super('FORKBEARD_IO', keeper);
    this.#table = table;
    this.internal = internal;
    this.fd = fd;
    this.oneshot = options.oneshot === true;
    this.exclusive = options.exclusive === true;
    this.onReadReady = handlers.onReadReady;
    this.onWriteReady = handlers.onWriteReady;
    this.onHangup = handlers.onHangup;
    this.onError = handlers.onError;
    let wants = 0;
    if (handlers.onReadReady !== undefined) wants |= READ;
    if (handlers.onWriteReady !== undefined) wants |= WRITE;
    if (handlers.onHangup !== undefined) wants |= HANGUP;
    // Alone, onError hears of errors, which come unasked.
    this.wants = wants === 0 ? ERROR : wants;
  }

  /** It is in its record: from now on it counts. */
  begin(): void {
    this.enlist();
  }

  rearm(): void {
    if (!this.active) return;
    this.#table.rearm(this);
  }

  /** Takes directions away; the last one stops it. */
  drop(directions: number): void {
    if ((this.wants & directions) === 0) return;
    this.wants &= ~directions;
    this.due &= this.wants;
    if (this.wants === 0) this.stop();
    else this.#table.disarm(this, directions);
  }

  protected override get armed(): boolean {
    return this.arms !== 0;
  }

  protected override onStop(): void {
    this.due = 0;
    this.#table.remove(this);
  }
}

/**
 * What nearly every event needs, by slot and side by side: of many descriptors the records and watchers lie all over the
 * memory, and waiting for each of their cache lines in turn cost more than all else that a dispatch does.
 */
class PlainSlots {
  /** Generation, arms and descriptor. The arms are 0 where there is anything but one watcher that stays armed when told. */
  #words = new Int32Array(3 * 64);
  readonly #watchers: (IoWatch | undefined)[] = [];
  /** `onReadReady` of that watcher. */
  readonly #readers: (Handler | undefined)[] = [];

  set({ slot, generation, fd, single }: Descriptor): void {
    while (3 * slot >= this.#words.length) this.#grow();
    const isPlain = single !== undefined && !single.oneshot && !single.internal;
    this.#words[3 * slot] = generation;
    this.#words[3 * slot + 1] = isPlain ? single.arms : 0;
    this.#words[3 * slot + 2] = fd;
    this.#watchers[slot] = isPlain ? single : undefined;
    this.#readers[slot] = isPlain ? single.onReadReady : undefined;
  }

  clear(slot: number): void {
    this.#words[3 * slot + 1] = 0;
    this.#watchers[slot] = undefined;
    this.#readers[slot] = undefined;
  }

  /** What the plain watcher of this slot is armed for; 0 when there is none, or it is another generation's. */
  arms(slot: number, generation: number): number {
    return this.#words[3 * slot] === (generation | 0) ? (this.#words[3 * slot + 1] as number) : 0;
  }

  fd(slot: number): number {
    return this.#words[3 * slot + 2] as number;
  }

  watcher(slot: number): IoWatch | undefined {
    return this.#watchers[slot];
  }

  reader(slot: number): Handler {
    return this.#readers[slot] as Handler;
  }

  #grow(): void {
    const words = new Int32Array(2 * this.#words.length);
    words.set(this.#words);
    this.#words = words;
  }
}

export class IoTable {
  readonly #host: IoHost;
  readonly #handle: Handle;
  readonly #byFd = new Map<number, Descriptor>();
  readonly #bySlot: (Descriptor | undefined)[] = [];
  readonly #plain = new PlainSlots();
  readonly #freeSlots: number[] = [];
  /** Records that the kernel refused to take again, to be told in the next round. */
  #refused: { record: Descriptor; errno: number }[] = [];
  #lastGeneration = 0;

  constructor(host: IoHost, handle: Handle) {
    this.#host = host;
    this.#handle = handle;
  }

  /** True when a round must not wait. */
  get pending(): boolean {
    return this.#refused.length > 0;
  }

  watch(fd: number, handlers: IoHandlers, options: IoOptions, internal = false): IoWatch {
    const edge = options.edge === true;
    const known = this.#byFd.get(fd);
    if (known !== undefined && known.edge !== edge) {
      const mode = known.edge ? 'edge-triggered' : 'level-triggered';
      throw stateError(
        'MIXED_TRIGGER',
        `Descriptor ${fd} is watched ${mode} already; its watchers share the mode`,
      );
    }
    const record = known ?? this.#enter(fd, edge);
    const watcher = new IoWatch(this, this.#host, fd, handlers, options, internal);
    this.#join(record, watcher);
    watcher.begin();
    // The kernel is asked even if the mask stays: a descriptor that was closed meanwhile must be refused.
    const errno = this.#update(record, true);
    if (errno < 0) {
      watcher.stop();
      // Those who were there before are told of it as well, in the next round.
      if (errno === EBADF && record.watchers.size > 0) this.#refuse(record, errno);
      throw systemError(errno, CALLS[this.#host.backend].change, { fd });
    }
    return watcher;
  }

  /** Stops every watcher of `fd`, or takes just the named directions from them. */
  unwatch(fd: number, directions?: number): void {
    const record = this.#byFd.get(fd);
    if (record === undefined) return;
    for (const watcher of record.watchers) {
      // What the loop watches for itself is not the user's to stop, whatever numbers he tries.
      if (watcher.internal) continue;
      if (directions === undefined) watcher.stop();
      else watcher.drop(directions);
    }
  }

  rearm(watcher: IoWatch): void {
    this.#host.usable();
    const record = this.#byFd.get(watcher.fd);
    if (record === undefined) return;
    this.#arm(record, watcher, watcher.wants);
    watcher.settle();
    // Edges that were told already are told again only if the kernel hears of the descriptor again.
    this.#sync(record, record.edge);
  }

  disarm(watcher: IoWatch, directions: number): void {
    const record = this.#byFd.get(watcher.fd);
    if (record === undefined) return;
    this.#arm(record, watcher, watcher.arms & ~directions);
    watcher.settle();
    this.#sync(record, false);
  }

  remove(watcher: IoWatch): void {
    const record = this.#byFd.get(watcher.fd);
    if (record === undefined || !record.watchers.delete(watcher)) return;
    this.#arm(record, watcher, 0);
    if (watcher.exclusive) record.exclusives--;
    if (record.watchers.size > 0) {
      record.single = record.watchers.size === 1 ? first(record.watchers) : undefined;
      this.#plain.set(record);
      this.#sync(record, false);
      return;
    }
    this.#byFd.delete(record.fd);
    this.#bySlot[record.slot] = undefined;
    this.#plain.clear(record.slot);
    this.#freeSlots.push(record.slot);
    if (record.mask !== 0) nativeLoop().remove(this.#handle, record.slot);
    record.mask = 0;
  }

  stopAll(): void {
    for (const record of [...this.#byFd.values()]) for (const watcher of record.watchers) watcher.stop();
    this.#refused = [];
  }

  /**
   * Looks at the async ids of those that the events from `begin` to `end` are for, which Node does when it calls them, one
   * after the other. Here the processor fetches many of them from memory at the same time.
   */
  fetch(batch: Uint32Array, begin: number, end: number): void {
    for (let at = 3 * begin; at < 3 * end; at += 3) {
      const watcher = this.#plain.watcher(batch[at] as number);
      if (watcher !== undefined) _ids ^= watcher.asyncId();
    }
  }

  /** One event of a batch. */
  dispatch(slot: number, generation: number, mask: number): void {
    // Nearly always: one watcher that is told nothing but reading and writing, and stays armed.
    const due = (WAKES[mask & 0xff] as number) & this.#plain.arms(slot, generation);
    if (due === 0 || (due & NOT_PLAIN) !== 0 || (mask & UNUSABLE) !== 0) {
      this.#dispatchAny(slot, generation, mask);
      return;
    }
    const watcher = this.#plain.watcher(slot) as IoWatch;
    const fd = this.#plain.fd(slot);
    if ((due & TO_READ) !== 0) {
      this.#host.invoke(watcher, this.#plain.reader(slot), fd);
      if ((due & TO_WRITE) === 0 || !watcher.active || (watcher.arms & TO_WRITE) === 0) return;
    }
    this.#host.invoke(watcher, watcher.onWriteReady as Handler, fd);
  }

  #dispatchAny(slot: number, generation: number, mask: number): void {
    const record = this.#bySlot[slot];
    if (record === undefined || record.generation !== generation) return;
    const { watchers, fd } = record;
    const host = this.#host;
    for (const watcher of watchers) this.#offer(record, watcher, mask);
    // In this order, whoever watches: what can be read before what can be written, and the end last. What is due is
    // struck off before the handler runs: a round inside of it may come here for the same descriptor, and then goes on
    // with what is left.
    for (const watcher of watchers) {
      if ((watcher.due & READ) === 0) continue;
      watcher.due &= ~READ;
      if (watcher.internal) watcher.onReadReady?.(fd);
      else host.invoke(watcher, watcher.onReadReady as Handler, fd);
    }
    for (const watcher of watchers) {
      if ((watcher.due & WRITE) === 0) continue;
      watcher.due &= ~WRITE;
      host.invoke(watcher, watcher.onWriteReady as Handler, fd);
    }
    for (const watcher of watchers) {
      if ((watcher.due & HANGUP) === 0) continue;
      watcher.due &= ~HANGUP;
      host.invoke(watcher, watcher.onHangup as Handler, fd);
    }
    if ((mask & INVALID) !== 0) this.#fail(record, -(mask >>> ERRNO_SHIFT) || EBADF);
    else if ((mask & (ERROR | HANGUP)) !== 0) this.#tellError(record);
    // Also when nothing was due: a round inside a handler meets what the handler's own event has disarmed and not yet
    // taken from the kernel, which would say it for ever.
    for (const watcher of record.watchers) watcher.settle();
    this.#sync(record, false);
  }

  tellRefused(): void {
    const refused = this.#refused;
    this.#refused = [];
    for (const { record, errno } of refused) this.#fail(record, errno);
  }

  /** ERR without a reader, writer or hangup handler to find out: looked up for those who only want to know. */
  #tellError(record: Descriptor): void {
    let error: Error | undefined;
    for (const watcher of record.watchers) {
      if ((watcher.due & ERROR) === 0 || watcher.onError === undefined) continue;
      watcher.due &= ~ERROR;
      error ??= systemError(-nativeLoop().descriptorError(record.fd), 'getsockopt', { fd: record.fd });
      this.#host.invoke2(watcher, watcher.onError, error, record.fd);
    }
  }

  /** The descriptor is unusable: its watchers are over, and each is told. */
  #fail(record: Descriptor, errno: number): void {
    for (const watcher of record.watchers) {
      if (!watcher.active) continue;
      watcher.stop();
      const error = systemError(errno, CALLS[this.#host.backend].change, { fd: record.fd });
      this.#host.invoke2(watcher, watcher.onError ?? surface, error, record.fd);
    }
  }

  #enter(fd: number, edge: boolean): Descriptor {
    const slot = this.#freeSlots.pop() ?? this.#bySlot.length;
    this.#lastGeneration = (this.#lastGeneration + 1) >>> 0;
    const record: Descriptor = {
      fd,
      slot,
      generation: this.#lastGeneration,
      edge,
      watchers: new Set(),
      single: undefined,
      armed: [0, 0, 0, 0],
      exclusives: 0,
      mask: 0,
    };
    this.#bySlot[slot] = record;
    this.#byFd.set(fd, record);
    return record;
  }

  #join(record: Descriptor, watcher: IoWatch): void {
    record.watchers.add(watcher);
    record.single = record.watchers.size === 1 ? watcher : undefined;
    if (watcher.exclusive) record.exclusives++;
    this.#arm(record, watcher, watcher.wants);
  }

  /** Marks what of an event is for this watcher and disarms what is told only once. */
  #offer(record: Descriptor, watcher: IoWatch, mask: number): void {
    const { arms } = watcher;
    const due = (WAKES[mask & 0xff] as number) & arms;
    watcher.due |= due;
    if (due !== 0) this.#arm(record, watcher, watcher.oneshot ? 0 : arms & ~(due & (HANGUP | ERROR)));
  }

  /** Changes what a watcher waits for, and what its record knows of that. */
  #arm(record: Descriptor, watcher: IoWatch, arms: number): void {
    const changed = watcher.arms ^ arms;
    watcher.arms = arms;
    if (changed === 0) return;
    this.#plain.set(record);
    for (let at = 0; at < DIRECTIONS.length; at++) {
      const direction = DIRECTIONS[at] as number;
      if ((changed & direction) !== 0)
        record.armed[at] = (record.armed[at] as number) + ((arms & direction) !== 0 ? 1 : -1);
    }
  }

  /** What the kernel refuses is told in the next round. */
  #sync(record: Descriptor, always: boolean): void {
    const errno = this.#update(record, always);
    if (errno < 0) this.#refuse(record, errno);
  }

  #refuse(record: Descriptor, errno: number): void {
    this.#refused.push({ record, errno });
    this.#host.hurry();
  }

  /** Makes the poller's interest what the watchers are armed for; `always`: even if it is that already. */
  #update(record: Descriptor, always: boolean): number {
    let mask = 0;
    for (let at = 0; at < DIRECTIONS.length; at++) {
      if ((record.armed[at] as number) > 0) mask |= DIRECTIONS[at] as number;
    }
    if (mask !== 0) {
      if (record.edge) mask |= EDGE;
      if (record.exclusives > 0) mask |= EXCLUSIVE;
    }
    const before = record.mask;
    if (mask === before && (!always || mask === 0)) return 0;
    const native = nativeLoop();
    let result: number;
    // An empty interest would still be told of ERR and HUP, for ever.
    if (mask === 0) result = native.remove(this.#handle, record.slot);
    else if (before !== 0) result = native.modify(this.#handle, record.slot, mask);
    else result = native.add(this.#handle, record.slot, record.generation, record.fd, mask);
    if (result < 0) return result;
    record.mask = mask;
    // The kernel takes it after all: the number names another file by now, and what it refused is no news any more.
    if (this.#refused.length > 0)
      this.#refused = this.#refused.filter((refusal) => refusal.record !== record);
    return result;
  }
}

/** What a report wakes, if it is armed. */
function wakes(mask: number): number {
  let due = 0;
  if ((mask & WAKES_READ) !== 0) due |= READ;
  if ((mask & WAKES_WRITE) !== 0) due |= WRITE;
  if ((mask & WAKES_HANGUP) !== 0) due |= HANGUP;
  if ((mask & (ERROR | HANGUP)) !== 0) due |= ERROR;
  return due;
}

function first(watchers: ReadonlySet<IoWatch>): IoWatch | undefined {
  for (const watcher of watchers) return watcher;
  return undefined;
}

/** Stands in for a missing onError: the error surfaces as a callback's would. */
function surface(error: Error): void {
  throw error;
}
