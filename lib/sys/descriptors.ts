/**
 * Plain descriptors: pipes, duplicates, flags and the end. Failures throw.
 */
import { check, checkBoolean, checkFd, checkInteger } from './errors.ts';
import { native } from './native.ts';

const out = new Int32Array(2);

/** A pipe whose ends are close-on-exec and non-blocking. */
export function pipe(): [readEnd: number, writeEnd: number] {
  check(native.pipe(out), 'pipe');
  return [out[0] as number, out[1] as number];
}

/** close(2). Closing a number that is not open throws EBADF. */
export function close(fd: number): void {
  checkFd(fd);
  check(native.close(fd), 'close', { fd });
}

/**
 * A second descriptor for the same open file, the lowest free number from `atLeast` on, close-on-exec. Whether it
 * blocks is the open file's, so both have it in common.
 */
export function dup(fd: number, atLeast = 0): number {
  checkFd(fd);
  checkInteger(atLeast, 'atLeast', 0, 0x7fff_ffff);
  return check(native.dup(fd, atLeast), 'dup', { fd });
}

/** O_NONBLOCK of the open file behind `fd`, which other descriptors and processes may share. */
export function setNonBlocking(fd: number, on: boolean): void {
  checkFd(fd);
  checkBoolean(on, 'on');
  check(native.setNonBlocking(fd, on), 'fcntl', { fd });
}

/** FD_CLOEXEC of this descriptor: whether programs that this process starts get it. */
export function setCloseOnExec(fd: number, on: boolean): void {
  checkFd(fd);
  checkBoolean(on, 'on');
  check(native.setCloseOnExec(fd, on), 'fcntl', { fd });
}
