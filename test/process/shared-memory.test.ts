/** Memory that processes share: what can be seen in one process here, the rest in fixtures/shared-memory.mjs. */
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mapSharedMemory, sharedMemory, sys } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { seenBy } from './support.ts';

const seen = (name: string, missing = '', around = {}) =>
  seenBy('shared-memory.mjs', [name], { env: { FORKBEARD_PRETEND_MISSING: missing }, ...around });

const code = (act: () => unknown): string | undefined => {
  try {
    act();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
};

describe('shared memory', () => {
  test('is zeroes, as many as asked for, and every mapping shows the same', () => {
    const { fd, memory } = sharedMemory(10_001);
    onTestFinished(() => sys.close(fd));
    expect(memory.byteLength).toBe(10_001);
    expect(new Uint8Array(memory).every((byte) => byte === 0)).toBe(true);
    const again = mapSharedMemory(fd, 4096);
    new Float64Array(memory, 0, 8)[5] = 1.5;
    expect(new Float64Array(again, 0, 8)[5]).toBe(1.5);
  });

  test('outlives its descriptor, and can neither be made smaller nor mapped beyond its end', () => {
    const { fd, memory } = sharedMemory(4096);
    if (process.platform === 'linux') expect(code(() => ftruncateSync(fd, 1))).toBe('EPERM');
    expect(fstatSync(fd).size).toBe(4096);
    expect(code(() => mapSharedMemory(fd, 4097))).toBe('EOVERFLOW');
    sys.close(fd);
    new Uint8Array(memory)[4095] = 1;
    expect(code(() => mapSharedMemory(fd, 1))).toBe('EBADF');
  });

  test('maps a plain file, and nothing that is none', () => {
    const folder = mkdtempSync(join(tmpdir(), 'forkbeard-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const file = openSync(join(folder, 'file'), 'w+');
    writeSync(file, 'written');
    expect(Buffer.from(mapSharedMemory(file, 7)).toString()).toBe('written');
    expect(code(() => mapSharedMemory(file, 8))).toBe('EOVERFLOW');
    closeSync(file);
    const readOnly = openSync(join(folder, 'file'), 'r');
    expect(code(() => mapSharedMemory(readOnly, 7))).toBe('EACCES');
    closeSync(readOnly);
    const [read, write] = sys.pipe();
    expect(code(() => mapSharedMemory(read, 1))).toBe('ENODEV');
    sys.close(read);
    sys.close(write);
  });

  test('refuses sizes and descriptors that are none', () => {
    for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
      expect(code(() => sharedMemory(bytes))).toBe('ERR_FORKBEARD_OUT_OF_RANGE');
      expect(code(() => mapSharedMemory(0, bytes))).toBe('ERR_FORKBEARD_OUT_OF_RANGE');
    }
    expect(code(() => sharedMemory('1' as never))).toBe('ERR_FORKBEARD_INVALID_ARG_TYPE');
    expect(code(() => mapSharedMemory(-1, 1))).toBe('ERR_FORKBEARD_OUT_OF_RANGE');
    expect(code(() => mapSharedMemory({} as never, 1))).toBe('ERR_FORKBEARD_INVALID_ARG_TYPE');
  });

  test('is not given away: a structured clone is a copy', () => {
    const { fd, memory } = sharedMemory(64);
    onTestFinished(() => sys.close(fd));
    new Uint8Array(memory)[0] = 3;
    const copy = new Uint8Array(structuredClone(memory));
    expect(copy[0]).toBe(3);
    copy[0] = 9;
    expect(new Uint8Array(memory)[0]).toBe(3);
  });
});

describe.runIf(process.platform === 'linux')('shared memory of processes', () => {
  test('stays shared in a forked child, also when its descriptor is closed', async () => {
    expect(await seen('survivesFork')).toBe(3);
  });

  test('is shared with a program by its descriptor', async () => {
    expect(await seen('program')).toEqual({ exitCode: 0, word: 77 });
  });

  test('is unmapped when nobody has it any more', async () => {
    expect(await seen('collected', '', { flags: ['--expose-gc'] })).toEqual({ mapped: 4, left: 0 });
  });

  test.each([
    ['', '/memfd:forkbeard (deleted)'],
    ['memfd', '/dev/shm/forkbeard (deleted)'],
    ['memfd,shm_open', '/tmp/forkbeard (deleted)'],
  ])('without %j it is nameless and close-on-exec all the same', async (missing, is) => {
    expect(
      await seen('fallback', missing, { env: { FORKBEARD_PRETEND_MISSING: missing, TMPDIR: '/tmp' } }),
    ).toEqual({
      seen: 5,
      zeroes: true,
      is,
      closeOnExec: true,
      names: 0,
    });
  });

  test('that the kernel has no room for is an error', async () => {
    const [large, small] = (await seen('tooLarge', 'memfd')) as [{ code: string } | null, unknown];
    expect(large?.code).toMatch(/^(ENOSPC|EFBIG|ENOMEM|ERR_FORKBEARD_OUT_OF_RANGE)$/);
    expect(small).toBe(null);
  });

  test('without a descriptor left is EMFILE', async () => {
    for (const missing of ['', 'memfd']) {
      expect(await seen('noDescriptors', missing, { through: ['prlimit', '--nofile=100'] })).toEqual({
        first: { code: 'EMFILE', syscall: 'memfd_create' },
        some: true,
      });
    }
  });
});
