/**
 * The native floor of forks as TypeScript sees it: `native/fork.cc`, and `native/v8/addon.cc`, which is loaded when
 * somebody first forks or asks whether he could. All functions return a result or a negative errno.
 */
import { addon, v8Addon } from '../native.ts';

export const FLAG_KEEP_SIGNALS = 1;
export const FLAG_CLOSE_HANDLES = 2;
export const FLAG_LISTED = 4;
export const FLAG_DETACHED = 8;

/** What `quiet` says of a moment to fork in. */
export const NEVER = -1;
export const NOT_YET = 0;
export const BUT_FOR_IMMEDIATES = 1;
export const QUIET = 2;

/** It is a file: then Node may have a stream for it, of which libuv knows nothing. */
export const OUTPUT_FILE = 1;
/** libuv has a stream for it, and so has Node. */
export const OUTPUT_STREAM = 2;

export interface NativeFork {
  useHooks(hooks: object): number;
  /**
   * Forks when `quiet` says 2 (or 1, if that goes on), V8's threads rest and no JavaScript is on the stack; after `ms`
   * at the latest it gives up. `done` is called in both processes: with the pid and a descriptor to read the child's
   * first report from, with 0 in the child, or with a negative errno (-EBUSY: no quiet moment). `pidfd` is a detached
   * child's, or -1.
   */
  forkLater(
    flags: number,
    named: Int32Array,
    ms: number,
    quiet: () => number,
    done: (pid: number, report: number, pidfd: number) => void,
  ): number;
  /** Right here. The pid, 0 in the child, or a negative errno; -EBUSY: try again, or abandon. `out`: report and pidfd. */
  forkNow(flags: number, named: Int32Array, out: Int32Array): number;
  abandon(): void;
  /** In a child: it lives. */
  report(): void;
  /** Number and name of each of this process's threads. Empty where the system does not tell. */
  threads(): [number, string][];
  /** From the kernel; false when it did not. */
  fillRandom(bytes: Uint8Array): boolean;
  /** Requests that libuv has under way. */
  requests(): number;
  /** Whether Node's event loop would go on. */
  hasWork(): boolean;
  /** Whether Node can have a stream for `fd`, 1 or 2; see OUTPUT_FILE. */
  outputKind(fd: number): number;
  /**
   * Writes what libuv has queued for `fd`, 1 or 2, and `rest`; waits for its reader, `patience` ms when it takes nothing
   * and `limit` ms altogether. How many bytes were not written, 0 when the reader is gone.
   */
  finishOutput(fd: number, rest: Uint8Array, patience: number, limit: number): number;
  end(code: number): never;
}

interface NativeV8 {
  /** The hooks, or why there are none. */
  forForks?(singleThreaded: boolean): object | string;
  reseed?(random: () => number, seed: Uint8Array): boolean;
  forInterrupts?(): object | undefined;
}

export type V8State = 'workers-recreated' | 'single-threaded' | 'unsupported';

let native: NativeFork | undefined;
let v8: NativeV8 | undefined;
let state: V8State | undefined;
let unsupported = '';

export function nativeFork(): NativeFork {
  native ??= addon<{ fork: NativeFork }>().fork;
  return native;
}

/** Makes forks possible, if they are; to be asked before each. */
export function v8State(): V8State {
  if (state !== undefined) return state;
  const installed = install();
  // What could not be loaded may be next time: perhaps no descriptor was left.
  if (v8 !== undefined) state = installed;
  return installed;
}

/** Why `v8State` says 'unsupported'. */
export function whyUnsupported(): string {
  return unsupported;
}

/** Gives Math.random another course. False when it keeps its old one. */
export function reseed(random: () => number, seed: Uint8Array): boolean {
  return v8?.reseed?.(random, seed) ?? false;
}

/** V8's hooks for a lifeline, or why there are none. */
export function interruptHooks(): object | string {
  const why = load();
  if (v8 === undefined) return why;
  return v8.forInterrupts?.() ?? `forkbeard_v8 was built for another Node than ${process.version}`;
}

/** Loads the addon, if it is not there yet. Says why that failed. */
function load(): string {
  let why = '';
  v8 ??= v8Addon((error) => {
    why = `there is no forkbeard_v8 for Node ${process.version} (${firstLine(error)})`;
  }) as NativeV8 | undefined;
  return why;
}

function install(): V8State {
  unsupported = load();
  if (v8 === undefined) return 'unsupported';
  if (v8.forForks === undefined) {
    unsupported = `forkbeard_v8 was built for another Node than ${process.version}`;
    return 'unsupported';
  }
  const singleThreaded = runsSingleThreaded();
  const hooks = v8.forForks(singleThreaded);
  if (typeof hooks === 'string') {
    unsupported = hooks;
    return 'unsupported';
  }
  if (nativeFork().useHooks(hooks) < 0) {
    unsupported = 'forkbeard.node and forkbeard_v8.node belong to different versions of forkbeard';
    return 'unsupported';
  }
  return singleThreaded ? 'single-threaded' : 'workers-recreated';
}

/** V8 takes dashes for underscores, and the last word counts. NODE_OPTIONS refuses the flag. */
function runsSingleThreaded(): boolean {
  const said = process.execArgv
    .map((argument) => argument.replaceAll('_', '-'))
    .filter((argument) => /^--(no-?)?single-threaded$/.test(argument));
  return said.at(-1) === '--single-threaded';
}

function firstLine(error: unknown): string {
  return String((error as Error).message).split('\n')[0] as string;
}
