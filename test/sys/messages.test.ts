/** Descriptors and credentials that travel over unix sockets, within a process and between two. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { end, openDescriptors, openFlags, own, ownAll, readable, text, watchForLeaks } from './owned.ts';

watchForLeaks();

const linux = process.platform === 'linux';
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));

describe.each(['stream', 'dgram', 'seqpacket'] as const)('over a %s pair', (type) => {
  test('descriptors arrive with their bytes, as new numbers for the same open files', () => {
    const [from, to] = ownAll(sys.socketpair(type));
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    expect(sys.sendDescriptors(from, Buffer.from('take'), [readEnd, writeEnd])).toBe(4);
    const buffer = Buffer.alloc(8);
    const got = sys.receiveDescriptors(to, buffer);
    expect(got).toEqual({ bytes: 4, descriptors: [expect.any(Number), expect.any(Number)] });
    ownAll(got.descriptors);
    expect(text(buffer, 4)).toBe('take');
    if (linux) for (const fd of got.descriptors) expect(openFlags(fd).closeOnExec).toBe(true);

    end(readEnd);
    end(writeEnd);
    const [newRead, newWrite] = got.descriptors as [number, number];
    expect(sys.write(newWrite, Buffer.from('alive'))).toBe(5);
    expect(sys.read(newRead, buffer)).toBe(5);
  });

  test('253 at once arrive, in their order', () => {
    const [from, to] = ownAll(sys.socketpair(type));
    const pipes = [...sys.pipe(), ...sys.pipe()].map(own);
    const many = Array.from({ length: 253 }, (_, index) => pipes[index % 4] as number);
    sys.sendDescriptors(from, Uint8Array.of(1), many);
    const { descriptors, truncated } = sys.receiveDescriptors(to, new Uint8Array(1));
    ownAll(descriptors);
    expect(descriptors.length).toBe(253);
    expect(new Set(descriptors).size).toBe(253);
    expect(truncated).toBeUndefined();
    expect(sys.write(descriptors[1] as number, Uint8Array.of(9))).toBe(1);
    expect(sys.read(pipes[0] as number, new Uint8Array(1))).toBe(1);
  });

  test('those beyond max are closed, and it says so', () => {
    const [from, to] = ownAll(sys.socketpair(type));
    const [readEnd, writeEnd] = ownAll(sys.pipe());
    for (const max of [0, 1, 2]) {
      sys.sendDescriptors(from, Uint8Array.of(1), [readEnd, writeEnd, readEnd]);
      const before = openDescriptors().length;
      const got = sys.receiveDescriptors(to, new Uint8Array(1), max);
      expect(got).toEqual({ bytes: 1, descriptors: got.descriptors, truncated: true });
      expect(got.descriptors.length).toBe(max);
      if (linux) expect(openDescriptors().length).toBe(before + max);
      for (const fd of got.descriptors) sys.close(fd);
    }
  });

  test('plain bytes come without any', () => {
    const [from, to] = ownAll(sys.socketpair(type));
    expect(sys.sendDescriptors(from, Buffer.from('abc'), [])).toBe(3);
    expect(sys.receiveDescriptors(to, new Uint8Array(8))).toEqual({ bytes: 3, descriptors: [] });
    sys.write(from, Buffer.from('defg'));
    expect(sys.receiveDescriptors(to, new Uint8Array(8))).toEqual({ bytes: 4, descriptors: [] });
  });

  test('bytes read without asking leave no descriptor behind', () => {
    const [from, to] = ownAll(sys.socketpair(type));
    const [readEnd] = ownAll(sys.pipe());
    const before = openDescriptors();
    sys.sendDescriptors(from, Uint8Array.of(1), [readEnd]);
    expect(sys.read(to, new Uint8Array(1))).toBe(1);
    expect(openDescriptors()).toEqual(before);
  });
});

describe('sendDescriptors and receiveDescriptors', () => {
  test('throw EAGAIN, and give 0 bytes at the end', () => {
    const [from, to] = ownAll(sys.socketpair());
    expect(() => sys.receiveDescriptors(to, new Uint8Array(1))).toThrow(
      expect.objectContaining({ code: 'EAGAIN', errno: -sys.EAGAIN, syscall: 'recvmsg', fd: to }),
    );
    end(from);
    expect(sys.receiveDescriptors(to, new Uint8Array(1))).toEqual({ bytes: 0, descriptors: [] });
    expect(() => sys.sendDescriptors(to, Uint8Array.of(1), [to])).toThrow(
      expect.objectContaining({ code: 'EPIPE', syscall: 'sendmsg', fd: to }),
    );
  });

  test('a descriptor that is not open is EBADF, and nothing is sent', () => {
    const [from, to] = ownAll(sys.socketpair());
    expect(() => sys.sendDescriptors(from, Uint8Array.of(1), [from, 1 << 20])).toThrow(/EBADF/);
    expect(sys.read(to, new Uint8Array(1))).toBe(-sys.EAGAIN);
  });

  test('what is no list of descriptors is refused by name', () => {
    const [from, to] = ownAll(sys.socketpair());
    const bytes = Uint8Array.of(1);
    expect(() => sys.sendDescriptors(from, bytes, 1 as never)).toThrow(/"descriptors" must be an array/);
    expect(() => sys.sendDescriptors(from, bytes, [from, -1])).toThrow(/"descriptors\[1\]" must be >= 0/);
    expect(() => sys.sendDescriptors(from, bytes, ['1'] as never)).toThrow(
      /"descriptors\[0\]" must be a number/,
    );
    expect(() => sys.sendDescriptors(from, bytes, new Array(2) as never)).toThrow(TypeError);
    expect(() => sys.sendDescriptors(from, bytes, new Array(254).fill(from))).toThrow(
      /"descriptors.length" must be >= 0 and <= 253/,
    );
    expect(() => sys.sendDescriptors(from, new Uint8Array(0), [from])).toThrow(/"data.length" must be >= 1/);
    expect(() => sys.sendDescriptors(from, 'x' as never, [from])).toThrow(/"data" must be a Uint8Array/);
    expect(() => sys.receiveDescriptors(to, new Uint8Array(0))).toThrow(/"buffer.length" must be >= 1/);
    expect(() => sys.receiveDescriptors(to, bytes, 254)).toThrow(/"max" must be >= 0 and <= 253/);
    expect(() => sys.receiveDescriptors(to, bytes, '1' as never)).toThrow(TypeError);
    expect(sys.read(to, bytes)).toBe(-sys.EAGAIN);
  });
});

describe('between processes', () => {
  test('a listening socket handed to another process is accepted from there', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'forkbeard-pass-'));
    const path = join(directory, 'control');
    const control = own(sys.listen({ path }));
    const child = spawn(process.execPath, [fixture('take-listener'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const output: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk));

    await readable(control);
    const channel = own(sys.accept(control));
    const listener = sys.listen({ host: '127.0.0.1', port: 0 });
    const address = sys.localAddress(listener);
    sys.sendDescriptors(channel, Buffer.from('listener'), [listener]);
    sys.close(listener); // the other process keeps it open

    const client = own(sys.socket('inet', 'stream'));
    expect([0, -sys.EINPROGRESS]).toContain(sys.connect(client, address));
    await readable(client);
    const buffer = Buffer.alloc(64);
    expect(text(buffer, sys.read(client, buffer))).toBe(`hello from ${child.pid}`);
    expect(sys.peerCredentials(channel)).toEqual({
      pid: child.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    sys.shutdown(client, 'write');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    expect(JSON.parse(Buffer.concat(output).toString())).toEqual({
      message: 'listener',
      descriptors: 1,
      left: 0,
    });
    rmSync(directory, { recursive: true });
  });

  test.runIf(linux)('passCredentials tells who sent a message', async () => {
    const name = `forkbeard-credentials-${process.pid}`;
    const socket = own(sys.socket('unix', 'dgram'));
    sys.bind(socket, { path: `\0${name}` });
    sys.setSocketOption(socket, 'passCredentials', true);
    const child = spawn(process.execPath, [fixture('notify'), name], { stdio: 'ignore' });
    await readable(socket);
    const buffer = Buffer.alloc(64);
    expect(sys.receiveDescriptors(socket, buffer)).toEqual({
      bytes: 7,
      descriptors: [],
      credentials: { pid: child.pid, uid: process.getuid?.(), gid: process.getgid?.() },
    });
    expect(text(buffer, 7)).toBe('READY=1');
    await once(child, 'exit');
  });
});

describe('peerCredentials', () => {
  test('of a pair are our own', () => {
    const [first] = ownAll(sys.socketpair());
    const { uid, gid } = sys.peerCredentials(first);
    expect({ uid, gid }).toEqual({ uid: process.getuid?.(), gid: process.getgid?.() });
    if (linux) expect(sys.peerCredentials(first).pid).toBe(process.pid);
  });

  test('need a unix socket with a peer', () => {
    const inet = own(sys.socket('inet', 'stream'));
    expect(() => sys.peerCredentials(inet)).toThrow(expect.objectContaining({ code: 'ENOTSUP' }));
    const alone = own(sys.socket('unix', 'stream'));
    expect(() => sys.peerCredentials(alone)).toThrow(
      expect.objectContaining({ code: 'ENOTCONN', fd: alone }),
    );
    const [readEnd] = ownAll(sys.pipe());
    expect(() => sys.peerCredentials(readEnd)).toThrow(expect.objectContaining({ code: 'ENOTSOCK' }));
  });
});

// ThreadSanitizer's runtime needs more descriptors than that itself.
const roomy = process.env['FORKBEARD_TEST_SANITIZER'] === 'thread';
test.skipIf(roomy)('a process without room for the descriptors loses them, and knows', async () => {
  const child = spawn(
    '/bin/sh',
    ['-c', `ulimit -n 128; exec "${process.execPath}" "${fixture('no-room')}"`],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const output: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
  expect(JSON.parse(Buffer.concat(output).toString())).toEqual({
    accepted: -sys.EMFILE,
    pipe: 'EMFILE',
    bytes: 1,
    truncated: true,
    lost: true,
    leaked: 0,
    again: 40,
  });
});
