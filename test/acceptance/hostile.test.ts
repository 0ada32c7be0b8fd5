/** Nothing that JavaScript passes to a loop crashes the process, whatever it is. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as forkbeard from 'forkbeard';
import { expect, test } from 'vitest';
import { backends, slow } from './contract.ts';

const fixture = fileURLToPath(new URL('fixtures/hostile.mjs', import.meta.url));
const native = process.env['FORKBEARD_NATIVE'] as string;

test('all that is exported is swept: Loop here, sys in test/sys, the rest in test/process', () => {
  expect(Object.keys(forkbeard).toSorted()).toEqual([
    'Lifeline',
    'Loop',
    'StackRequest',
    'becomeSubreaper',
    'mapSharedMemory',
    'reapOrphans',
    'setParentDeathSignal',
    'sharedMemory',
    'startLifeline',
    'sys',
  ]);
});

for (const backend of backends) {
  test.each([1, 2])(
    `hostile arguments to everything that a loop has: ${backend}, seed %d`,
    { timeout: 60_000 * slow },
    (seed) => {
      const cwd = mkdtempSync(join(tmpdir(), 'forkbeard-hostile-'));
      const { stdout, stderr, status, signal } = spawnSync(
        process.execPath,
        ['--no-warnings', fixture, backend, String(seed)],
        {
          encoding: 'utf8',
          cwd,
          env: { ...process.env, FORKBEARD_NATIVE: native },
          stdio: ['ignore', 'pipe', 'pipe'],
          timeout: 55_000 * slow,
          killSignal: 'SIGKILL',
        },
      );
      rmSync(cwd, { recursive: true });
      expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
      const { finished, methods, calls, problems } = JSON.parse(stdout);
      expect(problems).toEqual([]);
      expect(finished).toBe(true);
      expect(methods).toBeGreaterThan(20);
      expect(calls).toBeGreaterThan(10_000);
    },
  );
}
