/**
 * The native floor of processes as TypeScript sees it: `native/signals.cc` and `native/child.cc`. All functions return
 * a result or a negative errno.
 */
import { addon } from '../native.ts';

export interface NativeSignals {
  /**
   * What one loop watches. `mailbox`: 1 while there is something to fetch, how many rows are there to be taken, then the
   * rows [number, count, code, what is known, pid, uid, value]. They are there before each round; a number of 0 is none.
   */
  open(loop: object, mailbox: Int32Array): object | number;
  watch(subscription: object, number: number): number;
  unwatch(subscription: object, number: number): number;
  /** Fills the mailbox, when all rows are taken. */
  fetch(subscription: object): number;
  close(subscription: object): number;
}

/** Who reaps a process. */
export const Kinship = {
  /** It is no child of this process. */
  STRANGER: 0,
  /** A child that another thread forked: perhaps that thread's child_process waits for it. */
  ANOTHER_THREADS: 1,
  /** A child of this thread's child_process. */
  LIBUVS: 2,
  /** A child that nobody else would reap. */
  OURS: 3,
} as const;

export type Kinship = (typeof Kinship)[keyof typeof Kinship];

export interface NativeChild {
  /** A pidfd. */
  open(pid: number): number;
  /** Takes charge of a pidfd that was made elsewhere; returns it. */
  keep(pidfd: number): number;
  close(pidfd: number): number;
  kinship(pid: number, pidfd: number): number;
  /**
   * 0 while it runs, 1 when it has ended (out[0] is the wait status), 2 when it has ended and cannot be waited for
   * (out[1] is 1 if libuv or the kernel remembers the status, which is then in out[0]).
   */
  observe(pid: number, pidfd: number, out: Int32Array): number;
  /** Lets go of what `kinship` began to keep for a child of libuv's. */
  disregard(pid: number): number;
  reap(pid: number, pidfd: number, out: Int32Array): number;
  signal(pid: number, pidfd: number, number: number): number;
  /** -EINVAL when the kernel does not address groups by pidfd; with a pidfd of -1 by number. */
  signalGroup(group: number, pidfd: number, number: number): number;
  /** How many of its processes have not ended; the first ones are in `out`. */
  groupMembers(group: number, out: Int32Array): number;
  groupOf(pid: number): number;
  /** Tells a process from a later one with the same pid. Negative: unknown, or there is none. */
  birth(pid: number): number;
  openQueue(): number;
  addToQueue(queue: number, pid: number): number;
  removeFromQueue(queue: number, pid: number): number;
  takeFromQueue(queue: number, pids: Int32Array): number;
}

let loaded: { signals: NativeSignals; child: NativeChild } | undefined;

function load() {
  loaded ??= addon<{ signals: NativeSignals; child: NativeChild }>();
  return loaded;
}

export function nativeSignals(): NativeSignals {
  return load().signals;
}

export function nativeChild(): NativeChild {
  return load().child;
}
