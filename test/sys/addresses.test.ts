/** Which addresses the raw calls take, and how they look when they come back. */
import { mkdtempSync, rmSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { sys } from 'forkbeard';
import { afterAll, describe, expect, test } from 'vitest';
import { own, watchForLeaks } from './owned.ts';

watchForLeaks();

const linux = process.platform === 'linux';
const ipv6 = Object.values(networkInterfaces()).some((list) =>
  list?.some(({ address }) => address === '::1'),
);
const directory = mkdtempSync(join(tmpdir(), 'forkbeard-addr-'));
afterAll(() => rmSync(directory, { recursive: true }));

function bound(family: 'inet' | 'inet6' | 'unix', address: sys.Address): sys.Address {
  const fd = own(sys.socket(family, 'dgram'));
  sys.bind(fd, address);
  return sys.localAddress(fd);
}

describe('hosts', () => {
  test('localhost is 127.0.0.1', () => {
    expect(bound('inet', { host: 'localhost', port: 0 })).toMatchObject({ host: '127.0.0.1' });
  });

  test.runIf(ipv6).each([
    ['::', '::'],
    ['::1', '::1'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['::ffff:127.0.0.1', '::ffff:127.0.0.1'],
  ])('%s comes back as %s', (host, printed) => {
    expect(bound('inet6', { host, port: 0 })).toMatchObject({ host: printed });
  });

  test.runIf(ipv6 && linux)('a scope is a name or a number, and comes back as a name', () => {
    const socket = own(sys.socket('inet6', 'dgram'));
    // No route is fine: the address was understood. An unknown interface is not.
    expect(sys.connect(socket, { host: 'fe80::1%lo', port: 9 })).not.toBe(-sys.ENODEV);
    expect(sys.connect(socket, { host: 'fe80::1%1', port: 9 })).not.toBe(-sys.ENODEV);
    expect(sys.connect(socket, { host: 'fe80::1%nowhere0', port: 9 })).toBe(-sys.ENODEV);
    expect(sys.sendTo(socket, new Uint8Array(1), { host: 'fe80::1%nowhere0', port: 9 })).toBe(-sys.ENODEV);
    expect(() => sys.bind(socket, { host: 'fe80::1%nowhere0', port: 0 })).toThrow(/ENODEV/);
    const connected = own(sys.socket('inet6', 'dgram'));
    if (sys.connect(connected, { host: 'fe80::1%lo', port: 9 }) === 0) {
      expect(sys.peerAddress(connected)).toEqual({ host: 'fe80::1%lo', port: 9 });
    }
  });

  test.each([
    'example.org',
    '',
    '127.0.0.1 ',
    '127.1',
    '256.0.0.1',
    '[::1]',
    '::1%',
    '::g',
    '1.2.3.4\0',
    '127.0.0.1%lo',
    '1'.repeat(10_000),
  ])('%j is refused: names are not resolved here', (host) => {
    const fd = own(sys.socket('inet', 'dgram'));
    const value = expect.objectContaining({ name: 'TypeError', code: 'ERR_FORKBEARD_INVALID_ARG_VALUE' });
    expect(() => sys.connect(fd, { host, port: 1 })).toThrow(value);
    expect(() => sys.sendTo(fd, new Uint8Array(1), { host, port: 1 })).toThrow(value);
    expect(() => sys.bind(fd, { host, port: 1 })).toThrow(value);
    expect(() => sys.listen({ host, port: 1 })).toThrow(value);
  });
});

describe('ports', () => {
  test.each([-1, 65536, 1.5, Number.NaN, 2 ** 32])('%d is out of range', (port) => {
    const fd = own(sys.socket('inet', 'dgram'));
    const range = expect.objectContaining({ name: 'RangeError', message: expect.stringContaining('port"') });
    expect(() => sys.connect(fd, { host: '127.0.0.1', port })).toThrow(range);
    expect(() => sys.sendTo(fd, new Uint8Array(1), { host: '127.0.0.1', port })).toThrow(range);
    expect(() => sys.bind(fd, { host: '127.0.0.1', port })).toThrow(range);
    expect(() => sys.listen({ host: '127.0.0.1', port })).toThrow(range);
  });

  test('65535 and strings: the one is a port, the others are not', () => {
    const fd = own(sys.socket('inet', 'dgram'));
    expect(sys.connect(fd, { host: '127.0.0.1', port: 65535 })).toBe(0);
    expect(() => sys.connect(fd, { host: '127.0.0.1', port: '80' as never })).toThrow(TypeError);
  });
});

describe('unix paths', () => {
  const longest = linux ? 107 : 103;

  test('come back as they were given, UTF-8 as well', () => {
    const path = join(directory, 'søcket');
    expect(bound('unix', { path })).toEqual({ path });
  });

  test('may be as long as sun_path, and no longer', () => {
    const path = join(directory, 'x'.repeat(longest - directory.length - 1));
    expect(Buffer.byteLength(path)).toBe(longest);
    expect(bound('unix', { path })).toEqual({ path });
    const range = expect.objectContaining({
      name: 'RangeError',
      message: expect.stringMatching(
        new RegExp(`path" must be at most ${longest} bytes long, not ${longest + 1}`),
      ),
    });
    const fd = own(sys.socket('unix', 'dgram'));
    expect(() => sys.bind(fd, { path: `${path}x` })).toThrow(range);
    expect(() => sys.connect(fd, { path: `${path}x` })).toThrow(range);
    expect(() => sys.listen({ path: `${path}x` })).toThrow(range);
    // Bytes count, not characters.
    expect(() => sys.connect(fd, { path: 'ø'.repeat(54) })).toThrow(RangeError);
    expect(() => sys.connect(fd, { path: 'x'.repeat(1_000_000) })).toThrow(RangeError);
  });

  test.runIf(linux)('of the abstract namespace begin with a zero byte and may hold more of them', () => {
    const path = `\0forkbeard\0${process.pid}\0`;
    expect(bound('unix', { path })).toEqual({ path });
    const longName = `\0${'n'.repeat(longest)}`;
    expect(bound('unix', { path: longName })).toEqual({ path: longName });
    const fd = own(sys.socket('unix', 'dgram'));
    expect(() => sys.bind(fd, { path: `${longName}n` })).toThrow(/at most 108 bytes/);
  });

  test.runIf(linux)('that are empty make bind choose a name', () => {
    const { path } = bound('unix', { path: '' }) as { path: string };
    expect(path).toMatch(/^\0[0-9a-f]{5}$/);
  });

  test('with a zero byte inside are refused', () => {
    const fd = own(sys.socket('unix', 'dgram'));
    expect(() => sys.bind(fd, { path: join(directory, 'a\0b') })).toThrow(/without zero bytes/);
  });

  test('where nobody is are errors of connect', () => {
    const fd = own(sys.socket('unix', 'stream'));
    expect(sys.connect(fd, { path: join(directory, 'nobody') })).toBe(-sys.ENOENT);
    expect(sys.connect(fd, { path: '' })).toBe(-sys.EINVAL);
  });
});

describe('what is no address', () => {
  test.each([
    ['null', null],
    ['undefined', undefined],
    ['a string', '127.0.0.1:80'],
    ['a number', 80],
    ['a function', () => {}],
    ['an empty object', {}],
    ['a port alone', { port: 80 }],
    ['a host alone', { host: '127.0.0.1' }],
    ['a number for a host', { host: 1, port: 80 }],
    ['a number for a path', { path: 1 }],
    ['null for a path', { path: null }],
    ['both', { host: '127.0.0.1', port: 80, path: '/x' }],
    ["Node's own kind", { address: '127.0.0.1', family: 'IPv4', port: 80 }],
  ])('%s', (_name, address) => {
    const fd = own(sys.socket('inet', 'dgram'));
    const type = expect.objectContaining({
      name: 'TypeError',
      code: expect.stringMatching(/^ERR_FORKBEARD_INVALID_ARG_(TYPE|VALUE)$/),
      message: expect.stringMatching(/^"(address|to)/),
    });
    expect(() => sys.connect(fd, address as never)).toThrow(type);
    expect(() => sys.bind(fd, address as never)).toThrow(type);
    expect(() => sys.listen(address as never)).toThrow(type);
    expect(() => sys.sendTo(fd, new Uint8Array(1), address as never)).toThrow(type);
  });

  test("of another family than the socket is the kernel's to refuse", () => {
    const fd = own(sys.socket('unix', 'stream'));
    expect(sys.connect(fd, { host: '127.0.0.1', port: 80 })).toBe(-sys.EINVAL);
    expect(() => sys.bind(fd, { host: '127.0.0.1', port: 0 })).toThrow(/EINVAL/);
  });

  test('a getter is asked once, and may throw', () => {
    const fd = own(sys.socket('inet', 'dgram'));
    let asked = 0;
    const address = {
      get host() {
        return asked++ === 0 ? '127.0.0.1' : 'changed';
      },
      port: 9,
    };
    expect(sys.connect(fd, address)).toBe(0);
    expect(asked).toBe(1);
    const error = new Error('mine');
    const throws = {
      get path(): string {
        throw error;
      },
    };
    expect(() => sys.connect(fd, throws)).toThrow(error);
  });
});

describe('localAddress and peerAddress', () => {
  test('throw with the descriptor', () => {
    expect(() => sys.localAddress(1 << 20)).toThrow(
      expect.objectContaining({ code: 'EBADF', errno: -sys.EBADF, syscall: 'getsockname', fd: 1 << 20 }),
    );
    const [readEnd, writeEnd] = sys.pipe();
    own(readEnd);
    own(writeEnd);
    expect(() => sys.peerAddress(readEnd)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }));
  });
});
