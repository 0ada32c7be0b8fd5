/**
 * The processes whose end a loop waits for: the watchers of `watchProcess`, the children that this loop owns, and
 * members of process groups. Each process announces its end by a descriptor (a pidfd, or a kqueue that has it), or else
 * SIGCHLD makes us look at every child there is; what was announced is looked at, and told, in each round after the
 * signals. Reaps one pid at a time, and only what nobody else reaps.
 */
import type { Phase } from '../loop/loop.ts';
import { nativeLoop } from '../loop/native-loop.ts';
import { WatcherBase } from '../loop/watcher.ts';
import { ENOSYS, ESRCH } from '../sys/errno.ts';
import { checkFunction, checkInteger, systemError } from '../sys/errors.ts';
import { close } from '../sys/index.ts';
import type { ExitStatus } from './contract.ts';
import type { ProcessHost } from './host.ts';
import { Kinship, nativeChild } from './native.ts';
import { ProcessRecord } from './record.ts';
import type { Signals } from './signals.ts';

const MAX_PID = 0x7fff_ffff;
/** How often we look at what announces nothing: strangers without a pidfd, and what was announced too early. ms */
const LOOK_AGAIN = 20;

/** Whoever owns a child: told of its end before anybody's callback, to settle what is left and to reap. */
export interface Owner {
  /** In the round that saw the end. Must not throw. */
  ended(exit: ExitStatus): void;
  /** Its loop closes before all is done. */
  moved(exits: Exits): void;
  /** This process is a forked child: the process is none of its children. */
  lost(): void;
}

interface Entry {
  readonly record: ProcessRecord;
  /** Replaced, never changed in place. */
  watchers: readonly ExitWatch[];
  owner: Owner | undefined;
  /** For the floor's own purposes. Must not throw. */
  internal: (() => void)[];
  arm: Disposable | undefined;
  announced: boolean;
}

class ExitWatch extends WatcherBase {
  readonly entry: Entry;
  readonly callback: (exit: ExitStatus) => void;
  readonly #exits: Exits;

  constructor(exits: Exits, host: ProcessHost, entry: Entry, callback: (exit: ExitStatus) => void) {
    super('FORKBEARD_PROCESS', host);
    this.#exits = exits;
    this.entry = entry;
    this.callback = callback;
    this.enlist();
  }

  protected override onStop(): void {
    this.#exits.remove(this);
  }
}

interface Call {
  readonly watcher: WatcherBase;
  readonly callback: (exit: ExitStatus) => void;
  readonly exit: ExitStatus;
  /** When the loop closes before. */
  readonly instead?: () => void;
}

export class Exits implements Phase {
  readonly host: ProcessHost;
  readonly #signals: Signals;
  /** Where the children of a loop go that closes before they end. */
  readonly #heir: () => Exits;
  #process = nativeLoop().processId();
  readonly #entries = new Map<ProcessRecord, Entry>();
  readonly #owners = new Set<Owner>();
  #announced: Entry[] = [];
  /** Those that announce nothing. */
  readonly #silent = new Set<Entry>();
  #look = false;
  #looking: Disposable | undefined;
  /** Null: this kernel has none. */
  #queue: Queue | undefined | null;
  /** Not even SIGCHLD can be had: those that announce nothing are looked at again and again. */
  #deaf = false;
  // What is to be called in this round. A round inside a callback goes on with it.
  #calls: Call[] = [];
  #cursor = 0;

  constructor(host: ProcessHost, signals: Signals, heir: () => Exits) {
    this.host = host;
    this.#signals = signals;
    this.#heir = heir;
  }

  watch(pid: number, callback: (exit: ExitStatus) => void): WatcherBase {
    checkInteger(pid, 'pid', 1, MAX_PID);
    checkFunction(callback, 'callback');
    this.host.ready();
    const entry = this.#enter(ProcessRecord.of(pid));
    const watcher = new ExitWatch(this, this.host, entry, callback as (exit: ExitStatus) => void);
    entry.watchers = [...entry.watchers, watcher];
    return watcher;
  }

  /** Waits for the end of a process for the floor's own purposes, keeping nobody alive. False when it is gone already. */
  watchInternally(pid: number, onEnd: () => void, isMeant: () => boolean): boolean {
    let entry: Entry;
    try {
      entry = this.#enter(ProcessRecord.of(pid));
    } catch {
      return false;
    }
    // The record holds the process from here on; before, the number may have changed hands.
    if (!isMeant()) {
      this.#drop(entry);
      return false;
    }
    entry.internal.push(onEnd);
    return true;
  }

  /**
   * From now on `owner` is told of the end, and reaps. The record must be that of a child of ours. Whatever the kernel
   * has no room for, this does not fail: the child runs already.
   */
  own(record: ProcessRecord, owner: Owner): void {
    this.host.ready();
    this.#enter(record).owner = owner;
    this.#owners.add(owner);
  }

  /** All that there was to do after the end is done. */
  disown(owner: Owner): void {
    this.#owners.delete(owner);
  }

  /** Calls back in a while. */
  lookAgain(look: () => void): void {
    this.host.watchTime({ after: LOOK_AGAIN }, look).unref();
  }

  /** Runs in this round or the next, after what was called before; `instead` when the loop closes before. */
  call(
    watcher: WatcherBase,
    callback: (exit: ExitStatus) => void,
    exit: ExitStatus,
    instead: () => void,
  ): void {
    this.#calls.push({ watcher, callback, exit, instead });
    this.host.hurry();
  }

  /** @internal */
  remove(watcher: ExitWatch): void {
    const { entry } = watcher;
    entry.watchers = entry.watchers.filter((other) => other !== watcher);
    this.#drop(entry);
  }

  // --------------------------------------------------------------------------------- as a phase

  get pending(): boolean {
    return this.#look || this.#announced.length > 0 || this.#cursor < this.#calls.length;
  }

  run(): void {
    if (this.#look) {
      this.#look = false;
      for (const entry of this.#silent) if (entry.record.observe()) this.#announce(entry);
    }
    if (this.#announced.length > 0) {
      const announced = this.#announced;
      this.#announced = [];
      for (const entry of announced) this.#settle(entry);
    }
    while (this.#cursor < this.#calls.length) {
      const { watcher, callback, exit } = this.#calls[this.#cursor++] as Call;
      if (!watcher.active) continue;
      watcher.retire();
      this.host.invoke(watcher, callback, exit);
      watcher.emitDestroy();
    }
    if (this.#calls.length > 0) {
      this.#calls = [];
      this.#cursor = 0;
    }
  }

  recreated(): void {
    if (nativeLoop().processId() === this.#process) return;
    // A forked child: these processes are not its children, and the pidfds are its parent's.
    this.#process = nativeLoop().processId();
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    this.#silent.clear();
    this.#announced = [];
    this.#calls = [];
    this.#cursor = 0;
    this.#queue?.forget();
    this.#queue = undefined;
    this.#looking = undefined;
    for (const entry of entries) {
      for (const watcher of entry.watchers) watcher.stop();
      entry.arm?.[Symbol.dispose]();
    }
    for (const owner of this.#owners) owner.lost();
    this.#owners.clear();
  }

  close(): void {
    const owned = [...this.#entries.values()].filter((entry) => entry.owner !== undefined);
    const owners = [...this.#owners];
    for (const entry of [...this.#entries.values()]) {
      for (const watcher of entry.watchers) watcher.stop();
      entry.internal = [];
    }
    for (const { watcher, instead } of this.#calls.slice(this.#cursor)) {
      watcher.stop();
      instead?.();
    }
    // A child of ours is reaped, come what may.
    if (owners.length > 0) {
      const heir = this.#heir();
      for (const { record, owner } of owned) heir.own(record, owner as Owner);
      for (const owner of owners) {
        heir.#owners.add(owner);
        owner.moved(heir);
      }
    }
    for (const entry of [...this.#entries.values()]) this.#leave(entry);
    this.#looking?.[Symbol.dispose]();
    if (nativeLoop().processId() === this.#process) this.#queue?.close();
    else this.#queue?.forget();
  }

  // --------------------------------------------------------------------------------- announcements

  #enter(record: ProcessRecord): Entry {
    const known = this.#entries.get(record);
    if (known !== undefined) return known;
    const entry: Entry = {
      record,
      watchers: [],
      owner: undefined,
      internal: [],
      arm: undefined,
      announced: false,
    };
    record.hold();
    try {
      this.#arm(entry);
    } catch (error) {
      record.release();
      throw error;
    }
    this.#entries.set(record, entry);
    return entry;
  }

  #arm(entry: Entry): void {
    const { record } = entry;
    if (record.exit !== null) {
      this.#announce(entry);
    } else if (!this.#watchPidfd(entry) && !this.#enqueue(entry)) {
      this.#silent.add(entry);
      this.#listen();
      // It may have ended before; and a stranger's end sends us nothing.
      if (record.observe()) this.#announce(entry);
      else if (this.#deaf || record.kinship === Kinship.STRANGER) this.#lookLater();
    }
  }

  #listen(): void {
    try {
      this.#signals.watchInternally('SIGCHLD', () => {
        this.#look = true;
      });
      this.#deaf = false;
    } catch {
      this.#deaf = true;
    }
  }

  #watchPidfd(entry: Entry): boolean {
    if (entry.record.pidfd < 0) return false;
    try {
      entry.arm = this.host.watchInternally(entry.record.pidfd, () => this.#announce(entry));
      return true;
    } catch {
      // No room in the kernel's tables: SIGCHLD needs none.
      return false;
    }
  }

  /** To a kqueue, where there is one. */
  #enqueue(entry: Entry): boolean {
    if (this.#queue === undefined) this.#queue = Queue.open(this.host);
    if (!this.#queue) return false;
    const arm = this.#queue.add(entry.record.pid, () => this.#announce(entry));
    if (arm === undefined) return false;
    entry.arm = arm;
    return true;
  }

  #announce(entry: Entry): void {
    entry.arm?.[Symbol.dispose]();
    entry.arm = undefined;
    if (entry.announced) return;
    entry.announced = true;
    this.#announced.push(entry);
    this.host.hurry();
  }

  #settle(entry: Entry): void {
    const { record } = entry;
    if (this.#entries.get(record) !== entry) return;
    if (!record.observe()) {
      // A tracer is told first, and the kernel shows us the end only when it has let go.
      entry.announced = false;
      this.#silent.add(entry);
      this.#lookLater();
      return;
    }
    this.#entries.delete(record);
    this.#hush(entry);
    const exit = record.exit as ExitStatus;
    entry.owner?.ended(exit);
    if (!record.owned) record.reap();
    for (const onEnd of entry.internal) onEnd();
    for (const watcher of entry.watchers) {
      this.#calls.push({ watcher, callback: watcher.callback, exit });
    }
    record.release();
  }

  #lookLater(): void {
    this.#looking ??= this.host
      .watchTime({ after: LOOK_AGAIN }, () => {
        this.#looking = undefined;
        this.#look = true;
        this.host.hurry();
        for (const { record, announced } of this.#silent) {
          const tells = !this.#deaf && record.pidfd < 0 && record.kinship !== Kinship.STRANGER;
          if (!announced && !tells) this.#lookLater();
        }
      })
      .unref();
  }

  /** Takes an entry out that nobody is interested in. */
  #drop(entry: Entry): void {
    if (entry.watchers.length > 0 || entry.internal.length > 0 || entry.owner !== undefined) return;
    if (this.#entries.get(entry.record) === entry) this.#leave(entry);
  }

  #hush(entry: Entry): void {
    if (this.#silent.delete(entry) && this.#silent.size === 0) this.#signals.unwatchInternally('SIGCHLD');
  }

  #leave(entry: Entry): void {
    this.#entries.delete(entry.record);
    this.#hush(entry);
    entry.arm?.[Symbol.dispose]();
    entry.record.release();
  }
}

/** A kqueue with EVFILT_PROC, itself watched by the loop. */
class Queue {
  readonly #fd: number;
  readonly #watch: Disposable;
  readonly #entries = new Map<number, () => void>();
  readonly #pids = new Int32Array(64);

  /** Null where the kernel has none, undefined when it has no room for one now. */
  static open(host: ProcessHost): Queue | null | undefined {
    const fd = nativeChild().openQueue();
    if (fd < 0) return fd === -ENOSYS ? null : undefined;
    try {
      return new Queue(host, fd);
    } catch {
      close(fd);
      return undefined;
    }
  }

  private constructor(host: ProcessHost, fd: number) {
    this.#fd = fd;
    this.#watch = host.watchInternally(fd, () => this.#take());
  }

  /** Undefined when the kernel refuses. */
  add(pid: number, onEnd: () => void): Disposable | undefined {
    const errno = nativeChild().addToQueue(this.#fd, pid);
    // Ended already: there is nothing to wait for.
    if (errno === -ESRCH) onEnd();
    else if (errno < 0) return undefined;
    else this.#entries.set(pid, onEnd);
    return {
      [Symbol.dispose]: () => {
        if (this.#entries.get(pid) !== onEnd) return;
        this.#entries.delete(pid);
        nativeChild().removeFromQueue(this.#fd, pid);
      },
    };
  }

  close(): void {
    this.forget();
    close(this.#fd);
  }

  /** In a forked child, which has no such kqueue: its number may be anything by now. */
  forget(): void {
    this.#entries.clear();
    this.#watch[Symbol.dispose]();
  }

  #take(): void {
    let count: number;
    do {
      count = nativeChild().takeFromQueue(this.#fd, this.#pids);
      for (let i = 0; i < count; i++) {
        const pid = this.#pids[i] as number;
        const onEnd = this.#entries.get(pid);
        this.#entries.delete(pid);
        onEnd?.();
      }
    } while (count === this.#pids.length);
  }
}

/** The error of a signal to a process that has ended. */
export function goneError(pid: number): Error {
  return systemError(-ESRCH, 'kill', { pid });
}
