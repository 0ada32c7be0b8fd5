/**
 * The native half of a loop as TypeScript sees it: `native/loop.cc`, and the bits of `native/poller/poller.h`. All
 * functions return a result or a negative errno; -ESTALE says that the kernel objects are those of the parent process.
 */
import { addon } from '../native.ts';
import type { BackendName } from './contract.ts';

/** What is asked of the poller and what it reports: the same bits in both directions. */
export const READ = 1;
export const WRITE = 2;
export const HANGUP = 4;
export const ERROR = 8;
export const INVALID = 16;
export const EDGE = 32;
export const EXCLUSIVE = 64;
export const HALF_CLOSED = 128;

export type Handle = object;

export interface NativeLoop {
  /** What this machine can run, best first. */
  backends(): BackendName[];
  open(backend: BackendName): Handle | number;
  /**
   * One number that is another one in a forked child, whoever forked it: a loop that was made under another one has the
   * parent's kernel objects. Memory that the kernel itself changes, so that looking costs nothing.
   */
  forkWord(): Uint32Array;
  /** The true one: `process.pid` is what it was when Node started. */
  processId(): number;
  fd(loop: Handle): number;
  /** Where batches go: triples of slot, generation, mask. */
  setBatch(loop: Handle, batch: Uint32Array): number;
  add(loop: Handle, slot: number, generation: number, fd: number, mask: number): number;
  modify(loop: Handle, slot: number, mask: number): number;
  remove(loop: Handle, slot: number): number;
  /** Waits `ms` at most (Infinity: no limit) and returns the number of events in the batch. */
  wait(loop: Handle, ms: number): number;
  wake(loop: Handle): number;
  /** For integrated mode: a turn in `ms` milliseconds; negative: none. */
  setAlarm(loop: Handle, ms: number): number;
  /** The same at a wall-clock time (epoch ms), and whenever that clock is set. -ENOTSUP where the kernel cannot. */
  setWallAlarm(loop: Handle, at: number): number;
  /** From now on Node's event loop calls `turn(count)` with a batch whenever there is something. */
  startDrive(loop: Handle, turn: (count: number) => void): number;
  /** Whether Node lives as long as this loop. */
  setRef(loop: Handle, ref: boolean): number;
  /** Whether `turn`, and all that it refers to, is kept from the garbage collector. */
  setHold(loop: Handle, hold: boolean): number;
  /** Whether there is work that does not wait: a turn comes in every turn of Node's loop. */
  setPending(loop: Handle, pending: boolean): number;
  recreate(loop: Handle): number;
  close(loop: Handle): number;
  /** Why the kernel reports ERR on this descriptor, as a positive errno. */
  descriptorError(fd: number): number;
  /** What Node does about an error that nobody caught: 'uncaughtException', or the end of the process. */
  uncaught(error: unknown): void;
}

let loaded: NativeLoop | undefined;
let forkWord: Uint32Array | undefined;

export function nativeLoop(): NativeLoop {
  loaded ??= addon<{ loop: NativeLoop }>().loop;
  return loaded;
}

/** Differs between a process and its forked children. */
export function forkGeneration(): number {
  forkWord ??= nativeLoop().forkWord();
  return forkWord[0] as number;
}
