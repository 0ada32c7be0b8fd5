/**
 * For the tests of raw calls: descriptors that belong to one test and must be gone after it, what the system says about
 * a descriptor, and waiting for readiness.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { Loop, sys } from 'forkbeard';
import { afterEach, beforeEach, expect } from 'vitest';

let owned: number[] = [];

/** Closed at the end of the test. */
export function own(fd: number): number {
  expect(fd).toBeGreaterThanOrEqual(0);
  owned.push(fd);
  return fd;
}

export function ownAll<T extends readonly number[]>(descriptors: T): T {
  for (const fd of descriptors) own(fd);
  return descriptors;
}

/** Closes a descriptor of this test before its end. */
export function end(fd: number): void {
  owned = owned.filter((other) => other !== fd);
  sys.close(fd);
}

/** Every socket and pipe of this process. Empty where there is no /proc. */
export function openDescriptors(): string[] {
  if (!existsSync('/proc/self/fd')) return [];
  const found: string[] = [];
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (/^(socket|pipe):/.test(target)) found.push(`${fd} ${target}`);
    } catch {
      // The descriptor of the listing itself.
    }
  }
  return found.sort();
}

/** Fails the test that leaves a descriptor open. */
export function watchForLeaks(): void {
  let before: string[];
  beforeEach(() => {
    Loop.current();
    before = openDescriptors();
  });
  afterEach(() => {
    for (const fd of owned) sys.close(fd);
    owned = [];
    expect(openDescriptors()).toEqual(before);
  });
}

/** The open flags of a descriptor as the kernel has them: O_NONBLOCK is 0o4000, O_CLOEXEC 0o2000000. */
export function openFlags(fd: number): { nonBlocking: boolean; closeOnExec: boolean } {
  const flags = Number.parseInt(
    /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '',
    8,
  );
  return { nonBlocking: (flags & 0o4000) !== 0, closeOnExec: (flags & 0o2000000) !== 0 };
}

export function readable(fd: number): Promise<void> {
  return ready(fd, 'onReadReady');
}

export function writable(fd: number): Promise<void> {
  return ready(fd, 'onWriteReady');
}

function ready(fd: number, event: 'onReadReady' | 'onWriteReady'): Promise<void> {
  return new Promise((resolve) => {
    const watcher = Loop.current().watchIo(fd, {
      [event]: () => {
        watcher.stop();
        resolve();
      },
    });
  });
}

export const text = (bytes: Uint8Array, length = bytes.length): string =>
  Buffer.from(bytes).toString('latin1', 0, length);
