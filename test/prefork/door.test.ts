/** `forkbeard/prefork`, as a program uses it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));

it('a program has two servers, refused options start nothing, and it ends when they have', {
  timeout: 60_000 * slow,
}, async () => {
  const home = mkdtempSync(join(tmpdir(), 'forkbeard-door-'));
  const { stdout } = await promisify(execFile)(process.execPath, [fixture('door')], {
    env: { ...process.env, XDG_RUNTIME_DIR: home },
  });
  // One line: without a format or a file there is no log.
  expect(JSON.parse(stdout)).toEqual({
    pids: [true, true],
    answers: [200, 200],
    codes: [0, 0],
    refused: ['ERR_FORKBEARD_UNKNOWN_OPTION', 'ERR_FORKBEARD_INVALID_OPTION', 'ERR_FORKBEARD_INVALID_OPTION'],
  });
  expect(readdirSync(join(home, 'forkbeard'))).toEqual([]);
  rmSync(home, { recursive: true });
});

it.each([
  'in the turn that it was made in',
  'while its address is in use',
  'when it has just bound its address',
])('a server that is stopped %s leaves nothing open', { timeout: 60_000 * slow }, async (moment) => {
  const program = [fixture('stopped-early'), moment];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, program);
  // No process has been started that found nothing where it looked.
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    code: 0,
    ready: 'The server was stopped before it was ready',
    state: 'stopped',
    left: 0,
  });
});
