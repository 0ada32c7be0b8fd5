/**
 * The signals that a loop watches. Handlers in `native/signals.cc` note what came and wake the loop; in each round,
 * after I/O, this takes the notes and calls whoever watches. Never called from a handler.
 *
 * Every loop of the process that watches a signal gets it, in whichever thread it lives.
 */
import { constants } from 'node:os';
import type { Phase } from '../loop/loop.ts';
import { nativeLoop } from '../loop/native-loop.ts';
import { WatcherBase } from '../loop/watcher.ts';
import { reservedSignal, systemError, uncatchableSignal } from '../sys/errors.ts';
import { signalName, signalNumber } from '../sys/signals.ts';
import type { SignalInfo, SignalName } from './contract.ts';
import type { ProcessHost } from './host.ts';
import { nativeSignals } from './native.ts';

const { SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGPROF } = constants.signals;

/**
 * Raised by the processor at an instruction that cannot go on: a handler that notes them and returns would run into
 * the same instruction for ever, and V8 uses some of them itself.
 */
const SYNCHRONOUS: readonly number[] = [SIGSEGV, SIGBUS, SIGFPE, SIGILL];

// The mailbox: 1 while there is something to fetch, how many rows there are, the rows.
const WANTED = 0;
const COUNT = 1;
const FIRST_ROW = 2;
const ROW = 7;
const ROWS = 64;
/** Bits of what is known about a delivery. */
const KNOWN_SENDER = 1;
const KNOWN_VALUE = 2;

class SignalWatch extends WatcherBase {
  readonly number: number;
  readonly callback: (info: SignalInfo) => void;
  readonly #signals: Signals;

  constructor(signals: Signals, host: ProcessHost, number: number, callback: (info: SignalInfo) => void) {
    super('FORKBEARD_SIGNAL', host);
    this.#signals = signals;
    this.number = number;
    this.callback = callback;
    this.enlist();
  }

  protected override onStop(): void {
    this.#signals.remove(this);
  }
}

/** A signal that somebody watches. */
interface Watched {
  readonly name: string;
  /** Replaced, never changed in place. */
  watchers: readonly SignalWatch[];
  /** Called before them, for the loop's own purposes. */
  internal: (() => void) | undefined;
}

export class Signals implements Phase {
  readonly #host: ProcessHost;
  readonly #native = nativeSignals();
  #subscription: object | undefined;
  #process = 0;
  readonly #mailbox = new Int32Array(FIRST_ROW + ROW * ROWS);
  readonly #watched = new Map<number, Watched>();
  // What is to be called in this round: a watcher, what it is told, the next watcher. A round inside a callback goes
  // on with it.
  #calls: (SignalWatch | SignalInfo)[] = [];
  #cursor = 0;

  constructor(host: ProcessHost) {
    this.#host = host;
  }

  watch(signal: SignalName | number, callback: (info: SignalInfo) => void): SignalWatch {
    const number = watchable(signal);
    const watched = this.#watch(number);
    const watcher = new SignalWatch(this, this.#host, number, callback);
    watched.watchers = [...watched.watchers, watcher];
    return watcher;
  }

  /** For the loop's own purposes: not counted, keeps nobody alive, and lasts as long as the loop. Must not throw. */
  watchInternally(signal: SignalName, onSignal: () => void): void {
    this.#watch(watchable(signal)).internal = onSignal;
  }

  unwatchInternally(signal: SignalName): void {
    const number = watchable(signal);
    const watched = this.#watched.get(number);
    if (watched === undefined) return;
    watched.internal = undefined;
    this.#unwatchIfIdle(number, watched);
  }

  /** @internal */
  remove(watcher: SignalWatch): void {
    const watched = this.#watched.get(watcher.number);
    if (watched === undefined) return;
    watched.watchers = watched.watchers.filter((other) => other !== watcher);
    this.#unwatchIfIdle(watcher.number, watched);
  }

  // --------------------------------------------------------------------------------- as a phase

  get pending(): boolean {
    return this.#mailbox[WANTED] !== 0 || this.#mailbox[COUNT] !== 0 || this.#calls.length > 0;
  }

  run(): void {
    const mailbox = this.#mailbox;
    if (mailbox[COUNT] === 1 && mailbox[WANTED] === 0 && this.#calls.length === 0) {
      // Nearly always: one signal, and one who watches it. An idle loop finds little of itself in the processor's caches,
      // so every function that has a part in this is felt.
      const watched = this.#watched.get(mailbox[FIRST_ROW] as number);
      if (watched !== undefined && watched.watchers.length === 1 && watched.internal === undefined) {
        mailbox[COUNT] = 0;
        const watcher = watched.watchers[0] as SignalWatch;
        this.#host.invoke(watcher, watcher.callback, describe(watched.name, mailbox, FIRST_ROW));
        return;
      }
    }
    this.#take();
    while (this.#cursor < this.#calls.length) {
      const watcher = this.#calls[this.#cursor++] as SignalWatch;
      const info = this.#calls[this.#cursor++] as SignalInfo;
      if (watcher.active) this.#host.invoke(watcher, watcher.callback, info);
    }
    if (this.#calls.length > 0) this.#calls = [];
    this.#cursor = 0;
  }

  recreated(): void {
    if (this.#subscription === undefined) return;
    if (nativeLoop().processId() !== this.#process) {
      // What came before the fork came to the parent, and its end is taken care of there.
      this.#process = nativeLoop().processId();
      this.#calls = [];
      this.#cursor = 0;
      for (const watched of this.#watched.values()) watched.internal = undefined;
    }
    for (const [number, watched] of this.#watched) {
      this.#native.watch(this.#subscription, number);
      this.#unwatchIfIdle(number, watched);
    }
  }

  close(): void {
    for (const { watchers } of [...this.#watched.values()]) for (const watcher of watchers) watcher.stop();
    this.#watched.clear();
    if (this.#subscription !== undefined) this.#native.close(this.#subscription);
    this.#subscription = undefined;
  }

  // --------------------------------------------------------------------------------- the native half

  #watch(number: number): Watched {
    this.#host.ready();
    if (this.#subscription === undefined) {
      const opened = this.#native.open(this.#host.handle, this.#mailbox);
      if (typeof opened === 'number') throw systemError(opened, 'sigaction');
      this.#subscription = opened;
      this.#process = nativeLoop().processId();
    }
    // Also when it is watched: somebody may have taken our handler out.
    const errno = this.#native.watch(this.#subscription, number);
    if (errno < 0) throw systemError(errno, 'sigaction');
    let watched = this.#watched.get(number);
    if (watched === undefined) {
      watched = { name: signalName(number), watchers: [], internal: undefined };
      this.#watched.set(number, watched);
    }
    return watched;
  }

  #unwatchIfIdle(number: number, watched: Watched): void {
    if (watched.watchers.length > 0 || watched.internal !== undefined) return;
    this.#watched.delete(number);
    if (this.#subscription !== undefined) this.#native.unwatch(this.#subscription, number);
  }

  /** Empties the mailbox, and what would not fit into it. */
  #take(): void {
    const mailbox = this.#mailbox;
    const calls = this.#calls;
    for (;;) {
      const end = FIRST_ROW + (mailbox[COUNT] as number) * ROW;
      mailbox[COUNT] = 0;
      for (let at = FIRST_ROW; at < end; at += ROW) {
        const watched = this.#watched.get(mailbox[at] as number);
        if (watched === undefined) continue;
        watched.internal?.();
        const { watchers } = watched;
        if (watchers.length === 0) continue;
        const info = describe(watched.name, mailbox, at);
        for (let i = 0; i < watchers.length; i++) calls.push(watchers[i] as SignalWatch, info);
      }
      if (mailbox[WANTED] === 0 || this.#subscription === undefined) return;
      this.#native.fetch(this.#subscription);
    }
  }
}

function describe(signal: string, rows: Int32Array, at: number): SignalInfo {
  const number = rows[at] as number;
  const count = (rows[at + 1] as number) >>> 0;
  const code = rows[at + 2] as number;
  const known = rows[at + 3] as number;
  if (known === KNOWN_SENDER) {
    return { signal, number, count, code, pid: rows[at + 4] as number, uid: (rows[at + 5] as number) >>> 0 };
  }
  const info: SignalInfo = { signal, number, count, code };
  if (known & KNOWN_SENDER) {
    info.pid = rows[at + 4] as number;
    info.uid = (rows[at + 5] as number) >>> 0;
  }
  if (known & KNOWN_VALUE) info.value = rows[at + 6] as number;
  return info;
}

function watchable(signal: SignalName | number): number {
  const number = signalNumber(signal);
  if (number === SIGKILL || number === SIGSTOP) throw uncatchableSignal(signalName(number));
  if (SYNCHRONOUS.includes(number)) {
    throw reservedSignal(signalName(number), 'the processor raises it at instructions that cannot go on');
  }
  if (number === SIGPROF) throw reservedSignal('SIGPROF', "V8's profiler samples with it");
  const name = signalName(number);
  // Numbers without a name: the C library's own, for threads.
  if (/^SIG\d+$/.test(name)) throw reservedSignal(name, 'the C library uses it for its threads');
  return number;
}
