/**
 * The data path: bytes in and out of descriptors. These return a count or `-errno` and throw for wrong arguments only.
 * They are called for every message of a server, so the native floor checks the arguments, in one crossing, and only a
 * refused call is looked at here, to say what was wrong with it.
 */
import { type Address, checkAddress, makeAddress, takeApart } from './address.ts';
import { checkBytes, checkFd, checkInteger, invalidValue } from './errors.ts';
import { native } from './native.ts';

const { read: nativeRead, write: nativeWrite, recv: nativeRecv, send: nativeSend } = native;
const { recvFrom: nativeRecvFrom, sendTo: nativeSendTo } = native;

const out = new Int32Array(2);

/**
 * read(2) into `buffer` from `offset` on, `length` bytes at most (default: all that is left of the buffer).
 * Returns the count, 0 at the end of the data, or `-errno`. Repeated after EINTR.
 */
export function read(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  const result =
    offset === undefined && length === undefined
      ? nativeRead(fd, buffer)
      : nativeRead(fd, buffer, offset, length);
  if (result === undefined) throw badTransfer(fd, buffer, offset, length);
  return result;
}

/** write(2) of `buffer`, or of `length` bytes of it from `offset` on. Returns the count that was taken, or `-errno`. */
export function write(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  const result =
    offset === undefined && length === undefined
      ? nativeWrite(fd, buffer)
      : nativeWrite(fd, buffer, offset, length);
  if (result === undefined) throw badTransfer(fd, buffer, offset, length);
  return result;
}

/** recv(2): as `read`, on a socket. What does not fit of a datagram is lost. */
export function recv(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  const result =
    offset === undefined && length === undefined
      ? nativeRecv(fd, buffer)
      : nativeRecv(fd, buffer, offset, length);
  if (result === undefined) throw badTransfer(fd, buffer, offset, length);
  return result;
}

/** send(2): as `write`, on a socket. A peer that is gone is `-EPIPE`, never a SIGPIPE. */
export function send(fd: number, buffer: Uint8Array, offset?: number, length?: number): number {
  const result =
    offset === undefined && length === undefined
      ? nativeSend(fd, buffer)
      : nativeSend(fd, buffer, offset, length);
  if (result === undefined) throw badTransfer(fd, buffer, offset, length);
  return result;
}

/** recvfrom(2). Returns the count with the sender's address, or `-errno`. What does not fit of a datagram is lost. */
export function recvFrom(fd: number, buffer: Uint8Array): number | { bytes: number; from: Address } {
  const from = nativeRecvFrom(fd, buffer, out);
  if (typeof from === 'number') return from;
  if (from === undefined) throw badTransfer(fd, buffer);
  return { bytes: out[0] as number, from: makeAddress(from, out[1] as number) };
}

/** sendto(2) of the whole buffer. Returns the count, or `-errno`. */
export function sendTo(fd: number, buffer: Uint8Array, to: Address): number {
  const parts = takeApart(to, 'to');
  const { path, host, port } = parts;
  const result = path === undefined ? nativeSendTo(fd, buffer, host, port) : nativeSendTo(fd, buffer, path);
  if (result === undefined) {
    checkAddress(parts, 'to');
    throw badTransfer(fd, buffer);
  }
  return result;
}

/** What was wrong with a transfer that the native floor refused. */
function badTransfer(fd: unknown, buffer: unknown, offset: unknown = 0, length?: unknown): Error {
  checkFd(fd);
  checkBytes(buffer, 'buffer');
  checkInteger(offset, 'offset', 0, buffer.length);
  if (length !== undefined) checkInteger(length, 'length', 0, buffer.length - offset);
  // Its length property is not the array's own.
  return invalidValue('buffer', 'an array with its true length', buffer);
}
