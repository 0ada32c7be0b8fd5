/**
 * What the native floor gives to this room. Its functions return a result or a negative errno, and undefined when an
 * argument is of a wrong type or out of range: they may be called with anything. Where `Result` is returned
 * the caller makes use of that; everywhere else it checks the arguments before.
 */
import { addon } from '../native.ts';

export type Result = number | undefined;

/** A call without a buffer is about the one that its direction had last, which must be as it was then. */
export interface Transfers {
  read(buffer?: Uint8Array): void;
  write(buffer?: Uint8Array): void;
  recv(buffer?: Uint8Array): void;
  send(buffer?: Uint8Array): void;
}

export interface SysAddon {
  /** The calls that find their arguments in `frame`, [fd, offset, length, result], and leave their result there. */
  transfers(frame: Int32Array): Transfers;
  /** The sender's host or path; `out` becomes [bytes, port or -1]. */
  recvFrom(fd: number, buffer: Uint8Array, out: Int32Array): number | string;
  sendTo(fd: number, buffer: Uint8Array, host: string, port: number): Result;
  sendTo(fd: number, buffer: Uint8Array, path: string): Result;

  socket(family: number, type: number): number;
  socketpair(type: number, out: Int32Array): number;
  accept(fd: number): Result;
  connect(fd: number, host: string, port: number): Result;
  connect(fd: number, path: string): Result;
  bind(fd: number, host: string, port: number): Result;
  bind(fd: number, path: string): Result;
  listen(fd: number, backlog: number): number;
  shutdown(fd: number, how: number): number;
  /** The host or path; `out[1]` becomes the port or -1. */
  localAddress(fd: number, out: Int32Array): number | string;
  peerAddress(fd: number, out: Int32Array): number | string;

  pipe(out: Int32Array): number;
  close(fd: number): number;
  closeWithEnvironment(fd: number, on: boolean): number;
  dup(fd: number, atLeast: number): number;
  setNonBlocking(fd: number, on: boolean): number;
  setCloseOnExec(fd: number, on: boolean): number;

  /** `count` of the numbers in `descriptors`. */
  sendDescriptors(fd: number, data: Uint8Array, descriptors: Int32Array, count: number): number;
  /** Bytes; `out` becomes [count, truncated, pid or -1, uid, gid, descriptors…]. */
  receiveDescriptors(fd: number, buffer: Uint8Array, max: number, out: Int32Array): number;
  /** `out` becomes [pid, uid, gid]. */
  peerCredentials(fd: number, out: Int32Array): number;
  /** As many as one message may carry. */
  readonly maxDescriptors: number;

  /** Names of this platform's socket options; they are called by their index. */
  readonly socketOptions: readonly string[];
  setSocketOption(fd: number, option: number, value: number): number;
  /** The value in `out[0]`. */
  getSocketOption(fd: number, option: number, out: Int32Array): number;

  /** `device` is the name of an interface, '' for the one that the kernel chooses. */
  multicast(fd: number, join: boolean, group: string, device: string): number;

  kill(pid: number, signal: number): number;
  exit(code: number): never;

  readonly AF_INET: number;
  readonly AF_INET6: number;
  readonly AF_UNIX: number;
  readonly SOCK_STREAM: number;
  readonly SOCK_DGRAM: number;
  readonly SOCK_SEQPACKET: number;
  /** Bytes of the longest unix path; one less for a name in the file system. */
  readonly maxPath: number;
  readonly SIGRTMIN?: number;
  readonly SIGRTMAX?: number;
}

export const native: SysAddon = addon<{ sys: SysAddon }>().sys;
