/** The streams that lead to a child are Node streams that behave: backpressure, end, destroy, errors. */
import { once } from 'node:events';
import { Duplex, Readable, type Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Loop } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { linux, loopForEach, openDescriptors, runFixture, text } from './programs.ts';

const loop = loopForEach();
const MB = 1024 * 1024;
const pipes = { stdin: 'pipe', stdout: 'pipe' } as const;

/** `size` bytes, all different enough to notice a lost or doubled piece. */
function pattern(size: number): Buffer {
  const words = new Uint32Array(size / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 2_654_435_761);
  return Buffer.from(words.buffer);
}

test('ten megabytes go through a child unchanged', async () => {
  const data = pattern(10 * MB);
  const child = loop().spawn({ command: 'cat', stdio: pipes });
  child.stdin?.end(data);
  const chunks: Buffer[] = [];
  for await (const chunk of child.stdout as Readable) chunks.push(chunk);
  expect(Buffer.concat(chunks).equals(data)).toBe(true);
  expect(await child.exited).toMatchObject({ exitCode: 0 });
});

test('they go through three children in a pipeline', async () => {
  const [a, b, c] = ['a-z A-Z', 'A-Z a-z', 'a-z A-Z'].map((sets) =>
    loop().spawn({ command: ['tr', ...sets.split(' ')] as [string, ...string[]], stdio: pipes }),
  );
  const data = Buffer.alloc(2 * MB, 'abcdefgh');
  let size = 0;
  await Promise.all([
    pipeline(Readable.from([data]), a?.stdin as Writable),
    pipeline(a?.stdout as Readable, b?.stdin as Writable),
    pipeline(b?.stdout as Readable, c?.stdin as Writable),
    pipeline(c?.stdout as Readable, async (source) => {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        expect(chunk.subarray(0, 1).toString()).toMatch(/[A-H]/);
        size += chunk.length;
      }
    }),
  ]);
  expect(size).toBe(data.length);
});

test('they flow in a loop that blocks its thread', () => {
  const data = pattern(MB);
  const child = loop().spawn({ command: 'cat', stdio: pipes });
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk) => chunks.push(chunk));
  child.stdout?.on('end', () => loop().stop());
  child.stdin?.end(data);
  loop().runSync();
  expect(Buffer.concat(chunks).equals(data)).toBe(true);
});

describe('stdin', () => {
  test('ends what the child reads', async () => {
    const child = loop().spawn({ command: ['tr', 'a-z', 'A-Z'], stdio: pipes });
    child.stdin?.write('some ');
    child.stdin?.end('data\n');
    expect(await text(child.stdout)).toBe('SOME DATA\n');
  });

  test('ended without a word is an end as well', async () => {
    const child = loop().spawn({ command: 'cat', stdio: pipes });
    child.stdin?.end();
    expect(await text(child.stdout)).toBe('');
  });

  test('that is never closed does not keep the child from ending', async () => {
    const child = loop().spawn({ command: ['sh', '-c', 'exit 4'], stdio: pipes });
    expect(await child.exited).toMatchObject({ exitCode: 4 });
    expect(child.stdin?.destroyed).toBe(true);
  });

  test('says when it is full, and when there is room again', async () => {
    const child = loop().spawn({ command: ['sh', '-c', 'read go <&3; cat'], stdio: { ...pipes, 3: 'pipe' } });
    const stdin = child.stdin as Writable;
    while (stdin.write(Buffer.alloc(16_384))) {}
    expect(stdin.writableNeedDrain).toBe(true);
    const drained = once(stdin, 'drain');
    child.stdio[3]?.end('go\n');
    child.stdout?.resume();
    await drained;
    stdin.end();
    expect(await child.exited).toMatchObject({ exitCode: 0 });
  });

  test('that nobody reads any more gives EPIPE', async () => {
    const child = loop().spawn({
      command: ['sh', '-c', 'exec <&-; echo closed; read go <&3'],
      stdio: { ...pipes, 3: 'pipe' },
    });
    await once(child.stdout as Readable, 'data');
    const stdin = child.stdin as Writable;
    const failed = once(stdin, 'error');
    stdin.write('lost');
    expect((await failed)[0]).toMatchObject({ code: 'EPIPE', syscall: 'write' });
    expect(stdin.destroyed).toBe(true);
    child.stdio[3]?.end();
    await child.exited;
  });

  test('takes many small pieces at once', async () => {
    const child = loop().spawn({ command: ['wc', '-c'], stdio: pipes });
    const stdin = child.stdin as Writable;
    for (let i = 0; i < 100_000; i++) stdin.write('x');
    stdin.end('ü');
    expect((await text(child.stdout)).trim()).toBe('100002');
  });
});

describe('stdout', () => {
  test('that is not read holds the child up, not our memory', async () => {
    const child = loop().spawn({
      command: ['head', '-c', String(4 * MB), '/dev/zero'],
      stdio: { stdout: 'pipe' },
    });
    const stdout = child.stdout as Readable;
    await once(stdout, 'readable');
    for (let i = 0; i < 20; i++) await loop().later();
    expect(stdout.readableLength).toBeLessThanOrEqual(2 * 65_536);
    expect(child.exit).toBe(null);
    let size = 0;
    for await (const chunk of stdout) size += chunk.length;
    expect(size).toBe(4 * MB);
    expect(await child.exited).toMatchObject({ exitCode: 0 });
  });

  test('that is destroyed ends a child that goes on writing', async () => {
    const child = loop().spawn({ command: 'yes', stdio: { stdout: 'pipe' } });
    await once(child.stdout as Readable, 'data');
    child.stdout?.destroy();
    expect(await child.exited).toMatchObject({ signal: 'SIGPIPE' });
  });

  test('may be left by a loop over it', async () => {
    const child = loop().spawn({ command: 'yes', stdio: { stdout: 'pipe' } });
    for await (const _ of child.stdout as Readable) break;
    expect(child.stdout?.destroyed).toBe(true);
    expect(await child.exited).toMatchObject({ signal: 'SIGPIPE' });
  });

  test('keeps what was said before the end until somebody reads it', async () => {
    const child = loop().spawn({ command: ['echo', 'last words'], stdio: { stdout: 'pipe' } });
    await child.exited;
    expect(await text(child.stdout)).toBe('last words\n');
  });

  test('stays open as long as somebody has it, and that does not delay the exit', async () => {
    const child = loop().spawn({
      command: ['sh', '-c', 'cat <&3 & exit 0'],
      stdio: { stdout: 'pipe', 3: 'pipe' },
    });
    expect(await child.exited).toMatchObject({ exitCode: 0 });
    expect(child.stdout?.readableEnded).toBe(false);
    child.stdio[3]?.end('from the grandchild');
    expect(await text(child.stdout)).toBe('from the grandchild');
  });

  test('ends and closes, in this order', async () => {
    const events: string[] = [];
    const child = loop().spawn({ command: 'true', stdio: { stdout: 'pipe' } });
    const stdout = child.stdout as Readable;
    for (const event of ['end', 'close', 'error']) stdout.on(event, () => events.push(event));
    stdout.resume();
    await once(stdout, 'close');
    expect(events).toEqual(['end', 'close']);
  });
});

describe('another pipe', () => {
  test('goes both ways, and each way has its own end', async () => {
    const child = loop().spawn({
      command: ['sh', '-c', 'tr a-z A-Z <&3 >&3; echo done >&3'],
      stdio: { 3: 'pipe' },
    });
    const both = child.stdio[3];
    expect(both).toBeInstanceOf(Duplex);
    both?.end('both ways');
    expect(await text(both as Readable)).toBe('BOTH WAYSdone\n');
    await child.exited;
  });

  test('has its place among the others', () => {
    const child = loop().spawn({ command: 'true', stdio: { 5: 'pipe', stderr: 'pipe' } });
    expect(child.stdio.map((stream) => stream !== null)).toEqual([false, false, true, false, false, true]);
    expect(child.stdio[2]).toBe(child.stderr);
  });
});

describe('what they leave', () => {
  test.runIf(linux)('is no descriptor, however they end', async () => {
    const all = { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe', 3: 'pipe' } as const;
    const run = async () => {
      const child = loop().spawn({ command: ['sh', '-c', 'echo x; echo y >&2; echo z >&3'], stdio: all });
      const closed = child.stdio.map((stream) => once(stream as Duplex, 'close'));
      child.stdout?.resume();
      child.stderr?.destroy();
      child.stdio[3]?.resume().end();
      await child.exited;
      await Promise.all(closed);
    };
    await run();
    const before = openDescriptors().size;
    for (let i = 0; i < 20; i++) await run();
    // Fewer, when what earlier tests left to the collector goes meanwhile.
    expect(openDescriptors().size).toBeLessThanOrEqual(before);
  });

  test('is nothing when their loop closes', async () => {
    const other = new Loop();
    const child = other.spawn({ command: 'cat', stdio: pipes });
    const closed = [once(child.stdin as Writable, 'close'), once(child.stdout as Readable, 'close')];
    child.stdout?.resume();
    other.close();
    await Promise.all(closed);
    expect(await child.exited).toMatchObject({ exitCode: 0 });
  });

  // The thread sanitizer's runtime refuses threads in forked children.
  const forks = linux && process.env['FORKBEARD_TEST_SANITIZER'] !== 'thread';
  test.runIf(forks)('is nothing in a forked child, which would keep an end from being seen', async () => {
    const { said, stderr } = await runFixture('forks-beside.mjs');
    expect(stderr).toBe('');
    expect(said).toEqual({ said: 'said', exitCode: 0, length: 1 << 20, alive: true });
  });

  test('does not keep the process alive once all is unref’ed', async () => {
    const { said, exitCode } = await runFixture('unrefed.mjs');
    expect(said).toEqual({ started: true });
    expect(exitCode).toBe(0);
  });
});

test('streams that nobody reads let go of their descriptors with the child, and keep what it said', async () => {
  const before = openDescriptors();
  const children = Array.from({ length: 20 }, (_, index) =>
    loop().spawn({
      command: ['sh', '-c', `echo ${index}; echo ${index} >&2`],
      stdio: { stdout: 'pipe', stderr: 'pipe' },
    }),
  );
  await Promise.all(children.map(({ exited }) => exited));
  expect(openDescriptors()).toEqual(before);
  for (const [index, child] of children.entries()) {
    expect(await text(child.stdout as Readable)).toBe(`${index}\n`);
    expect(await text(child.stderr as Readable)).toBe(`${index}\n`);
  }
});
