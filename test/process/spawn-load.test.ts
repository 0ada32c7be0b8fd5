/** Many programs: at once, one after the other, and beside those of node:child_process. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { children, linux, loopForEach, openDescriptors, runFixture, text, thrown } from './programs.ts';

const loop = loopForEach();

test('five hundred children in parallel, each with its own code, output and end', async () => {
  const started = Array.from({ length: 500 }, (_, i) =>
    loop().spawn({
      command: ['sh', '-c', `read line; echo "$line ${i}"; exit ${i % 256}`],
      stdio: { stdin: 'pipe', stdout: 'pipe' },
    }),
  );
  expect(new Set(started.map(({ pid }) => pid)).size).toBe(500);
  const said = started.map(({ stdout }) => text(stdout));
  for (const { stdin } of started) stdin?.end('child\n');
  const exits = await Promise.all(started.map(({ exited }) => exited));
  expect(exits.map(({ exitCode }) => exitCode)).toEqual(started.map((_, i) => i % 256));
  expect(await Promise.all(said)).toEqual(started.map((_, i) => `child ${i}\n`));
});

test.runIf(linux)('a thousand, one after the other, leave no descriptor and no zombie', async () => {
  const one = () => loop().spawn({ command: 'true', stdio: { stdin: 'pipe', stdout: 'ignore' } }).exited;
  for (let i = 0; i < 5; i++) await one();
  const before = openDescriptors().size;
  for (let i = 0; i < 1000; i++) expect((await one()).exitCode).toBe(0);
  expect(openDescriptors().size).toBeLessThanOrEqual(before);
  expect(children()).toEqual([]);
});

test.runIf(linux)(
  'a hundred that do not start say so, each, and leave no descriptor and no zombie',
  async () => {
    const refused = () => thrown(() => loop().spawn({ command: '/does/not/exist' }))['code'];
    refused();
    const before = openDescriptors().size;
    // With one that does start among them, whose end is not lost.
    const { exited } = loop().spawn({ command: ['sh', '-c', 'exit 5'], stdio: { stdin: 'ignore' } });
    const codes = Array.from({ length: 100 }, refused);
    expect(new Set(codes)).toEqual(new Set(['ENOENT']));
    expect((await exited).exitCode).toBe(5);
    expect(openDescriptors().size).toBe(before);
    expect(children()).toEqual([]);
  },
);

test('those of child_process keep their own ends', async () => {
  const theirs = Array.from({ length: 50 }, (_, i) => spawn('sh', ['-c', `exit ${i}`]));
  const ours = Array.from({ length: 50 }, (_, i) =>
    loop().spawn({ command: ['sh', '-c', `exit ${100 + i}`] }),
  );
  const [theirCodes, ourExits] = await Promise.all([
    Promise.all(theirs.map(async (child) => (await once(child, 'exit'))[0])),
    Promise.all(ours.map(({ exited }) => exited)),
  ]);
  expect(theirCodes).toEqual(theirs.map((_, i) => i));
  expect(ourExits.map(({ exitCode, stolen }) => ({ exitCode, stolen }))).toEqual(
    ours.map((_, i) => ({ exitCode: 100 + i, stolen: false })),
  );
});

describe.runIf(linux)('without what today’s kernels have', () => {
  test.each(['vfork', 'clone_pidfd', 'pidfd_open', 'vfork,pidfd_open,close_range'])(
    'FORKBEARD_PRETEND_MISSING=%j',
    async (missing) => {
      const { said, stderr } = await runFixture('many-programs.mjs', {
        env: { FORKBEARD_PRETEND_MISSING: missing },
      });
      expect(stderr).toBe('');
      expect(said).toEqual({
        codes: Array.from({ length: 60 }, (_, i) => i),
        refused: 'ENOENT',
        out: 'THROUGH',
        left: 0,
      });
    },
  );
});
