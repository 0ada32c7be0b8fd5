/**
 * The native tests of the kqueue backend and of the emulation that it runs on, one by one: the programs that
 * `npm run build:kqueue` made list their tests themselves.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, test } from 'vitest';

const programs = [
  { title: 'the emulation of kqueue', name: 'kqueue_emulation_test', missing: '' },
  { title: 'the kqueue backend', name: 'kqueue_backend_test', missing: '' },
  { title: 'the kqueue backend without user events', name: 'kqueue_backend_test', missing: 'EVFILT_USER' },
];

for (const { title, name, missing } of programs) {
  const program = fileURLToPath(new URL(`../../build-kqueue/${name}`, import.meta.url));
  describe.skipIf(!existsSync(program))(title, () => {
    const tests = existsSync(program) ? execFileSync(program, { encoding: 'utf8' }).trim().split('\n') : [];
    test.each(tests)('%s', async (promise) => {
      // Rejects, with what the program says on stderr, unless it ends with 0.
      await promisify(execFile)(program, [promise], {
        timeout: 15_000,
        killSignal: 'SIGKILL',
        env: { ...process.env, FORKBEARD_PRETEND_MISSING: missing },
      });
    });
  });
}
