/** Nothing that JavaScript passes to what stands beside Loop and sys crashes the process, whatever it is. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { slow } from '../acceptance/contract.ts';

const fixture = fileURLToPath(new URL('fixtures/hostile.mjs', import.meta.url));

test('hostile arguments to lifelines, lineage, orphans and shared memory', { timeout: 60_000 * slow }, () => {
  const { stdout, stderr, status, signal } = spawnSync(process.execPath, ['--no-warnings', fixture], {
    encoding: 'utf8',
    timeout: 55_000 * slow,
    killSignal: 'SIGKILL',
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  const { names, calls, problems } = JSON.parse(stdout);
  expect(problems).toEqual([]);
  expect(names).toContain('sharedMemory');
  expect(calls).toBeGreaterThan(1000);
});
