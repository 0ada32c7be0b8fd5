/** What is over is gone: descriptors, memory over tens of thousands of watchers, loops that nobody knows any more. */
import { execFile, execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { backends, slow } from './contract.ts';

const run = promisify(execFile);
const fixture = fileURLToPath(new URL('fixtures/leaks.mjs', import.meta.url));
const cases = JSON.parse(
  execFileSync(process.execPath, [fixture, backends[0] as string, 'list'], { encoding: 'utf8' }),
) as string[];

/** Some noise is Node's own; a leak of 16 bytes for each of 30 000 watchers would show. */
const NOISE = 400_000;

describe.each(backends)('%s', (backend) => {
  test.each(cases)('%s', { timeout: 60_000 * slow }, async (name) => {
    const { stdout } = await run(process.execPath, ['--expose-gc', fixture, backend, name], {
      timeout: 55_000 * slow,
      killSignal: 'SIGKILL',
    });
    const result = JSON.parse(stdout) as { bytes?: number; descriptors?: number; left?: number };
    if (result.left !== undefined) {
      expect(result.left).toBe(0);
      return;
    }
    expect(result.descriptors).toBeLessThanOrEqual(0);
    expect(result.bytes).toBeLessThan(NOISE);
  });
});
