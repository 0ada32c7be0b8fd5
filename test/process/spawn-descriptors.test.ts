/** A child has exactly the descriptors that were declared for it, and each is what was declared. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type SpawnOptions, sys } from 'forkbeard';
import { afterEach, describe, expect, test } from 'vitest';
import { folderForEach, linux, loopForEach, runFixture, text, thrown } from './programs.ts';

const loop = loopForEach();
const folder = folderForEach();

const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) closeSync(fd);
});
/** A file with a name of its own, open in this process. */
function file(name: string, content = name): number {
  const path = join(folder(), name);
  writeFileSync(path, content);
  const fd = openSync(path, 'r+');
  open.push(fd);
  return fd;
}
function pipe(): [number, number] {
  const ends = sys.pipe();
  open.push(...ends);
  return ends;
}
/** What a shell script prints to a pipe of ours that is `target` of the child, and how it ends. */
async function said(
  script: string,
  stdio: (write: number) => SpawnOptions['stdio'] & object,
): Promise<string> {
  const [read, write] = sys.pipe();
  const child = loop().spawn({ command: ['sh', '-c', script], stdio: stdio(write) });
  sys.close(write);
  expect(await child.exited).toMatchObject({ exitCode: 0 });
  const buffer = Buffer.alloc(4096);
  const count = sys.read(read, buffer);
  sys.close(read);
  return buffer.toString('utf8', 0, count);
}
const refused = (options: SpawnOptions) => thrown(() => loop().spawn(options));

describe('a descriptor of ours', () => {
  test('becomes the stdout of the child, by number or by name', async () => {
    expect(await said('printf test', (write) => ({ 1: write }))).toBe('test');
    expect(await said('printf test', (write) => ({ stdout: write }))).toBe('test');
  });

  test('becomes its stderr', async () => {
    expect(await said('printf test >&2', (write) => ({ stderr: write }))).toBe('test');
  });

  test('becomes one of another number', async () => {
    expect(await said('printf test >&4', (write) => ({ 4: write }))).toBe('test');
  });

  test('becomes several', async () => {
    const both = await said('printf output; printf error >&2', (write) => ({ stdout: write, stderr: write }));
    expect(both).toBe('outputerror');
  });

  test('keeps its own number', async () => {
    const [read, write] = pipe();
    const child = loop().spawn({
      command: ['sh', '-c', `printf test >/dev/fd/${write}`],
      stdio: { [write]: write },
    });
    expect(await child.exited).toMatchObject({ exitCode: 0 });
    const buffer = Buffer.alloc(8);
    expect(sys.read(read, buffer)).toBe(4);
  });

  test('becomes all from 1 to 19, and a failure to start is still reported', async () => {
    const all = (write: number) => Object.fromEntries(Array.from({ length: 19 }, (_, i) => [i + 1, write]));
    expect(await said('for fd in 1 5 9; do eval "printf $fd >&$fd"; done', all)).toBe('159');
    const [, write] = pipe();
    expect(refused({ command: 'nowhere-to-be-found', stdio: all(write) })).toMatchObject({
      code: 'ENOENT',
      step: 'exec',
    });
  });

  test('is closed in the child when it is not declared', async () => {
    const [, write] = pipe();
    sys.setCloseOnExec(write, false);
    const child = loop().spawn({ command: ['sh', '-c', `test ! -e /dev/fd/${write}`] });
    expect(await child.exited).toMatchObject({ exitCode: 0 });
  });

  test('is not left under its old number', async () => {
    const [read, write] = pipe();
    const child = loop().spawn({
      command: ['sh', '-c', `test ! -e /dev/fd/${write} && test ! -e /dev/fd/${read} && printf gone`],
      stdio: { stdout: write },
    });
    expect(await child.exited).toMatchObject({ exitCode: 0 });
    expect(sys.read(read, Buffer.alloc(8))).toBe(4);
  });

  test('changes places with another', async () => {
    const [a, b] = [file('a'), file('b')];
    const child = loop().spawn({
      command: ['sh', '-c', `cat /dev/fd/${a} - /dev/fd/${b} </dev/null`],
      stdio: { stdin: 'ignore', stdout: 'pipe', [a]: b, [b]: a },
    });
    expect(await text(child.stdout)).toBe('ba');
  });

  test('that is not open gives EBADF, also when its number is free', async () => {
    // A loop opens what it needs when it is first used.
    await loop().later();
    const [read, write] = sys.pipe();
    sys.close(write);
    sys.close(read);
    // The free number would be the next pipe of ours.
    expect(refused({ command: 'true', stdio: { stdout: 'pipe', 5: read } })).toMatchObject({
      code: 'EBADF',
      step: 'dup2',
      fd: 5,
    });
  });

  test('and the error is that of the copy, whatever else the number becomes', async () => {
    await loop().later();
    const [read, write] = sys.pipe();
    sys.close(write);
    sys.close(read);
    const error = refused({ command: 'true', stdio: { [read]: { open: '/dev/null' }, 900: read } });
    expect(error).toMatchObject({ code: 'EBADF', step: 'dup2', fd: 900 });
    expect(error).not.toHaveProperty('path');
  });

  test.runIf(linux)(
    'that does not block is made to where a program expects to wait, and only there',
    async () => {
      const [read] = pipe();
      const flags = (fd: number) =>
        loop().spawn({
          command: ['grep', 'flags', `/proc/self/fdinfo/${fd}`],
          stdio: { [fd]: read, stdout: 'pipe' },
        });
      const NONBLOCK = 0o4000;
      const nonBlocking = async (fd: number) =>
        (Number.parseInt((await text(flags(fd).stdout)).split('\t')[1] as string, 8) & NONBLOCK) !== 0;
      expect(await nonBlocking(5)).toBe(true);
      expect(await nonBlocking(0)).toBe(false);
    },
  );
});

describe('stdio', () => {
  test("'close' leaves the number free", async () => {
    const child = loop().spawn({
      command: ['sh', '-c', 'echo lost 2>&3; test $? -ne 0'],
      stdio: { stdout: 'close', 3: { open: '/dev/null', flags: 'w' } },
    });
    expect(await child.exited).toMatchObject({ exitCode: 0 });
    const none = { stdin: 'close', stdout: 'close', stderr: 'close' } as const;
    expect(await loop().spawn({ command: ['sh', '-c', 'exit 9'], stdio: none }).exited).toMatchObject({
      exitCode: 9,
    });
  });

  test("'ignore' reads the end and takes everything", async () => {
    const script = 'test -z "$(cat)" && echo lost && echo lost >&2 && test -e /dev/fd/4';
    const stdio = { stdin: 'ignore', stdout: 'ignore', stderr: 'ignore', 4: 'ignore' } as const;
    expect(await loop().spawn({ command: ['sh', '-c', script], stdio }).exited).toMatchObject({
      exitCode: 0,
    });
  });

  test("'pipe' connects all three, and none of them with another", async () => {
    const child = loop().spawn({
      command: ['sh', '-c', 'cat; echo error >&2'],
      stdio: { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' },
    });
    child.stdin?.end('through');
    expect(await Promise.all([text(child.stdout), text(child.stderr)])).toEqual(['through', 'error\n']);
    expect(child.stdio).toEqual([child.stdin, child.stdout, child.stderr]);
  });

  test('{ open } reads, replaces, appends and creates', async () => {
    const path = join(folder(), 'file');
    const run = async (script: string, flags?: string, fd = 1, mode?: number) => {
      const target = { open: path, ...(flags && { flags }), ...(mode !== undefined && { mode }) };
      const child = loop().spawn({ command: ['sh', '-c', script], stdio: { [fd]: target } });
      expect(await child.exited).toMatchObject({ exitCode: 0 });
    };
    await run('printf first', 'w', 1, 0o600);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await run('printf test');
    expect(readFileSync(path, 'utf8')).toBe('test');
    await run('printf value', 'a');
    expect(readFileSync(path, 'utf8')).toBe('testvalue');
    await run('test "$(cat)" = testvalue', undefined, 0);
    await run('test "$(cat <&5)" = testvalue', undefined, 5);
    await run('test "$(cat <&5)" = testvalue && printf more >&5', 'r+', 5);
    expect(readFileSync(path, 'utf8')).toBe('testvaluemore');
    expect(refused({ command: 'true', stdio: { stdout: { open: path, flags: 'wx' } } })).toMatchObject({
      code: 'EEXIST',
      step: 'open',
      fd: 1,
      path,
    });
  });

  test('{ open } of a FIFO without a peer fails or goes on, and never waits', async () => {
    const path = join(folder(), 'fifo');
    execFileSync('mkfifo', [path]);
    expect(refused({ command: 'true', stdio: { stdout: { open: path } } })).toMatchObject({
      code: 'ENXIO',
      step: 'open',
    });
    const child = loop().spawn({ command: 'cat', stdio: { stdin: { open: path }, stdout: 'ignore' } });
    expect(await child.exited).toMatchObject({ exitCode: 0 });
  });

  test('stdout and stderr are the same file', async () => {
    const path = join(folder(), 'both');
    const fd = openSync(path, 'w');
    const child = loop().spawn({
      command: ['sh', '-c', 'echo one; echo two >&2; echo three'],
      stdio: { stdout: fd, stderr: fd },
    });
    closeSync(fd);
    await child.exited;
    expect(readFileSync(path, 'utf8')).toBe('one\ntwo\nthree\n');
  });

  test('a file of ours is read on from where we are', async () => {
    const fd = file('lines', 'one\ntwo\n');
    readSync(fd, Buffer.alloc(4), 0, 4, null);
    const child = loop().spawn({ command: 'cat', stdio: { stdin: fd, stdout: 'pipe' } });
    expect(await text(child.stdout)).toBe('two\n');
  });
});

describe.runIf(linux)('descriptors in the child are exactly those declared', () => {
  const variants = [
    '',
    'close_range',
    'close_range,proc_fd',
    'vfork',
    'vfork,close_range',
    'vfork,close_range,proc_fd',
  ];
  test.each(variants)(
    'with FORKBEARD_PRETEND_MISSING=%j, for any map with swaps and cycles',
    async (missing) => {
      const { said, stderr } = await runFixture('any-descriptors.mjs', {
        env: { FORKBEARD_PRETEND_MISSING: missing },
      });
      expect(stderr).toBe('');
      expect(said).toEqual({ maps: expect.any(Number), refusals: 3, left: 0, children: 0 });
    },
  );
});

test.runIf(linux)('a target above the limit of descriptors is refused', () => {
  expect(refused({ command: 'true', stdio: { 2000000: 'ignore' } })).toMatchObject({
    step: 'dup2',
    fd: 2_000_000,
  });
  expect(refused({ command: 'true', stdio: { 2000000: 2 } })).toMatchObject({
    code: 'EBADF',
    fd: 2_000_000,
  });
});
