/** Descriptors themselves: pipes and pairs, duplicates, flags, closing. */
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { end, openDescriptors, openFlags, own, ownAll, watchForLeaks } from './owned.ts';

watchForLeaks();

const linux = process.platform === 'linux';

describe('pipe and socketpair', () => {
  test.runIf(linux)('make close-on-exec and non-blocking ends', () => {
    const made = [
      ...sys.pipe(),
      ...sys.socketpair(),
      ...sys.socketpair('dgram'),
      ...sys.socketpair('seqpacket'),
    ];
    for (const fd of ownAll(made)) expect(openFlags(fd)).toEqual({ nonBlocking: true, closeOnExec: true });
  });

  test('a pair carries bytes both ways', () => {
    for (const type of ['stream', 'dgram', 'seqpacket'] as const) {
      const [first, second] = ownAll(sys.socketpair(type));
      const buffer = new Uint8Array(4);
      expect(sys.write(first, Uint8Array.of(1, 2))).toBe(2);
      expect(sys.read(second, buffer)).toBe(2);
      expect(sys.write(second, Uint8Array.of(3))).toBe(1);
      expect(sys.read(first, buffer)).toBe(1);
    }
  });

  test('a pair is of no other type', () => {
    expect(() => sys.socketpair('raw' as never)).toThrow(TypeError);
    expect(() => sys.socketpair(1 as never)).toThrow(TypeError);
  });
});

describe('close', () => {
  test('makes the number free, and twice is EBADF', () => {
    const [readEnd, writeEnd] = sys.pipe();
    own(writeEnd);
    sys.close(readEnd);
    expect(() => sys.close(readEnd)).toThrow(
      expect.objectContaining({
        name: 'Error',
        code: 'EBADF',
        errno: -sys.EBADF,
        syscall: 'close',
        fd: readEnd,
        message: 'EBADF: bad file descriptor, close',
      }),
    );
    expect(own(sys.dup(writeEnd))).toBe(readEnd);
  });
});

describe('dup', () => {
  test('is another number for the same open file', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    const copy = own(sys.dup(writeEnd));
    expect(copy).not.toBe(writeEnd);
    end(writeEnd);
    expect(sys.write(copy, new Uint8Array(3))).toBe(3);
    expect(sys.read(readEnd, new Uint8Array(8))).toBe(3);
    if (linux) expect(openFlags(copy)).toEqual({ nonBlocking: true, closeOnExec: true });
  });

  test('takes the lowest free number from one on', () => {
    const [readEnd] = ownAll(sys.pipe());
    expect(own(sys.dup(readEnd, 200))).toBe(200);
    expect(own(sys.dup(readEnd, 200))).toBe(201);
    expect(() => sys.dup(readEnd, 2 ** 31 - 1)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => sys.dup(1 << 20)).toThrow(expect.objectContaining({ code: 'EBADF', fd: 1 << 20 }));
  });
});

describe('flags', () => {
  test.runIf(linux)('are set and cleared one at a time', () => {
    const [readEnd] = ownAll(sys.pipe());
    sys.setNonBlocking(readEnd, false);
    expect(openFlags(readEnd)).toEqual({ nonBlocking: false, closeOnExec: true });
    sys.setCloseOnExec(readEnd, false);
    expect(openFlags(readEnd)).toEqual({ nonBlocking: false, closeOnExec: false });
    sys.setNonBlocking(readEnd, true);
    expect(openFlags(readEnd)).toEqual({ nonBlocking: true, closeOnExec: false });
    sys.setCloseOnExec(readEnd, true);
    expect(openFlags(readEnd)).toEqual({ nonBlocking: true, closeOnExec: true });
  });

  test('are booleans, on descriptors that are open', () => {
    const [readEnd] = ownAll(sys.pipe());
    expect(() => sys.setNonBlocking(readEnd, 1 as never)).toThrow(/"on" must be a boolean/);
    expect(() => sys.setCloseOnExec(readEnd, undefined as never)).toThrow(TypeError);
    expect(() => sys.setNonBlocking(1 << 20, true)).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'fcntl' }),
    );
    expect(() => sys.setCloseOnExec(1 << 20, true)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });
});

test.runIf(linux)('ten thousand pairs made and closed leave nothing', () => {
  const before = openDescriptors();
  for (let i = 0; i < 10_000; i++) for (const fd of sys.socketpair()) sys.close(fd);
  expect(openDescriptors()).toEqual(before);
});
