/** Who keeps the process alive: exactly the watchers that are refed and can still get something. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Loop } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { backends, slow } from './contract.ts';

const run = promisify(execFile);
const fixture = fileURLToPath(new URL('fixtures/alive.mjs', import.meta.url));

const lives = [
  'a watcher',
  'a watcher that was unrefed and refed',
  'a watcher that was refed twice and unrefed never',
  'one of two watchers',
  'a hangup watcher',
  'an armed oneshot',
  'a oneshot that was armed again',
  'a timer',
  'a wall-clock timer',
  'a timer set by a timer',
  'idle work',
  'later()',
  'delay()',
  'run()',
  'the current loop',
  'a signal watcher',
  'a process watcher',
  'an unrefed watcher beside something of Node that lives',
  'a regular file',
];
const ends = [
  'an unrefed watcher',
  'an unrefed hangup watcher',
  'an unrefed timer',
  'an unrefed wall-clock timer',
  'an unrefed signal watcher',
  'a stopped watcher',
  'a stopped timer',
  'stopped idle work',
  'a stopped watcher that is refed',
  'a oneshot that was told',
  'a hangup that was told',
  'a loop without watchers',
  'a closed loop',
  'a loop that closed in a handler',
  'a stopped run',
  'an aborted delay',
];

async function outcome(backend: string, name: string): Promise<unknown> {
  const env = { ...process.env, FORKBEARD_LOOP: backend };
  const { stdout } = await run(process.execPath, [fixture, backend, name], { env, timeout: 15_000 * slow });
  return JSON.parse(stdout);
}

describe.each(backends)('%s', (backend) => {
  test.each(lives)('%s keeps the process until its event', { timeout: 30_000 * slow }, async (name) => {
    expect(await outcome(backend, name)).toEqual({ seen: true });
  });

  test.each(ends)('%s does not keep the process', { timeout: 30_000 * slow }, async (name) => {
    expect(await outcome(backend, name)).toEqual({ seen: false });
  });
});

test('every case of the fixture is named here', async () => {
  const { stdout } = await run(process.execPath, [fixture, Loop.backends[0] as string, 'list']);
  expect(new Set(JSON.parse(stdout) as string[])).toEqual(new Set([...lives, ...ends]));
});

test('a watcher says whether it is refed, and chains', () => {
  using loop = new Loop();
  const watcher = loop.watchTime({ after: 10_000 }, () => {});
  expect(watcher.hasRef()).toBe(true);
  expect(watcher.unref()).toBe(watcher);
  expect(watcher.hasRef()).toBe(false);
  expect(watcher.ref()).toBe(watcher);
  expect(watcher.hasRef()).toBe(true);
});
