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

interface Call {
  readonly watcher: SignalWatch;
  readonly info: SignalInfo;
}

export class Signals implements Phase {
  readonly #host: ProcessHost;
  #subscription: object | undefined;
  #process = 0;
  readonly #flag = new Int32Array(1);
  readonly #rows = new Int32Array(ROW * ROWS);
  /** Arrays are replaced, never changed in place. */
  readonly #watchers = new Map<number, readonly SignalWatch[]>();
  /** Called before the users' watchers, for the loop's own purposes. */
  readonly #internal = new Map<number, () => void>();
  // What is to be called in this round. A round inside a callback goes on with it.
  #calls: Call[] = [];
  #cursor = 0;

  constructor(host: ProcessHost) {
    this.#host = host;
  }

  watch(signal: SignalName | number, callback: (info: SignalInfo) => void): SignalWatch {
    const number = watchable(signal);
    this.#host.ready();
    this.#subscribe(number);
    const watcher = new SignalWatch(this, this.#host, number, callback);
    this.#watchers.set(number, [...(this.#watchers.get(number) ?? []), watcher]);
    return watcher;
  }

  /** For the loop's own purposes: not counted, keeps nobody alive, and lasts as long as the loop. Must not throw. */
  watchInternally(signal: SignalName, onSignal: () => void): void {
    const number = watchable(signal);
    this.#host.ready();
    this.#subscribe(number);
    this.#internal.set(number, onSignal);
  }

  unwatchInternally(signal: SignalName): void {
    const number = watchable(signal);
    if (this.#internal.delete(number)) this.#unsubscribe(number);
  }

  /** @internal */
  remove(watcher: SignalWatch): void {
    const { number } = watcher;
    const left = (this.#watchers.get(number) ?? []).filter((other) => other !== watcher);
    if (left.length > 0) {
      this.#watchers.set(number, left);
      return;
    }
    this.#watchers.delete(number);
    this.#unsubscribe(number);
  }

  // --------------------------------------------------------------------------------- as a phase

  get pending(): boolean {
    return this.#flag[0] !== 0 || this.#cursor < this.#calls.length;
  }

  run(): void {
    if (this.#flag[0] !== 0) this.#take();
    while (this.#cursor < this.#calls.length) {
      const { watcher, info } = this.#calls[this.#cursor++] as Call;
      if (watcher.active) this.#host.invoke(watcher, watcher.callback, info);
    }
    if (this.#calls.length > 0) {
      this.#calls = [];
      this.#cursor = 0;
    }
  }

  recreated(): void {
    if (this.#subscription === undefined) return;
    if (nativeLoop().processId() !== this.#process) {
      // What came before the fork came to the parent, and its end is taken care of there.
      this.#process = nativeLoop().processId();
      this.#calls = [];
      this.#cursor = 0;
      this.#internal.clear();
    }
    for (const number of this.#watchers.keys()) nativeSignals().watch(this.#subscription, number);
    for (const number of this.#internal.keys()) nativeSignals().watch(this.#subscription, number);
  }

  close(): void {
    for (const watchers of [...this.#watchers.values()]) for (const watcher of watchers) watcher.stop();
    this.#internal.clear();
    if (this.#subscription !== undefined) nativeSignals().close(this.#subscription);
    this.#subscription = undefined;
  }

  // --------------------------------------------------------------------------------- the native half

  #subscribe(number: number): void {
    if (this.#subscription === undefined) {
      const opened = nativeSignals().open(this.#host.handle, this.#flag);
      if (typeof opened === 'number') throw systemError(opened, 'sigaction');
      this.#subscription = opened;
      this.#process = nativeLoop().processId();
    }
    const errno = nativeSignals().watch(this.#subscription, number);
    if (errno < 0) throw systemError(errno, 'sigaction');
  }

  #unsubscribe(number: number): void {
    if (this.#subscription === undefined || this.#watchers.has(number) || this.#internal.has(number)) return;
    nativeSignals().unwatch(this.#subscription, number);
  }

  #take(): void {
    const rows = this.#rows;
    let count: number;
    do {
      count = this.#subscription === undefined ? 0 : nativeSignals().take(this.#subscription, rows);
      for (let at = 0; at < count * ROW; at += ROW) {
        const number = rows[at] as number;
        this.#internal.get(number)?.();
        const watchers = this.#watchers.get(number);
        if (watchers === undefined) continue;
        const info = describe(rows, at);
        for (const watcher of watchers) this.#calls.push({ watcher, info });
      }
    } while (count === ROWS);
  }
}

function describe(rows: Int32Array, at: number): SignalInfo {
  const number = rows[at] as number;
  const known = rows[at + 3] as number;
  const info: SignalInfo = {
    signal: signalName(number),
    number,
    count: (rows[at + 1] as number) >>> 0,
    code: rows[at + 2] as number,
  };
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
