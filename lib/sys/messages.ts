/**
 * Descriptors and credentials that travel beside the bytes of a unix socket. Both calls throw on failure, EAGAIN
 * included. A received descriptor belongs to the caller, who closes it.
 */
import { check, checkBytes, checkFd, checkInteger, invalidType, outOfRange } from './errors.ts';
import { native } from './native.ts';

/** Who is at the other end, as the kernel knows it. `pid` is 0 where the platform does not tell. */
export interface Credentials {
  pid: number;
  uid: number;
  gid: number;
}

export interface ReceivedDescriptors {
  bytes: number;
  /** Close-on-exec. Whether they block is up to their sender, who shares the open files. */
  descriptors: number[];
  /** Only there when descriptors were lost: more than `max`, or more than this process may have open. */
  truncated?: true;
  /** The sender's, only there when the socket has the option 'passCredentials'. */
  credentials?: Credentials;
}

const { maxDescriptors } = native;
const list = new Int32Array(maxDescriptors);
// What the native floor writes before the descriptors.
const header = 5;
const out = new Int32Array(header + maxDescriptors);

/**
 * sendmsg(2) with SCM_RIGHTS: `data` (at least a byte: a stream drops descriptors that come with none) and 253
 * descriptors at most. Returns how many bytes were taken; the descriptors went with the first of them.
 */
export function sendDescriptors(fd: number, data: Uint8Array, descriptors: readonly number[]): number {
  checkFd(fd);
  checkSome(data, 'data');
  if (!Array.isArray(descriptors)) throw invalidType('descriptors', 'an array of descriptors', descriptors);
  const count = descriptors.length;
  if (count > maxDescriptors) {
    throw outOfRange('descriptors.length', `>= 0 and <= ${maxDescriptors}`, count);
  }
  for (let index = 0; index < count; index++) {
    const descriptor: unknown = descriptors[index];
    checkFd(descriptor, `descriptors[${index}]`);
    list[index] = descriptor;
  }
  return check(native.sendDescriptors(fd, data, list, count), 'sendmsg', { fd });
}

/** recvmsg(2): bytes, and the descriptors that came with them. Those beyond `max` (default 253) are closed. */
export function receiveDescriptors(
  fd: number,
  buffer: Uint8Array,
  max = maxDescriptors,
): ReceivedDescriptors {
  checkFd(fd);
  checkSome(buffer, 'buffer');
  checkInteger(max, 'max', 0, maxDescriptors);
  const bytes = check(native.receiveDescriptors(fd, buffer, max, out), 'recvmsg', { fd });
  const count = out[0] as number;
  const result: ReceivedDescriptors = { bytes, descriptors: [...out.subarray(header, header + count)] };
  if (out[1] !== 0) result.truncated = true;
  if (out[2] !== -1) result.credentials = credentials(out.subarray(2, header));
  return result;
}

/** Who connected, or listens, at the other end of a unix stream; for a `socketpair`: who made it. */
export function peerCredentials(fd: number): Credentials {
  checkFd(fd);
  check(native.peerCredentials(fd, out), 'getsockopt', { fd });
  return credentials(out);
}

function credentials(numbers: Int32Array): Credentials {
  const [pid = 0, uid = 0, gid = 0] = numbers;
  // User and group ids are unsigned.
  return { pid, uid: uid >>> 0, gid: gid >>> 0 };
}

function checkSome(value: unknown, name: string): void {
  checkBytes(value, name);
  if (value.length === 0) throw outOfRange(`${name}.length`, '>= 1', 0);
}
