/** Kernels that lack the calls which set close-on-exec and non-blocking at once: the older calls do the same. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';

const fixture = fileURLToPath(new URL('fixtures/make-all.mjs', import.meta.url));
// A leak check does not work under ptrace.
const strace =
  process.env['FORKBEARD_TEST_SANITIZER'] === undefined && spawnSync('strace', ['-V']).status === 0;

describe.runIf(process.platform === 'linux')('with FORKBEARD_PRETEND_MISSING', () => {
  test.each(['', 'accept4', 'pipe2', 'sock_cloexec', 'accept4,pipe2,sock_cloexec', 'unheard_of,accept4,'])(
    '%j every descriptor is close-on-exec and non-blocking',
    (missing) => {
      const { stdout, stderr, status } = run(process.execPath, [fixture], missing);
      expect(stderr).toBe('');
      expect(status).toBe(0);
      const { all, bytes, none } = JSON.parse(stdout);
      expect(all).toEqual(new Array(8).fill({ nonBlocking: true, closeOnExec: true }));
      expect(bytes).toBe(1);
      expect(none).toBe(-sys.EAGAIN);
    },
  );

  test.runIf(strace)('the older call is made only if the newer one is missing', () => {
    const older = {
      accept4: /\baccept\(/,
      // Some C libraries make a plain pipe with pipe2 as well. Node always gives it flags.
      pipe2: /\bpipe\(|\bpipe2\([^)]*, 0\)/,
      sock_cloexec: /\bsocketpair\(AF_UNIX, SOCK_STREAM, 0/,
    };
    for (const missing of ['', 'accept4', 'pipe2', 'sock_cloexec', 'accept4,pipe2,sock_cloexec']) {
      const trace = [
        '-f',
        '-qq',
        '-e',
        'trace=accept,accept4,pipe,pipe2,socketpair',
        process.execPath,
        fixture,
      ];
      const { stderr } = run('strace', trace, missing);
      const seen = Object.entries(older).filter(([, call]) => call.test(stderr));
      expect(seen.map(([name]) => name).join()).toBe(missing);
    }
  });
});

function run(program: string, args: string[], missing: string) {
  return spawnSync(program, args, {
    encoding: 'utf8',
    env: { ...process.env, FORKBEARD_PRETEND_MISSING: missing },
  });
}
