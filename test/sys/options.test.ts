/** Socket options by name, pending errors, multicast groups. */
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { own, ownAll, readable, watchForLeaks } from './owned.ts';

watchForLeaks();

const linux = process.platform === 'linux';

describe('setSocketOption and getSocketOption', () => {
  test.each(['reuseAddress', 'reusePort', 'keepAlive', 'noDelay', ...(linux ? ['cork'] : [])])(
    '%s is on or off',
    (option) => {
      const fd = own(sys.socket('inet', 'stream'));
      expect(sys.getSocketOption(fd, option)).toBe(0);
      sys.setSocketOption(fd, option, true);
      expect(sys.getSocketOption(fd, option)).not.toBe(0);
      sys.setSocketOption(fd, option, 0);
      expect(sys.getSocketOption(fd, option)).toBe(0);
    },
  );

  const numbers: [option: string, value: number][] = [
    ['keepAliveIdle', 120],
    ['keepAliveInterval', 7],
    ['keepAliveCount', 4],
    ['ttl', 17],
  ];
  if (linux) numbers.push(['userTimeout', 30_000], ['notSentLowWater', 16_384]);

  test.each(numbers)('%s is a number', (option, value) => {
    const fd = own(sys.socket('inet', 'stream'));
    sys.setSocketOption(fd, option, value);
    expect(sys.getSocketOption(fd, option)).toBe(value);
  });

  test('buffers are at least as large as asked for', () => {
    const fd = own(sys.socket('inet', 'stream'));
    for (const option of ['sendBuffer', 'receiveBuffer']) {
      sys.setSocketOption(fd, option, 32_768);
      expect(sys.getSocketOption(fd, option)).toBeGreaterThanOrEqual(32_768);
    }
  });

  test('a datagram socket broadcasts and multicasts', () => {
    const fd = own(sys.socket('inet', 'dgram'));
    sys.setSocketOption(fd, 'broadcast', true);
    expect(sys.getSocketOption(fd, 'broadcast')).not.toBe(0);
    sys.setSocketOption(fd, 'multicastTtl', 5);
    expect(sys.getSocketOption(fd, 'multicastTtl')).toBe(5);
    sys.setSocketOption(fd, 'multicastLoop', false);
    expect(sys.getSocketOption(fd, 'multicastLoop')).toBe(0);
  });

  test('linger is seconds, or off', () => {
    const fd = own(sys.socket('inet', 'stream'));
    expect(sys.getSocketOption(fd, 'linger')).toBe(-1);
    sys.setSocketOption(fd, 'linger', 0);
    expect(sys.getSocketOption(fd, 'linger')).toBe(0);
    sys.setSocketOption(fd, 'linger', 30);
    expect(sys.getSocketOption(fd, 'linger')).toBe(30);
    sys.setSocketOption(fd, 'linger', false);
    expect(sys.getSocketOption(fd, 'linger')).toBe(-1);
  });

  test('type and acceptConnections tell what a socket is', () => {
    const [stream] = ownAll(sys.socketpair());
    const [dgram] = ownAll(sys.socketpair('dgram'));
    expect(sys.getSocketOption(stream, 'type')).not.toBe(sys.getSocketOption(dgram, 'type'));
    if (!linux) return;
    const listener = own(sys.listen({ host: '127.0.0.1', port: 0 }));
    expect(sys.getSocketOption(listener, 'acceptConnections')).toBe(1);
    expect(sys.getSocketOption(stream, 'acceptConnections')).toBe(0);
  });

  test('an unknown name suggests the nearest', () => {
    const fd = own(sys.socket('inet', 'stream'));
    const near = expect.objectContaining({
      name: 'TypeError',
      code: 'ERR_FORKBEARD_UNKNOWN_OPTION',
      message: expect.stringContaining('did you mean "noDelay"?'),
    });
    expect(() => sys.setSocketOption(fd, 'nodelay', true)).toThrow(near);
    expect(() => sys.getSocketOption(fd, 'noDelays')).toThrow(near);
    expect(() => sys.getSocketOption(fd, 'toString')).toThrow(TypeError);
    expect(() => sys.getSocketOption(fd, 1 as never)).toThrow(/"option" must be the name of a socket option/);
  });

  test.each([1.5, Number.NaN, 2 ** 31, 2 ** 53, -(2 ** 31) - 1])('%d is no value', (value) => {
    const fd = own(sys.socket('inet', 'stream'));
    expect(() => sys.setSocketOption(fd, 'sendBuffer', value)).toThrow(RangeError);
  });

  test.each(['1', null, undefined, {}, 1n])('%j is no value'.replace('%j', '%s'), (value) => {
    const fd = own(sys.socket('inet', 'stream'));
    expect(() => sys.setSocketOption(fd, 'sendBuffer', value as never)).toThrow(TypeError);
  });

  test('what the kernel refuses carries its descriptor', () => {
    const fd = own(sys.socket('unix', 'stream'));
    const refused = expect.objectContaining({
      syscall: 'setsockopt',
      fd,
      code: expect.stringMatching(/^E(OPNOTSUPP|NOPROTOOPT|INVAL|NOTSUP)$/),
    });
    expect(() => sys.setSocketOption(fd, 'noDelay', true)).toThrow(refused);
    expect(() => sys.setSocketOption(1 << 20, 'noDelay', true)).toThrow(/EBADF/);
    expect(() => sys.getSocketOption(1 << 20, 'noDelay')).toThrow(
      expect.objectContaining({ code: 'EBADF', syscall: 'getsockopt', fd: 1 << 20 }),
    );
    const [readEnd] = ownAll(sys.pipe());
    expect(() => sys.socketError(readEnd)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }));
  });
});

describe('socketError', () => {
  test('is a positive errno once, then 0', async () => {
    const gone = sys.socket('inet', 'dgram');
    sys.bind(gone, { host: '127.0.0.1', port: 0 });
    const address = sys.localAddress(gone);
    sys.close(gone);
    const fd = own(sys.socket('inet', 'dgram'));
    expect(sys.socketError(fd)).toBe(0);
    sys.connect(fd, address);
    sys.send(fd, new Uint8Array(1));
    await readable(fd);
    expect(sys.socketError(fd)).toBe(sys.ECONNREFUSED);
    expect(sys.socketError(fd)).toBe(0);
  });
});

describe('multicast groups', () => {
  test.runIf(linux)('are joined and left', async () => {
    const receiver = own(sys.socket('inet', 'dgram'));
    sys.bind(receiver, { host: '0.0.0.0', port: 0 });
    sys.joinGroup(receiver, '239.255.77.77', 'lo');
    expect(() => sys.joinGroup(receiver, '239.255.77.77', 'lo')).toThrow(/EADDRINUSE/);
    sys.leaveGroup(receiver, '239.255.77.77', 'lo');
    expect(() => sys.leaveGroup(receiver, '239.255.77.77', 'lo')).toThrow(
      expect.objectContaining({ code: 'EADDRNOTAVAIL', syscall: 'setsockopt', fd: receiver }),
    );
  });

  test('what is none is refused', () => {
    const fd = own(sys.socket('inet', 'dgram'));
    expect(() => sys.joinGroup(fd, 'all')).toThrow(/"group" must be an IP address/);
    expect(() => sys.joinGroup(fd, 1 as never)).toThrow(TypeError);
    expect(() => sys.joinGroup(fd, '239.1.1.1', 1 as never)).toThrow(/"device"/);
    expect(() => sys.joinGroup(fd, '239.1.1.1', 'nowhere0')).toThrow(/ENODEV/);
    expect(() => sys.joinGroup(fd, '239.1.1.1', 'x'.repeat(1000))).toThrow(/ENODEV|"device"/);
    expect(() => sys.joinGroup(fd, '127.0.0.1', 'lo')).toThrow(/EINVAL/);
  });
});
