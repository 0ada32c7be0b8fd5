/** Descriptors that end with their thread. Not of the public `sys`, whose descriptors are their owner's alone. */
import { isMainThread } from 'node:worker_threads';
import { native } from './native.ts';

/**
 * Whether a descriptor is closed when this thread ends before anybody has closed it: a Worker that is terminated runs no
 * JavaScript any more, and who is at the other end has to know. To be taken back before it is closed.
 */
export function closeWithThread(fd: number, on: boolean): void {
  if (!isMainThread) native.closeWithEnvironment(fd, on);
}
