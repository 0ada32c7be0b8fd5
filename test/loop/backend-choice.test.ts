/** Which backend a program gets that does not say. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Loop } from 'forkbeard';
import { expect, test } from 'vitest';

const run = promisify(execFile);
const usable = Loop.backends[0] as string;

/** Backend and number of warnings, in a process whose FORKBEARD_LOOP is `list`. */
async function choose(list: string): Promise<[backend: string, warnings: number]> {
  const program = `
    import { Loop } from 'forkbeard';
    let warnings = 0;
    process.on('warning', ({ code }) => (warnings += Number(code === 'FORKBEARD_BACKEND_UNAVAILABLE')));
    const { backend } = Loop.current();
    setImmediate(() => console.log(JSON.stringify([backend, warnings])));
  `;
  const env = { ...process.env, FORKBEARD_LOOP: list };
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program], { env });
  return JSON.parse(stdout);
}

test('the first usable one of FORKBEARD_LOOP wins', async () => {
  expect(await choose(' poll , epoll')).toEqual(['poll', 0]);
  expect(await choose('')).toEqual([usable, 0]);
});

test("a list for several platforms is no reason to warn where another platform's backend is missing", async () => {
  expect(await choose('epoll,kqueue,poll')).toEqual([usable, 0]);
  expect(await choose('kqueue,epoll,poll')).toEqual([
    Loop.backends.includes('kqueue') ? 'kqueue' : usable,
    0,
  ]);
});

test('a misspelt name, and a list of which nothing is left, are warned of', async () => {
  expect(await choose('epol,poll')).toEqual(['poll', 1]);
  expect(await choose('nonsense')).toEqual([usable, 1]);
});

test('a loop says what it runs on, and nobody can make it say something else', () => {
  using loop = new Loop();
  const before = loop.backend;
  expect(() => Object.assign(loop, { backend: 'select' })).toThrow(TypeError);
  expect(loop.backend).toBe(before);
});
