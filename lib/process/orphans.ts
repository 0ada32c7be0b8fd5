/**
 * Children that nobody here has made: orphans that came to this process because it is a subreaper, or PID 1 of a
 * container. Somebody must reap them, and `waitpid(-1)` would take other people's children along. So each child of the
 * main thread is looked at by its own number; what neither a loop nor libuv knows, and what nobody has claimed for a
 * second after its end, is nobody's, and is reaped. Other threads' children are not even looked at.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import type { TimeWatcher, Watcher } from '../loop/contract.ts';
import { checkFunction, mainThreadOnly } from '../sys/errors.ts';
import type { ExitStatus } from './contract.ts';
import { exitStatus } from './exit-status.ts';
import type { Loop } from './loop.ts';
import { Kinship, nativeChild } from './native.ts';
import { ProcessRecord } from './record.ts';

/**
 * How long an ended child may wait for whoever made it, ms: an addon that starts programs of its own has a thread of its
 * own that waits for them.
 */
const CLAIM = 1000;

const out = new Int32Array(1);

export interface Orphans extends Disposable {
  /** Orphans that end from now on stay zombies. */
  stop(): void;
}

/**
 * Reaps orphans when they have ended, and tells `onReaped`. To be called by whoever calls `becomeSubreaper`, or is PID 1.
 * Keeps no process alive. Goes on until the loop is closed; a forked child has no orphans.
 */
export function reapOrphans(loop: Loop, onReaped: (exit: ExitStatus) => void = () => {}): Orphans {
  checkFunction(onReaped, 'onReaped');
  if (!isMainThread) throw mainThreadOnly('reapOrphans()');
  return new Reaper(loop, onReaped as (exit: ExitStatus) => void);
}

class Reaper implements Orphans {
  readonly #loop: Loop;
  readonly #onReaped: (exit: ExitStatus) => void;
  readonly #signal: Watcher;
  #again: TimeWatcher | undefined;
  /** Ended and unclaimed when we last looked: the number, and what tells it from a later one with the same. */
  #unclaimed = new Map<number, number>();

  constructor(loop: Loop, onReaped: (exit: ExitStatus) => void) {
    this.#loop = loop;
    this.#onReaped = onReaped;
    this.#signal = loop.watchSignal('SIGCHLD', () => this.#lookLater()).unref();
    // Some may have come, and ended, before.
    this.#lookLater();
  }

  stop(): void {
    this.#signal.stop();
    this.#again?.stop();
    this.#unclaimed.clear();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  /** The second look decides; the list of children may lack one while another ends (proc(5)), so there is always one more. */
  #lookLater(): void {
    if (this.#again?.active) return;
    this.#note();
    this.#again = this.#loop.watchTime({ after: CLAIM }, () => this.#look()).unref();
  }

  #note(): void {
    this.#unclaimed = new Map(endedOrphans().map((pid) => [pid, nativeChild().birth(pid)]));
  }

  #look(): void {
    const before = this.#unclaimed;
    this.#note();
    for (const [pid, birth] of before) {
      if (this.#unclaimed.get(pid) !== birth || birth < 0) continue;
      this.#unclaimed.delete(pid);
      if (nativeChild().reap(pid, -1, out) === 1) this.#onReaped(exitStatus(pid, out[0] as number));
    }
    if (this.#unclaimed.size > 0) this.#lookLater();
  }
}

/** Children of this thread that have ended and that nobody is known to wait for. */
function endedOrphans(): number[] {
  return children().filter((pid) => {
    if (ProcessRecord.isKnown(pid)) return false;
    const native = nativeChild();
    const kinship = native.kinship(pid, -1);
    if (kinship === Kinship.LIBUVS) native.disregard(pid);
    return kinship === Kinship.OURS && native.observe(pid, -1, new Int32Array(2)) === 1;
  });
}

function children(): number[] {
  try {
    return numbers(readFileSync('/proc/thread-self/children', 'latin1'));
  } catch {
    // A kernel without CONFIG_PROC_CHILDREN.
  }
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && parentOf(name) === process.pid)
      .map(Number);
  } catch {
    return [];
  }
}

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // "pid (name) state parent …", and a name may have anything in it.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return -1;
  }
}

function numbers(text: string): number[] {
  return text
    .split(' ')
    .filter((word) => word !== '')
    .map(Number);
}
