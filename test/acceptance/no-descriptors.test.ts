/** A loop in a process that may not open anything more. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { backends, modes } from './contract.ts';

const run = promisify(execFile);
const fixture = fileURLToPath(new URL('fixtures/no-descriptors.mjs', import.meta.url));

describe.each(backends)('with no descriptor free (%s)', (backend) => {
  async function play(mode: string, what: string): Promise<unknown> {
    const command = 'ulimit -n 128; exec "$0" "$@"';
    const args = ['-c', command, process.execPath, fixture, backend, mode, what];
    return JSON.parse((await run('sh', args, { timeout: 20_000 })).stdout);
  }

  test.each(modes)('the first timer of a loop comes all the same (%s)', async (mode) => {
    expect(await play(mode, 'timers')).toEqual({ notes: ['after', 'at'] });
  });

  // Only the emulated kqueue needs a descriptor for its first timer; any kernel may be short of memory for one.
  test.runIf(backend === 'kqueue' && process.platform === 'linux')(
    'an alarm that the kernel refuses is an error, at once or in the next turn, and no wait for ever',
    async () => {
      expect(await play('integrated', 'alarm')).toEqual({ notes: ['EMFILE'], error: 'EMFILE' });
      expect(await play('blocking', 'alarm')).toEqual({ notes: ['EMFILE', 'idle'] });
    },
  );

  test.each(modes)('an event of a descriptor that is gone disturbs nobody else (%s)', async (mode) => {
    expect(await play(mode, 'ghost')).toEqual({ notes: [2, 3] });
  });
});
