/**
 * Memory that several processes see at once: one makes it and hands the descriptor on (to a fork by `inherit`, to a
 * program as one of its descriptors, to anybody over a unix socket), each maps it. A mapping goes on in a forked child,
 * and lasts until its ArrayBuffer is collected; closing the descriptor does not end it.
 */
import { constants } from 'node:buffer';
import { addon } from '../native.ts';
import { ENOTSUP } from '../sys/errno.ts';
import { check, checkFd, checkInteger, stateError, systemError } from '../sys/errors.ts';
import { close } from '../sys/index.ts';

interface NativeMemory {
  create(bytes: number): number;
  map(fd: number, bytes: number): ArrayBuffer | number;
}

let loaded: NativeMemory | undefined;

function native(): NativeMemory {
  loaded ??= addon<{ memory: NativeMemory }>().memory;
  return loaded;
}

/** Zeroes, `bytes` of them. The descriptor is the caller's to close, and close-on-exec. */
export function sharedMemory(bytes: number): { fd: number; memory: ArrayBuffer } {
  checkInteger(bytes, 'bytes', 1, constants.MAX_LENGTH);
  const fd = check(native().create(bytes), 'memfd_create');
  try {
    return { fd, memory: mapSharedMemory(fd, bytes) };
  } catch (error) {
    close(fd);
    throw error;
  }
}

/**
 * Maps the first `bytes` of what `sharedMemory` made, in whichever process. Throws EOVERFLOW when there are fewer, ENODEV
 * for a descriptor of something else. A plain file works as well; whoever makes that shorter ends the processes that
 * touch what is gone (SIGBUS), which cannot happen with memory of `sharedMemory`'s.
 */
export function mapSharedMemory(fd: number, bytes: number): ArrayBuffer {
  checkFd(fd);
  checkInteger(bytes, 'bytes', 1, constants.MAX_LENGTH);
  const mapped = native().map(fd, bytes);
  if (typeof mapped !== 'number') return mapped;
  if (mapped === -ENOTSUP) {
    throw stateError(
      'NO_EXTERNAL_MEMORY',
      'This JavaScript engine takes no memory that it has not made itself',
    );
  }
  throw systemError(mapped, 'mmap', { fd });
}
