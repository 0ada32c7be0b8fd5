/** A service that is ready when its log says so: in pieces, with bytes that are no text, on either stream, or never. */
import { expect, test } from 'vitest';
import { PATIENCE } from '../process/support.ts';
import { Watched } from './watched.ts';

const once = { type: 'temporary', backoff: { min: 1, max: 1, jitter: 0, resetAfter: 1e6 } } as const;
const restart = { ...once, intensity: { restarts: 5, within: 1e6 } };

test.each([
  ['in one piece', "echo 'it listens now'", 'listens'],
  ['in two, and the last without an end', "printf 'it lis'; sleep 0.1; printf tens", 'listens'],
  [
    'beside bytes that are no text',
    "printf '\\377\\376 it lis'; sleep 0.1; printf 'tens \\303\\n'",
    'listens',
  ],
  [
    'in letters of several bytes, cut in the middle of one',
    "printf 'h\\303'; sleep 0.1; printf '\\266rt'",
    'hört',
  ],
  [
    'on stderr, with other words between on stdout',
    'printf lis >&2; echo x; sleep 0.1; echo tens >&2',
    'listens',
  ],
  ['as a pattern, of one line alone', "printf 'port\\n80 port 8081'", /^80 port \d{4}$/g],
])('%s', async (_, script, log) => {
  const x = new Watched(`echo early; ${script}; exec sleep 1000`, {
    ready: { log, within: PATIENCE, timeout: 0 },
  });
  await x.it.start();
  expect(x.it.status()).toMatchObject({ state: 'running', ready: true, restarts: 0 });
  expect(x.text).toMatch(/early\n/);
});

test('what is said on two lines, or on two streams, or by halves, is not said', async () => {
  const x = new Watched('echo lis; echo tens; printf lis; printf tens >&2; exec sleep 1000', {
    ready: { log: 'listens', within: 150, timeout: 0 },
    restart,
  });
  await expect(x.it.start()).rejects.toThrow('it did not say "listens" within 150 ms');
  expect(x.of('ready')).toEqual([]);
});

test('what an earlier run has said is not said by the next', async () => {
  const x = new Watched('[ -e $STATE/again ] || echo ready; touch $STATE/again; exec sleep 1000', {
    ready: { log: 'ready', within: PATIENCE, timeout: 0 },
  });
  const { pid } = await x.it.start();
  process.kill(pid as number, 'SIGKILL');
  await x.nth('started', 2);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(x.it.status()).toMatchObject({ state: 'starting', ready: false });
  expect(x.of('ready')).toHaveLength(1);
});
