/** Bytes through descriptors: what the data path promises for every kind of descriptor, array and argument. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { end, own, ownAll, readable, text, watchForLeaks } from './owned.ts';

watchForLeaks();

// Node 20 has them, its types do not.
const ResizableBuffer = ArrayBuffer as unknown as new (
  size: number,
  options: { maxByteLength: number },
) => ArrayBuffer & { resize(size: number): void };

describe('read and write', () => {
  test('what is written into a pipe is read from it', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    const buffer = Buffer.alloc(16);
    expect(sys.write(writeEnd, Buffer.from('hello'))).toBe(5);
    expect(sys.read(readEnd, buffer)).toBe(5);
    expect(text(buffer, 5)).toBe('hello');
  });

  test('an empty pipe is -EAGAIN, a full one as well', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.read(readEnd, new Uint8Array(1))).toBe(-sys.EAGAIN);
    const block = new Uint8Array(65536);
    let taken = 0;
    for (let count = sys.write(writeEnd, block); count > 0; count = sys.write(writeEnd, block))
      taken += count;
    expect(sys.write(writeEnd, block)).toBe(-sys.EAGAIN);
    expect(taken).toBeGreaterThanOrEqual(4096);
  });

  test('the end of the data is 0, after all of the data', () => {
    const [readEnd, writeEnd] = sys.pipe();
    own(readEnd);
    sys.write(writeEnd, Buffer.from('last'));
    sys.close(writeEnd);
    const buffer = new Uint8Array(3);
    expect(sys.read(readEnd, buffer)).toBe(3);
    expect(sys.read(readEnd, buffer)).toBe(1);
    expect(sys.read(readEnd, buffer)).toBe(0);
    expect(sys.read(readEnd, buffer)).toBe(0);
  });

  test('a reader that is gone is -EPIPE and no signal', () => {
    const [readEnd, writeEnd] = sys.pipe();
    own(writeEnd);
    sys.close(readEnd);
    expect(sys.write(writeEnd, new Uint8Array(1))).toBe(-sys.EPIPE);
  });

  test('a number that is not open is -EBADF', () => {
    expect(sys.read(1 << 20, new Uint8Array(1))).toBe(-sys.EBADF);
    expect(sys.write(1 << 20, new Uint8Array(1))).toBe(-sys.EBADF);
  });

  test('the wrong end of a pipe is -EBADF', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.write(readEnd, new Uint8Array(1))).toBe(-sys.EBADF);
    expect(sys.read(writeEnd, new Uint8Array(1))).toBe(-sys.EBADF);
  });

  test('a regular file is read from where it stands', () => {
    const file = new URL(import.meta.url);
    const fd = openSync(file, 'r');
    const all = readFileSync(file);
    const buffer = Buffer.alloc(all.length + 1);
    expect(sys.read(fd, buffer, 0, 10)).toBe(10);
    expect(sys.read(fd, buffer, 10)).toBe(all.length - 10);
    expect(buffer.subarray(0, all.length).equals(all)).toBe(true);
    expect(sys.read(fd, buffer)).toBe(0);
    closeSync(fd);
  });

  test('a directory is -EISDIR', () => {
    const fd = openSync('/', 'r');
    expect(sys.read(fd, new Uint8Array(1))).toBe(-sys.EISDIR);
    closeSync(fd);
  });
});

describe('offset and length', () => {
  test('only the part that is meant is written and filled', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.write(writeEnd, Buffer.from('0123456789'), 2, 5)).toBe(5);
    const buffer = Buffer.alloc(10, '.');
    expect(sys.read(readEnd, buffer, 1, 3)).toBe(3);
    expect(text(buffer)).toBe('.234......');
    expect(sys.read(readEnd, buffer, 8)).toBe(2);
    expect(text(buffer)).toBe('.234....56');
  });

  test('a length without an offset counts from the beginning', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.write(writeEnd, Buffer.from('0123456789'), undefined, 4)).toBe(4);
    expect(sys.read(readEnd, Buffer.alloc(10), undefined, 3)).toBe(3);
  });

  test('the offset counts from the view, not from what is under it', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    const whole = Buffer.from('0123456789');
    expect(sys.write(writeEnd, whole.subarray(4, 8), 1, 2)).toBe(2);
    const buffer = new Uint8Array(2);
    sys.read(readEnd, buffer);
    expect(text(buffer)).toBe('56');
  });

  test('no bytes at all are fine', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.write(writeEnd, new Uint8Array(0))).toBe(0);
    expect(sys.write(writeEnd, new Uint8Array(4), 4)).toBe(0);
    expect(sys.write(writeEnd, new Uint8Array(4), 4, 0)).toBe(0);
    expect(sys.write(writeEnd, new Uint8Array(4), 1, 0)).toBe(0);
    expect(sys.read(readEnd, new Uint8Array(0))).toBe(0);
  });

  test.each([
    ['read', sys.read, false],
    ['write', sys.write, false],
    ['recv', sys.recv, false],
    ['send', sys.send, false],
    ['read', sys.read, true],
    ['write', sys.write, true],
    ['recv', sys.recv, true],
    ['send', sys.send, true],
  ])(
    '%s refuses what lies outside of the array and touches nothing (used before: %3$s)',
    (_name, transfer, isUsed) => {
      const [first, second] = ownAll(sys.socketpair());
      const buffer = new Uint8Array(8);
      // What is looked at is not the same for a buffer that was used just before.
      if (isUsed) transfer(first, buffer, 0, 0);
      const range = expect.objectContaining({ name: 'RangeError', code: 'ERR_FORKBEARD_OUT_OF_RANGE' });
      for (const offset of [
        -1,
        9,
        0.5,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        2 ** 31,
        2 ** 32,
        2 ** 53,
        -(2 ** 31),
      ]) {
        expect(() => transfer(first, buffer, offset)).toThrow(range);
        expect(() => transfer(first, buffer, offset, 0)).toThrow(range);
      }
      for (const length of [
        -1,
        9,
        0.5,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        2 ** 31,
        2 ** 32,
        2 ** 32 + 1,
        2 ** 53,
      ]) {
        expect(() => transfer(first, buffer, 0, length)).toThrow(range);
      }
      expect(() => transfer(first, buffer, 4, 5)).toThrow(range);
      expect(() => transfer(first, buffer, 8, 1)).toThrow(range);
      expect(sys.read(second, buffer)).toBe(-sys.EAGAIN);
    },
  );

  test.each([false, true])('an error names the argument (used before: %s)', (isUsed) => {
    const [readEnd] = ownAll(sys.pipe());
    const buffer = new Uint8Array(8);
    if (isUsed) sys.read(readEnd, buffer);
    expect(() => sys.read(readEnd, buffer, 9)).toThrow(/"offset" must be >= 0 and <= 8. Received 9/);
    expect(() => sys.read(readEnd, buffer, 8, 1)).toThrow(/"length" must be >= 0 and <= 0. Received 1/);
    expect(() => sys.read(readEnd, [] as never)).toThrow(/"buffer" must be a Uint8Array. Received \[\]/);
    expect(() => sys.read('0' as never, buffer)).toThrow(/"fd" must be a number. Received '0'/);
    expect(() => sys.read(-1, buffer)).toThrow(/"fd" must be >= 0/);
    expect(() => sys.read(readEnd, buffer, null as never)).toThrow(
      /"offset" must be a number. Received null/,
    );
    for (const position of [0, 2, 3]) {
      for (const value of [1n, Symbol('s'), { valueOf: () => 0 }, '0', [], true]) {
        const args = [readEnd, buffer, 0, 1];
        args[position] = value as never;
        expect(() => sys.read(...(args as Parameters<typeof sys.read>))).toThrow(
          expect.objectContaining({ code: 'ERR_FORKBEARD_INVALID_ARG_TYPE' }),
        );
      }
    }
  });

  // The memory is never touched but for what is written.
  test.skipIf(totalmem() < 2 ** 33)('an offset may be beyond 2 GiB', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    const huge = new Uint8Array(2 ** 31 + 8);
    sys.write(writeEnd, Buffer.from('01234567'));
    expect(sys.read(readEnd, huge, 2 ** 31, 5)).toBe(5);
    expect(sys.read(readEnd, huge, 2 ** 31 + 5)).toBe(3);
    expect(text(huge.subarray(2 ** 31))).toBe('01234567');
    expect(sys.write(writeEnd, huge, 2 ** 31 + 1, 3)).toBe(3);
    const buffer = new Uint8Array(8);
    expect(sys.read(readEnd, buffer)).toBe(3);
    expect(text(buffer, 3)).toBe('123');
  });
});

describe('arrays', () => {
  // The same five bytes, through memory of every kind.
  const memory: [string, () => Uint8Array][] = [
    ['a Buffer of the pool', () => Buffer.from('abcde')],
    ['a Buffer of its own', () => Buffer.alloc(100_000, 'abcde')],
    ['a small array, which V8 keeps in its heap', () => Uint8Array.of(97, 98, 99, 100, 101)],
    [
      'a view in the middle of a buffer',
      () => new Uint8Array(new TextEncoder().encode('..abcde..').buffer, 2, 5),
    ],
    [
      'shared memory',
      () => {
        const shared = new Uint8Array(new SharedArrayBuffer(64));
        shared.set(Buffer.from('abcde'));
        return shared;
      },
    ],
    [
      'a resizable buffer',
      () => {
        const bytes = new Uint8Array(new ResizableBuffer(5, { maxByteLength: 4096 }));
        bytes.set(Buffer.from('abcde'));
        return bytes;
      },
    ],
    ['a subclass', () => new (class Bytes extends Uint8Array {})(Buffer.from('abcde'))],
  ];

  test.each(memory)('%s is written from and read into', (_name, make) => {
    const [first, second] = ownAll(sys.socketpair());
    const source = make();
    expect(sys.write(first, source, 0, 5)).toBe(5);
    const target = make().fill(0, 0, 5);
    expect(sys.read(second, target, 0, 5)).toBe(5);
    expect(text(target, 5)).toBe('abcde');
    expect(sys.send(first, source, 1, 3)).toBe(3);
    expect(sys.recv(second, target, 0, 5)).toBe(3);
    expect(text(target, 5)).toBe('bcdde');
  });

  test('a detached array has no bytes', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    sys.write(writeEnd, Buffer.from('data'));
    for (const size of [5, 100_000]) {
      const bytes = new Uint8Array(size);
      sys.write(writeEnd, bytes, 0, 0); // so that it is no longer in V8's heap
      structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
      expect(sys.read(readEnd, bytes)).toBe(0);
      expect(sys.write(writeEnd, bytes)).toBe(0);
      expect(() => sys.read(readEnd, bytes, 0, 1)).toThrow(RangeError);
      expect(() => sys.write(writeEnd, bytes, 1)).toThrow(RangeError);
    }
  });

  test('an array is as long as its resizable buffer is now', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    const buffer = new ResizableBuffer(4, { maxByteLength: 1 << 20 });
    const tracking = new Uint8Array(buffer);
    const fixed = new Uint8Array(buffer, 0, 4);
    buffer.resize(8);
    expect(sys.write(writeEnd, tracking)).toBe(8);
    expect(sys.write(writeEnd, fixed)).toBe(4);
    buffer.resize(2);
    expect(sys.write(writeEnd, tracking)).toBe(2);
    expect(sys.write(writeEnd, fixed)).toBe(0); // out of bounds: it has no elements
    expect(() => sys.write(writeEnd, tracking, 0, 3)).toThrow(RangeError);
    expect(() => sys.write(writeEnd, fixed, 0, 1)).toThrow(RangeError);
    expect(sys.read(readEnd, new Uint8Array(100))).toBe(14);
  });

  test('two of them in turns, and two for each direction', () => {
    const [first, second] = ownAll(sys.socketpair());
    const arrays = ['ab', 'cde', 'fghi'].map((word) => Buffer.from(word));
    for (const source of [...arrays, ...arrays, arrays[2] as Buffer]) {
      const target = Buffer.alloc(source.length);
      expect(sys.write(first, source)).toBe(source.length);
      expect(sys.send(first, source)).toBe(source.length);
      expect(sys.read(second, target)).toBe(source.length);
      expect(text(target)).toBe(text(source));
      target.fill('.');
      expect(sys.recv(second, target)).toBe(source.length);
      expect(text(target)).toBe(text(source));
    }
  });

  test('a call inside of another, from a property of its array, takes nothing away', () => {
    const [first, second] = ownAll(sys.socketpair());
    const inner = Buffer.from('in');
    const outer = Buffer.from('outer');
    const { buffer } = outer;
    Object.defineProperty(outer, 'buffer', {
      get() {
        sys.write(first, inner);
        return buffer;
      },
    });
    const target = Buffer.alloc(32);
    for (let round = 0; round < 2; round++) {
      expect(sys.write(first, outer)).toBe(5);
      expect(sys.write(first, inner)).toBe(2);
      expect(text(target, sys.read(second, target))).toBe('inouterin');
    }
  });

  test('the library twice in a process: neither writes what the other was given', async () => {
    const module = new URL('sys/transfer.js?again', import.meta.resolve('forkbeard'));
    const again: typeof sys = await import(module.href);
    expect(again.write).not.toBe(sys.write);
    const [first, second] = ownAll(sys.socketpair());
    const one = Buffer.from('one');
    const two = Buffer.from('two!');
    for (let round = 0; round < 3; round++) {
      expect(sys.write(first, one)).toBe(3);
      expect(again.write(first, two)).toBe(4);
    }
    const target = Buffer.alloc(64);
    expect(text(target, again.read(second, target))).toBe('onetwo!onetwo!onetwo!');
  });

  test.each([
    ['another kind of typed array', new Uint16Array(4)],
    ['a clamped array', new Uint8ClampedArray(4)],
    ['a signed array', new Int8Array(4)],
    ['a DataView', new DataView(new ArrayBuffer(4))],
    ['an ArrayBuffer', new ArrayBuffer(4)],
    ['an object with its prototype', Object.create(Uint8Array.prototype)],
    ['a Proxy', new Proxy(new Uint8Array(4), {})],
    ['an array', [1, 2, 3]],
    ['a string', 'text'],
    ['null', null],
    ['nothing', undefined],
  ])('%s is refused', (_name, value) => {
    const [first, second] = ownAll(sys.socketpair());
    const type = expect.objectContaining({ name: 'TypeError', code: 'ERR_FORKBEARD_INVALID_ARG_TYPE' });
    expect(() => sys.read(first, value as never)).toThrow(type);
    expect(() => sys.write(first, value as never)).toThrow(type);
    expect(() => sys.recv(first, value as never, 0, 1)).toThrow(type);
    expect(() => sys.send(first, value as never, 0)).toThrow(type);
    expect(() => sys.recvFrom(first, value as never)).toThrow(type);
    expect(() => sys.sendTo(first, value as never, { path: '/x' })).toThrow(type);
    expect(sys.read(second, new Uint8Array(1))).toBe(-sys.EAGAIN);
  });

  test('a length property of its own deceives nobody', () => {
    const [first, second] = ownAll(sys.socketpair());
    const bytes = Object.defineProperty(new Uint8Array(4), 'length', { value: 1 << 30 });
    expect(sys.write(first, bytes)).toBe(4);
    expect(sys.read(second, bytes)).toBe(4);
    expect(() => sys.write(first, bytes, 0, 5)).toThrow(/"length" must be >= 0 and <= 4/);
  });
});

describe('recv and send', () => {
  test('work on a socket', () => {
    const [first, second] = ownAll(sys.socketpair());
    expect(sys.send(first, Buffer.from('hello'))).toBe(5);
    const buffer = Buffer.alloc(8);
    expect(sys.recv(second, buffer)).toBe(5);
    expect(sys.recv(second, buffer)).toBe(-sys.EAGAIN);
  });

  test('are -ENOTSOCK on anything else', () => {
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.recv(readEnd, new Uint8Array(1))).toBe(-sys.ENOTSOCK);
    expect(sys.send(writeEnd, new Uint8Array(1))).toBe(-sys.ENOTSOCK);
    expect(sys.recvFrom(readEnd, new Uint8Array(1))).toBe(-sys.ENOTSOCK);
    expect(sys.sendTo(writeEnd, new Uint8Array(1), { path: '/x' })).toBe(-sys.ENOTSOCK);
  });

  test('a peer that is gone is -EPIPE', async () => {
    const [first, second] = ownAll(sys.socketpair());
    end(second);
    expect(sys.send(first, new Uint8Array(1))).toBe(-sys.EPIPE);
    expect(sys.write(first, new Uint8Array(1))).toBe(-sys.EPIPE);
    await readable(first);
    expect(sys.recv(first, new Uint8Array(1))).toBe(0);
  });

  test('messages of a seqpacket socket keep their borders, and what does not fit is lost', () => {
    const [first, second] = ownAll(sys.socketpair('seqpacket'));
    sys.send(first, Buffer.from('one'));
    sys.send(first, Buffer.from('three'));
    const buffer = Buffer.alloc(4);
    expect(sys.recv(second, buffer)).toBe(3);
    expect(sys.recv(second, buffer)).toBe(4);
    expect(text(buffer)).toBe('thre');
    expect(sys.recv(second, buffer)).toBe(-sys.EAGAIN);
  });
});
