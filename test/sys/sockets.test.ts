/** Sockets of every family and type: connections, their ends, their errors and their addresses. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { sys } from 'forkbeard';
import { afterAll, describe, expect, test } from 'vitest';
import { end, openFlags, own, ownAll, readable, text, watchForLeaks, writable } from './owned.ts';

watchForLeaks();

const directory = mkdtempSync(join(tmpdir(), 'forkbeard-sys-'));
afterAll(() => rmSync(directory, { recursive: true }));
let paths = 0;
const newPath = () => join(directory, `${++paths}.sock`);
let names = 0;
const newName = () => `\0forkbeard-test-${process.pid}-${++names}`;

const linux = process.platform === 'linux';
const ipv6 = Object.values(networkInterfaces()).some((list) =>
  list?.some(({ address }) => address === '::1'),
);

type Family = Parameters<typeof sys.socket>[0];
const places: { name: string; family: Family; make: () => sys.Address }[] = [
  { name: 'inet', family: 'inet', make: () => ({ host: '127.0.0.1', port: 0 }) },
  ...(ipv6 ? [{ name: 'inet6', family: 'inet6' as const, make: () => ({ host: '::1', port: 0 }) }] : []),
  { name: 'unix path', family: 'unix', make: () => ({ path: newPath() }) },
  ...(linux ? [{ name: 'abstract unix', family: 'unix' as const, make: () => ({ path: newName() }) }] : []),
];

/** A connected pair over a listening socket. */
async function connection(family: Family, address: sys.Address) {
  const listener = own(sys.listen(address));
  const client = own(sys.socket(family, 'stream'));
  expect([0, -sys.EINPROGRESS]).toContain(sys.connect(client, sys.localAddress(listener)));
  await readable(listener);
  const server = own(sys.accept(listener));
  await writable(client);
  expect(sys.socketError(client)).toBe(0);
  return { listener, client, server };
}

describe.each(places)('a stream over $name', ({ family, make }) => {
  test('carries bytes both ways', async () => {
    const { client, server } = await connection(family, make());
    const buffer = Buffer.alloc(16);
    expect(sys.write(client, Buffer.from('question'))).toBe(8);
    await readable(server);
    expect(sys.read(server, buffer)).toBe(8);
    expect(text(buffer, 8)).toBe('question');
    expect(sys.send(server, Buffer.from('answer'))).toBe(6);
    await readable(client);
    expect(sys.recv(client, buffer)).toBe(6);
    expect(text(buffer, 6)).toBe('answer');
  });

  test('is close-on-exec and non-blocking at every end', async () => {
    const { listener, client, server } = await connection(family, make());
    if (!linux) return;
    for (const fd of [listener, client, server]) {
      expect(openFlags(fd)).toEqual({ nonBlocking: true, closeOnExec: true });
    }
    expect(sys.accept(listener)).toBe(-sys.EAGAIN);
    expect(sys.read(client, new Uint8Array(1))).toBe(-sys.EAGAIN);
  });

  test('knows its addresses', async () => {
    const { listener, client, server } = await connection(family, make());
    const address = sys.localAddress(listener);
    expect(sys.localAddress(server)).toEqual(address);
    expect(sys.peerAddress(client)).toEqual(address);
    expect(sys.peerAddress(server)).toEqual(sys.localAddress(client));
    if (family === 'unix') expect(sys.localAddress(client)).toEqual({ path: '' });
    expect(() => sys.peerAddress(listener)).toThrow(
      expect.objectContaining({ code: 'ENOTCONN', syscall: 'getpeername', fd: listener }),
    );
  });

  test('half-closes: the other direction goes on', async () => {
    const { client, server } = await connection(family, make());
    const buffer = Buffer.alloc(16);
    sys.write(client, Buffer.from('last words'));
    sys.shutdown(client, 'write');
    expect(sys.write(client, buffer)).toBe(-sys.EPIPE);
    await readable(server);
    expect(sys.read(server, buffer)).toBe(10);
    await readable(server);
    expect(sys.read(server, buffer)).toBe(0);
    expect(sys.write(server, Buffer.from('still here'))).toBe(10);
    await readable(client);
    expect(sys.read(client, buffer)).toBe(10);
    end(server);
    await readable(client);
    expect(sys.read(client, buffer)).toBe(0);
  });

  test('a listener that is gone refuses', async () => {
    const address = make();
    const listener = sys.listen(address);
    const bound = sys.localAddress(listener);
    sys.close(listener);
    const client = own(sys.socket(family, 'stream'));
    let result = sys.connect(client, bound);
    if (result === -sys.EINPROGRESS) {
      await writable(client);
      result = -sys.socketError(client);
    }
    expect(result).toBe(-sys.ECONNREFUSED);
    expect(sys.socketError(client)).toBe(0);
  });

  test('an address in use throws EADDRINUSE and leaves no socket', async () => {
    const listener = own(sys.listen(make()));
    const address = sys.localAddress(listener);
    expect(() => sys.listen(address)).toThrow(
      expect.objectContaining({
        code: 'EADDRINUSE',
        errno: -sys.EADDRINUSE,
        syscall: expect.stringMatching(/bind|listen/),
      }),
    );
    // Its number is closed already.
    expect(() => sys.listen(address)).toThrow(expect.not.objectContaining({ fd: expect.anything() }));
  });
});

describe.each(places)('datagrams over $name', ({ family, make }) => {
  test('say where they came from, and can be answered', async () => {
    const first = own(sys.socket(family, 'dgram'));
    const second = own(sys.socket(family, 'dgram'));
    sys.bind(first, make());
    sys.bind(second, make());
    const buffer = Buffer.alloc(16);
    expect(sys.recvFrom(first, buffer)).toBe(-sys.EAGAIN);
    expect(sys.sendTo(second, Buffer.from('ping'), sys.localAddress(first))).toBe(4);
    await readable(first);
    const got = sys.recvFrom(first, buffer);
    expect(got).toEqual({ bytes: 4, from: sys.localAddress(second) });
    if (typeof got === 'number') return;
    expect(sys.sendTo(first, Buffer.from('pong!'), got.from)).toBe(5);
    await readable(second);
    expect(sys.recvFrom(second, buffer)).toEqual({ bytes: 5, from: sys.localAddress(first) });
    expect(text(buffer, 5)).toBe('pong!');
  });

  test('a connected one sends without an address', async () => {
    const first = own(sys.socket(family, 'dgram'));
    const second = own(sys.socket(family, 'dgram'));
    sys.bind(first, make());
    expect(sys.connect(second, sys.localAddress(first))).toBe(0);
    expect(sys.send(second, Buffer.from('one'))).toBe(3);
    expect(sys.write(second, Buffer.from('four'))).toBe(4);
    await readable(first);
    expect(sys.recv(first, new Uint8Array(8))).toBe(3);
    await readable(first);
    expect(sys.read(first, new Uint8Array(8))).toBe(4);
  });

  test('an empty one arrives', async () => {
    const first = own(sys.socket(family, 'dgram'));
    const second = own(sys.socket(family, 'dgram'));
    sys.bind(first, make());
    expect(sys.sendTo(second, new Uint8Array(0), sys.localAddress(first))).toBe(0);
    await readable(first);
    expect(sys.recvFrom(first, new Uint8Array(8))).toMatchObject({ bytes: 0 });
    expect(sys.recvFrom(first, new Uint8Array(8))).toBe(-sys.EAGAIN);
  });

  test('one that is too long is -EMSGSIZE', () => {
    const first = own(sys.socket(family, 'dgram'));
    const second = own(sys.socket(family, 'dgram'));
    sys.bind(first, make());
    expect(sys.sendTo(second, new Uint8Array(1 << 22), sys.localAddress(first))).toBe(-sys.EMSGSIZE);
  });
});

describe.each(places.filter(({ family }) => family === 'unix'))('seqpacket over $name', ({ make }) => {
  test('connects, and keeps the borders of messages', async () => {
    const listener = own(sys.listen(make(), { type: 'seqpacket' }));
    const client = own(sys.socket('unix', 'seqpacket'));
    expect(sys.connect(client, sys.localAddress(listener))).toBe(0);
    await readable(listener);
    const server = own(sys.accept(listener));
    sys.send(client, Buffer.from('ab'));
    sys.send(client, Buffer.from('c'));
    await readable(server);
    expect(sys.recvFrom(server, new Uint8Array(8))).toEqual({ bytes: 2, from: { path: '' } });
    expect(sys.recv(server, new Uint8Array(8))).toBe(1);
    expect(sys.recv(server, new Uint8Array(8))).toBe(-sys.EAGAIN);
    end(client);
    await readable(server);
    expect(sys.recv(server, new Uint8Array(8))).toBe(0);
  });
});

describe('socket', () => {
  test('says so when a family has no such type', () => {
    expect(() => sys.socket('inet', 'seqpacket')).toThrow(
      expect.objectContaining({
        syscall: 'socket',
        code: expect.stringMatching(/^E(SOCKT|PROTO)NOSUPPORT$/),
      }),
    );
  });

  test('takes no other words', () => {
    expect(() => sys.socket('ipv4' as never, 'stream')).toThrow(
      /"family" must be one of 'inet', 'inet6', 'unix'/,
    );
    expect(() => sys.socket('inet', 'tcp' as never)).toThrow(/"type" must be one of 'stream'/);
    expect(() => sys.socket('constructor' as never, 'stream')).toThrow(TypeError);
  });
});

describe('recvFrom', () => {
  test('on a stream names its peer', async () => {
    const { client, server } = await connection('inet', { host: '127.0.0.1', port: 0 });
    sys.write(client, Buffer.from('x'));
    await readable(server);
    expect(sys.recvFrom(server, new Uint8Array(8))).toEqual({ bytes: 1, from: sys.localAddress(client) });
  });
});

describe('an ICMP error of a connected datagram socket', () => {
  test('is -ECONNREFUSED at the next call', async () => {
    const gone = sys.socket('inet', 'dgram');
    sys.bind(gone, { host: '127.0.0.1', port: 0 });
    const address = sys.localAddress(gone);
    sys.close(gone);
    const socket = own(sys.socket('inet', 'dgram'));
    sys.connect(socket, address);
    expect(sys.send(socket, new Uint8Array(1))).toBe(1);
    await readable(socket);
    expect(sys.recv(socket, new Uint8Array(1))).toBe(-sys.ECONNREFUSED);
  });
});

describe('listen', () => {
  test('a peer that resets its connection is -ECONNRESET', async () => {
    const { client, server } = await connection('inet', { host: '127.0.0.1', port: 0 });
    sys.setSocketOption(client, 'linger', 0);
    end(client);
    await readable(server);
    expect(sys.read(server, new Uint8Array(1))).toBe(-sys.ECONNRESET);
  });

  test('a stale socket file is not removed', () => {
    const path = newPath();
    sys.close(sys.listen({ path }));
    expect(existsSync(path)).toBe(true);
    expect(() => sys.listen({ path })).toThrow(
      expect.objectContaining({ code: 'EADDRINUSE', syscall: 'bind', path }),
    );
    expect(existsSync(path)).toBe(true);
  });

  test('a directory that is not there throws ENOENT with the path', () => {
    const path = join(directory, 'missing', 'socket');
    expect(() => sys.listen({ path })).toThrow(
      expect.objectContaining({ code: 'ENOENT', syscall: 'bind', path }),
    );
  });

  test('an address of another machine throws EADDRNOTAVAIL with the address', () => {
    expect(() => sys.listen({ host: '203.0.113.1', port: 80 })).toThrow(
      expect.objectContaining({ code: 'EADDRNOTAVAIL', syscall: 'bind', address: '203.0.113.1', port: 80 }),
    );
  });

  test('reuses an address by default, and not if told so', () => {
    const on = own(sys.listen({ host: '127.0.0.1', port: 0 }));
    const off = own(sys.listen({ host: '127.0.0.1', port: 0 }, { reuseAddress: false }));
    expect(sys.getSocketOption(on, 'reuseAddress')).toBe(1);
    expect(sys.getSocketOption(off, 'reuseAddress')).toBe(0);
  });

  test('with reusePort several sockets share a port', () => {
    const first = own(sys.listen({ host: '127.0.0.1', port: 0 }, { reusePort: true }));
    const second = own(sys.listen(sys.localAddress(first), { reusePort: true }));
    expect(sys.localAddress(second)).toEqual(sys.localAddress(first));
    expect(() => sys.listen(sys.localAddress(first))).toThrow(/EADDRINUSE/);
  });

  test.runIf(ipv6)('on :: takes IPv4 as well, unless v6Only', async () => {
    const both = own(sys.listen({ host: '::', port: 0 }));
    const only = own(sys.listen({ host: '::', port: 0 }, { v6Only: true }));
    const port = (fd: number) => (sys.localAddress(fd) as { port: number }).port;
    const client = own(sys.socket('inet', 'stream'));
    sys.connect(client, { host: '127.0.0.1', port: port(both) });
    await readable(both);
    const server = own(sys.accept(both));
    expect(sys.peerAddress(server)).toMatchObject({ host: '::ffff:127.0.0.1' });

    const refused = own(sys.socket('inet', 'stream'));
    sys.connect(refused, { host: '127.0.0.1', port: port(only) });
    await writable(refused);
    expect(sys.socketError(refused)).toBe(sys.ECONNREFUSED);
  });

  test('a backlog of 1 is full soon', () => {
    const listener = own(sys.listen({ path: newPath() }, { backlog: 1 }));
    const address = sys.localAddress(listener);
    const results: number[] = [];
    for (let i = 0; i < 4; i++) results.push(sys.connect(own(sys.socket('unix', 'stream')), address));
    expect(results[0]).toBe(0);
    expect(results[3]).toBe(linux ? -sys.EAGAIN : -sys.ECONNREFUSED);
  });

  test('a misspelt option is refused with the right one', () => {
    expect(() => sys.listen({ host: '127.0.0.1', port: 0 }, { reuseport: true } as never)).toThrow(
      /Unknown listen option "reuseport"; did you mean "reusePort"/,
    );
  });
});

describe('accept', () => {
  test('works beside a server of Node', async () => {
    const server = createServer((socket) => socket.end('from node'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const client = own(sys.socket('inet', 'stream'));
    sys.connect(client, { host: '127.0.0.1', port });
    await readable(client);
    const buffer = Buffer.alloc(16);
    expect(sys.read(client, buffer)).toBe(9);
    end(client);
    await new Promise((resolve) => server.close(resolve));
  });

  test('on what is no listener is an errno', () => {
    const [first] = ownAll(sys.socketpair());
    expect(sys.accept(first)).toBe(-sys.EINVAL);
    const [readEnd] = ownAll(sys.pipe());
    expect(sys.accept(readEnd)).toBe(-sys.ENOTSOCK);
    expect(sys.accept(1 << 20)).toBe(-sys.EBADF);
    expect(() => sys.accept('1' as never)).toThrow(TypeError);
    expect(() => sys.accept(-1)).toThrow(RangeError);
    expect(() => sys.accept(1.5)).toThrow(RangeError);
  });
});
