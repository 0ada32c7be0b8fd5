/** What a forked child and its parent say on stdout and stderr, when whoever reads takes his time, or does not read. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Loop, sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { runForks } from './forks.ts';
import { nodeEnv } from './programs.ts';
import { fixture, node } from './support.ts';

const TEN_MEGABYTES = 10 * 1_000_003;

interface Running {
  stdout: Readable;
  stderr: Readable;
  over: Promise<unknown>;
}

/** Node's own streams are sockets; between programs of a shell there are pipes. */
const programs: Record<string, (...args: string[]) => Running> = {
  'a socket': (...args) => {
    const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'pipe'], env: nodeEnv() });
    return { stdout: child.stdout, stderr: child.stderr, over: once(child, 'exit') };
  },
  'a pipe': (...args) => {
    const child = Loop.current().spawn({
      command: [node, ...args],
      stdio: { stdin: 'ignore', stdout: 'pipe', stderr: 'pipe' },
      env: nodeEnv(),
    });
    return { stdout: child.stdout as Readable, stderr: child.stderr as Readable, over: child.exited };
  },
};
const kinds = Object.keys(programs);

/** What a program has written to a file, once it has ended. */
const intoFile = (...args: string[]): Running => {
  const script = 'file=$(mktemp) && "$@" >"$file"; cat "$file"; rm "$file"';
  const child = spawn('sh', ['-c', script, 'sh', node, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: nodeEnv(),
  });
  return { stdout: child.stdout, stderr: child.stderr, over: once(child, 'exit') };
};

/** Runs output.mjs; `read` is called with its stdout when the child has said everything and is about to end. */
async function run(kind: string, way: string, read: (stdout: Readable) => unknown): Promise<string> {
  const { stdout, stderr, over } = (programs[kind] as (typeof programs)[string])(fixture('output.mjs'), way);
  let said = '';
  let reading: unknown;
  stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (reading === undefined && said.includes('ends\n')) reading = read(stdout) ?? null;
  });
  await Promise.all([once(stderr, 'end'), over]);
  await reading;
  return said;
}

/** Counts letters to the end, a piece in every turn. */
async function slowly(stdout: Readable, count: Record<string, number>): Promise<void> {
  stdout.on('data', (data: Buffer) => {
    const letter = String.fromCharCode(data[0] as number);
    expect(data.every((byte) => byte === data[0])).toBe(true);
    count[letter] = (count[letter] ?? 0) + data.length;
    stdout.pause();
    setTimeout(() => stdout.resume(), 1);
  });
  await once(stdout, 'end');
}

describe.each(kinds)('what a child has written to %s when it ends', (kind) => {
  test.each(['number', 'promise', 'exit', 'listener', 'corked', 'corkedExit'])(
    'is all there for a slow reader: %s',
    async (way) => {
      const count: Record<string, number> = {};
      const said = await run(kind, way, (stdout) => slowly(stdout, count));
      expect(said).toMatch(/^ends\n3 after \d+\n$/);
      expect(count).toEqual({ o: TEN_MEGABYTES });
    },
  );
});

test('an error comes after what was said on stderr before it', async () => {
  const count: Record<string, number> = {};
  const { stdout, stderr } = (programs['a pipe'] as (typeof programs)[string])(
    fixture('output.mjs'),
    'thrown',
  );
  const read = slowly(stdout, count);
  let said = '';
  for await (const text of stderr.setEncoding('utf8')) said += text;
  expect(said).toMatch(/^e{400000}Error: and that is why\n {4}at [\s\S]*255 after \d+\n$/);
  await read;
  expect(count).toEqual({ o: TEN_MEGABYTES });
});

/** Runs shared-output.mjs, reads some pages when its children end, and no more. */
async function readPages(): Promise<void> {
  const loop = Loop.current();
  const [reading, writing] = sys.pipe();
  const program = loop.spawn({
    command: [node, fixture('shared-output.mjs')],
    stdio: { stdin: 'ignore', stdout: writing, stderr: 'pipe' },
    env: nodeEnv(),
  });
  sys.close(writing);
  try {
    let said = '';
    let pages = 40;
    for await (const text of (program.stderr as Readable).setEncoding('utf8')) {
      said += text;
      if (said.split('ends\n').length < 9) continue;
      for (; pages > 0; pages--) {
        sys.read(reading, Buffer.alloc(4096));
        await loop.delay(1);
      }
    }
    expect(said.match(/lost/g)).toHaveLength(8);
    expect((await program.exited).exitCode).toBe(0);
  } finally {
    sys.close(reading);
    await program.exited;
  }
}

describe('a child', () => {
  test('does not wait for a reader that is gone', async () => {
    const said = await run('a pipe', 'number', (stdout) => void stdout.destroy());
    expect(said).toMatch(/^ends\n3 after \d+\n$/);
  });

  test('gives a reader that does not read five seconds, and says what is lost', async () => {
    const said = await run('a pipe', 'number', () => undefined);
    const found =
      /^ends\nforkbeard: (\d+) bytes that process \d+ wrote to stdout are lost, because nobody read them\n3 after (\d+)\n$/.exec(
        said,
      );
    expect(found, said).not.toBeNull();
    const [lost, ms] = (found as RegExpExecArray).slice(1).map(Number) as [number, number];
    expect(lost).toBeGreaterThan(TEN_MEGABYTES - 2_000_000);
    expect(lost).toBeLessThan(TEN_MEGABYTES);
    expect(ms).toBeGreaterThanOrEqual(5000);
  });

  test('does not wait for ever where another took the room that there was, and writing waits', async () => {
    // One program in many has a child that comes too late for the last page that is read.
    await Promise.all([1, 2, 3, 4, 5, 6].map(readPages));
  });

  test('writes at its end what it wrote, and not what the parent wrote', async () => {
    const { stdout, stderr } = await runForks('fork.mjs', ['stdio']);
    expect(stdout).toBe('before\nchild\n{"code":0}\n');
    expect(stderr).toBe('child error\n');
  });
});

describe('a stream that is corked', () => {
  test.each([...kinds, 'a file'])(
    'says at a child’s end what the child wrote, and what the parent wrote when the parent takes the cork out: %s',
    async (kind) => {
      const program = programs[kind] ?? intoFile;
      const { stdout, stderr, over } = program(fixture('corked.mjs'));
      let complaint = '';
      stderr.setEncoding('utf8').on('data', (more: string) => {
        complaint += more;
      });
      const [said] = await Promise.all([text(stdout), over, once(stderr, 'end')]);
      expect({ said, complaint }).toEqual({ said: 'abcdP', complaint: "before Uncaught 'that'\n0,3,0,255" });
    },
  );
});

test('what the parent has yet to write is written once, by the parent, and what the child writes comes too', async () => {
  const program = spawn(node, [fixture('backed-up.mjs')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: nodeEnv(),
  });
  let said = '';
  program.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (said.includes('forked') && program.stdout.listenerCount('data') === 0)
      program.stdout.on('data', read);
  });
  const count: Record<string, number> = { p: 0, P: 0, c: 0 };
  const read = (data: Buffer) => {
    for (const letter of data.toString()) count[letter] = (count[letter] ?? 0) + 1;
  };
  await once(program, 'close');
  expect(count).toEqual({ p: 300_000, P: 1000, c: 10 });
  expect(said.split('\n').sort().join(' ').trim()).toBe('3 null forked told');
});
