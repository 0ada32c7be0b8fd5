/**
 * Processes that somebody in this thread watches or owns: one record each, however many loops and watchers there are.
 * The record looks at the process without reaping it and remembers how it ended, so that every loop learns the same;
 * it holds the pidfd, by which no signal ever meets a stranger.
 */
import { nativeLoop } from '../loop/native-loop.ts';
import { EINVAL, ENOENT, ESRCH } from '../sys/errno.ts';
import { stateError, systemError } from '../sys/errors.ts';
import type { ExitStatus } from './contract.ts';
import { exitStatus, exitWithoutStatus } from './exit-status.ts';
import { Kinship, nativeChild } from './native.ts';

const records = new Map<number, ProcessRecord>();
let recordsOf = 0;

/** The records of this process. After a fork there are none: its children are not ours, and native code has closed the pidfds. */
function book(): Map<number, ProcessRecord> {
  const self = nativeLoop().processId();
  if (self !== recordsOf) {
    records.clear();
    recordsOf = self;
  }
  return records;
}

const out = new Int32Array(2);
const NO_PROCESS = -ESRCH;

export class ProcessRecord {
  readonly pid: number;
  /** -1 where there are none, or no descriptor is left for one. */
  readonly pidfd: number;
  readonly kinship: number;
  /** Whoever owns it reaps it. */
  readonly owned: boolean;
  /** How it ended, as soon as somebody has looked. */
  exit: ExitStatus | null = null;
  readonly #birth: number;
  /** The process whose record this is: a forked child has no use for it. */
  readonly #of = nativeLoop().processId();
  #holders = 0;
  #reaped = false;

  private constructor(pid: number, pidfd: number, kinship: number, owned: boolean) {
    this.pid = pid;
    this.pidfd = pidfd;
    this.kinship = kinship;
    this.owned = owned;
    this.#birth = pidfd < 0 ? nativeChild().birth(pid) : 0;
  }

  /** The record of any process. Throws ESRCH when there is none of that number. */
  static of(pid: number): ProcessRecord {
    const known = book().get(pid);
    if (known !== undefined) return known;
    const native = nativeChild();
    const opened = native.open(pid);
    // EINVAL, since Linux 6.16 ENOENT: the number of a thread.
    if (opened === NO_PROCESS || opened === -EINVAL || opened === -ENOENT) {
      throw systemError(NO_PROCESS, 'pidfd_open', { pid });
    }
    // Everything else says that there can be no pidfd: an old kernel, a sandbox, no descriptor left.
    const pidfd = Math.max(-1, opened);
    if (pidfd < 0 && native.signal(pid, -1, 0) === NO_PROCESS) throw systemError(NO_PROCESS, 'kill', { pid });
    const record = new ProcessRecord(pid, pidfd, native.kinship(pid, pidfd), false);
    records.set(pid, record);
    return record;
  }

  /** Whether somebody in this thread watches or owns it. */
  static isKnown(pid: number): boolean {
    return book().has(pid);
  }

  /** The record of a child that we have just made. `pidfd` changes hands; -1 when the caller has none. */
  static ofOwn(pid: number, pidfd: number): ProcessRecord {
    const native = nativeChild();
    const opened = pidfd < 0 ? Math.max(-1, native.open(pid)) : native.keep(pidfd);
    const record = new ProcessRecord(pid, opened, Kinship.OURS, true);
    book().set(pid, record);
    return record;
  }

  /** The record of a child that was given away. It has come to us if we are the nearest subreaper, or the only process. */
  static ofDetached(pid: number, pidfd: number): ProcessRecord {
    const native = nativeChild();
    const kept = pidfd < 0 ? -1 : native.keep(pidfd);
    const kinship = native.kinship(pid, kept);
    const record = new ProcessRecord(pid, kept, kinship, kinship === Kinship.OURS);
    book().set(pid, record);
    return record;
  }

  hold(): void {
    this.#holders++;
  }

  /** The last holder closes the pidfd. */
  release(): void {
    if (--this.#holders > 0 || this.#of !== nativeLoop().processId()) return;
    this.#forget();
    if (this.kinship === Kinship.LIBUVS) nativeChild().disregard(this.pid);
    if (this.pidfd >= 0) nativeChild().close(this.pidfd);
  }

  get reaped(): boolean {
    return this.#reaped;
  }

  /** Throws in a forked child, where the process is the parent's. */
  checkOurs(): void {
    if (this.#of === nativeLoop().processId()) return;
    throw stateError('LOOP_FORKED', `Process ${this.pid} is a child of the parent process, not of this one`);
  }

  /** Looks whether it has ended. Does not reap it. */
  observe(): boolean {
    if (this.exit !== null) return true;
    const seen = nativeChild().observe(this.pid, this.pidfd, out);
    if (seen === 0) {
      // Without a pidfd the number is all we have of a stranger, and somebody else may have it by now.
      if (this.pidfd >= 0 || this.kinship !== Kinship.STRANGER) return false;
      if (nativeChild().birth(this.pid) === this.#birth) return false;
      this.exit = exitWithoutStatus(this.pid, false);
    } else if (seen === 1) {
      this.exit = exitStatus(this.pid, out[0] as number);
    } else if (this.kinship === Kinship.STRANGER) {
      this.exit = exitWithoutStatus(this.pid, false);
    } else if (this.kinship !== Kinship.OURS && out[1] === 1) {
      // Whose duty it is has reaped it, and the kernel still knows.
      this.exit = exitStatus(this.pid, out[0] as number);
    } else {
      this.exit = exitWithoutStatus(this.pid, true);
    }
    // Somebody else will free the number.
    if (!this.owned) this.#forget();
    return true;
  }

  /** Lets the kernel forget it, when that is our duty. Afterwards its number may become another process's. */
  reap(): void {
    if (this.#reaped || this.kinship !== Kinship.OURS) return;
    this.#reaped = true;
    nativeChild().reap(this.pid, this.pidfd, out);
    this.#forget();
  }

  #forget(): void {
    if (records.get(this.pid) === this) records.delete(this.pid);
  }
}
