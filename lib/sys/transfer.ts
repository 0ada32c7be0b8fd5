/**
 * The data path: bytes in and out of descriptors. These return a count or `-errno` and throw for wrong arguments only.
 * `read`, `write`, `recv` and `send` are called for every message of a server, and a call into native code costs by the
 * argument: what they are about is checked here and stands in a frame that both sides see, and a buffer that is used
 * again is not looked up again.
 */
import { type Address, checkAddress, makeAddress, takeApart } from './address.ts';
import { checkBytes, checkFd, checkInteger, invalidValue } from './errors.ts';
import { native } from './native.ts';

// Where in the frame.
const FD = 0;
const OFFSET = 1;
const LENGTH = 2;
const RESULT = 3;

const frame = new Int32Array(4);
const { read: nativeRead, write: nativeWrite, recv: nativeRecv, send: nativeSend } = native.transfers(frame);

const out = new Int32Array(2);

/** What fits into the frame. The kernel moves no more at once. */
const MOST = 0x7fff_ffff;
/** A buffer with more memory than this is not kept from the garbage collector for the sake of its next use. */
const MOST_KEPT = 1 << 20;

/** An array's own length, whatever properties it has been given. It is 0 when the memory is gone. */
const lengthOf = Function.prototype.call.bind(
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), 'length')?.get as () => number,
) as (array: Uint8Array) => number;

/** The buffer that the native floor has looked up last for one direction: as long as its length stays, it is there. */
interface Kept {
  buffer: Uint8Array;
  length: number;
}
const NONE = new Uint8Array(0);
const input: Kept = { buffer: NONE, length: -1 };
const output: Kept = { buffer: NONE, length: -1 };

/**
 * read(2) into `buffer` from `offset` on, `length` bytes at most (default: all that is left of the buffer).
 * Returns the count, 0 at the end of the data, or `-errno`. Repeated after EINTR.
 */
export function read(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  if (isKept(input, fd, buffer, offset, length)) nativeRead();
  else transfer(nativeRead, input, fd, buffer, offset, length);
  return frame[RESULT] as number;
}

/** write(2) of `buffer`, or of `length` bytes of it from `offset` on. Returns the count that was taken, or `-errno`. */
export function write(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  if (isKept(output, fd, buffer, offset, length)) nativeWrite();
  else transfer(nativeWrite, output, fd, buffer, offset, length);
  return frame[RESULT] as number;
}

/** recv(2): as `read`, on a socket. What does not fit of a datagram is lost. */
export function recv(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  if (isKept(input, fd, buffer, offset, length)) nativeRecv();
  else transfer(nativeRecv, input, fd, buffer, offset, length);
  return frame[RESULT] as number;
}

/** send(2): as `write`, on a socket. A peer that is gone is `-EPIPE`, never a SIGPIPE. */
export function send(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  if (isKept(output, fd, buffer, offset, length)) nativeSend();
  else transfer(nativeSend, output, fd, buffer, offset, length);
  return frame[RESULT] as number;
}

/** True, with the frame filled in, if a call is about the buffer of the call before, and nothing is wrong with it. */
function isKept(kept: Kept, fd: number, buffer: Uint8Array, offset = 0, length?: number): boolean {
  if (buffer !== kept.buffer || lengthOf(buffer) !== kept.length) return false;
  if (!isIndex(fd) || !isIndex(offset)) return false;
  const left = kept.length - offset;
  const count = length === undefined ? left : length;
  if (!isIndex(count) || count > left) return false;
  frame[FD] = fd;
  frame[OFFSET] = offset;
  frame[LENGTH] = count;
  return true;
}

function isIndex(value: unknown): boolean {
  return typeof value === 'number' && (value | 0) === value && value >= 0;
}

/** Any other call. */
function transfer(
  call: (buffer: Uint8Array) => void,
  kept: Kept,
  fd: number,
  buffer: Uint8Array,
  offset = 0,
  length?: number,
): void {
  checkFd(fd);
  checkBytes(buffer, 'buffer');
  const size = lengthOf(buffer);
  checkInteger(offset, 'offset', 0, size);
  if (length !== undefined) checkInteger(length, 'length', 0, size - offset);
  const count = length ?? size - offset;
  if (offset > MOST) {
    transfer(call, kept, fd, new Uint8Array(buffer.buffer, buffer.byteOffset + offset, count));
    return;
  }
  const isSmall = buffer.buffer.byteLength <= MOST_KEPT;
  // From here on nobody's getter runs, who might call us.
  kept.buffer = NONE;
  frame[FD] = fd;
  frame[OFFSET] = offset;
  frame[LENGTH] = Math.min(count, MOST);
  call(buffer);
  if (!isSmall) return;
  kept.buffer = buffer;
  kept.length = size;
}

/** recvfrom(2). Returns the count with the sender's address, or `-errno`. What does not fit of a datagram is lost. */
export function recvFrom(fd: number, buffer: Uint8Array): number | { bytes: number; from: Address } {
  checkFd(fd);
  checkBytes(buffer, 'buffer');
  const from = native.recvFrom(fd, buffer, out);
  if (typeof from === 'number') return from;
  return { bytes: out[0] as number, from: makeAddress(from, out[1] as number) };
}

/** sendto(2) of the whole buffer. Returns the count, or `-errno`. */
export function sendTo(fd: number, buffer: Uint8Array, to: Address): number {
  checkFd(fd);
  checkBytes(buffer, 'buffer');
  const parts = takeApart(to, 'to');
  const { path, host, port } = parts;
  const result = path === undefined ? native.sendTo(fd, buffer, host, port) : native.sendTo(fd, buffer, path);
  if (result !== undefined) return result;
  checkAddress(parts, 'to');
  throw invalidValue('to', 'an address', to);
}
