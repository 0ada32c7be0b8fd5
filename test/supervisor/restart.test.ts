/** Whether and when a service is started again, on a clock of the test's own. */

import * as fc from 'fast-check';
import type { ExitStatus } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { type RestartOptions, RestartPolicy } from '../../dist/supervisor/restart.js';

const exit = (exitCode: number | null, signal: string | null = null) => ({ exitCode, signal }) as ExitStatus;

const usual: RestartOptions = {
  type: 'permanent',
  backoff: { min: 100, max: 1000, jitter: 0, resetAfter: 5000 },
  intensity: { restarts: 1e6, within: 1 },
};

function policy(options: Partial<RestartOptions> = {}, random = () => 0.5) {
  let time = 1000;
  const clock = { now: () => time, after: () => ({ [Symbol.dispose]: () => {} }) };
  return {
    it: new RestartPolicy({ ...usual, ...options }, clock, random),
    pass: (ms: number) => {
      time += ms;
    },
  };
}

describe('the type and the end decide', () => {
  const ends = { well: exit(0), badly: exit(1), killed: exit(null, 'SIGKILL'), never: null };
  test.each([
    ['permanent', 'well', 'restart'],
    ['permanent', 'badly', 'restart'],
    ['permanent', 'killed', 'restart'],
    ['permanent', 'never', 'restart'],
    ['transient', 'well', 'done'],
    ['transient', 'badly', 'restart'],
    ['transient', 'killed', 'restart'],
    ['transient', 'never', 'restart'],
    ['temporary', 'well', 'done'],
    ['temporary', 'badly', 'done'],
    ['temporary', 'killed', 'done'],
    ['temporary', 'never', 'done'],
  ] as const)('%s, ended %s: %s', (type, end, action) => {
    expect(policy({ type }).it.ended(ends[end]).action).toBe(action);
  });

  test.each([
    [42, 'restart'],
    [43, 'fail'],
    [44, 'done'],
  ])('a code with a rule goes by its rule: %i, %s', (code, action) => {
    const exitCodes = { 42: 'retry', 43: 'never', 44: 'done' } as const;
    for (const type of ['permanent', 'transient', 'temporary'] as const) {
      expect(policy({ type, exitCodes }).it.ended(exit(code)).action).toBe(action);
    }
  });
});

describe('delays', () => {
  test('begin with none, double, and stop growing', () => {
    const { it } = policy();
    const delays = Array.from({ length: 7 }, () => it.ended(null)).map((one) => 'delay' in one && one.delay);
    expect(delays).toEqual([0, 100, 200, 400, 800, 1000, 1000]);
  });

  test('begin anew when it was ready for long enough, and not when it merely ran', () => {
    const { it, pass } = policy();
    for (let i = 0; i < 4; i++) it.ended(exit(1));
    pass(60_000);
    expect(it.ended(exit(1))).toMatchObject({ delay: 800 });
    it.ready();
    pass(4999);
    expect(it.ended(exit(1))).toMatchObject({ delay: 1000 });
    it.ready();
    pass(5000);
    expect(it.ended(exit(1))).toMatchObject({ delay: 0 });
  });

  test('begin anew with a start by hand', () => {
    const { it } = policy({ intensity: { restarts: 3, within: 1e6 } });
    for (let i = 0; i < 3; i++) it.ended(null);
    expect(it.ended(null)).toMatchObject({ action: 'fail', reason: 'intensity' });
    it.reset();
    expect(it.ended(null)).toMatchObject({ action: 'restart', delay: 0 });
  });

  test('are as much longer or shorter as they may be, and never beyond the longest', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 1, max: 3000 }),
        (jitter, random, failures) => {
          const { it } = policy({ backoff: { ...usual.backoff, jitter } }, () => random);
          let last = it.ended(null);
          for (let i = 0; i < failures; i++) last = it.ended(null);
          if (last.action !== 'restart') throw new Error(last.action);
          const base = Math.min(1000, 100 * 2 ** Math.min(failures - 1, 52));
          expect(last.delay).toBeGreaterThanOrEqual(base * (1 - jitter) - 1e-6);
          expect(last.delay).toBeLessThanOrEqual(Math.min(1000, base * (1 + jitter)) + 1e-6);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('too many', () => {
  test('is one more than allowed within the window', () => {
    const { it, pass } = policy({ intensity: { restarts: 2, within: 1000 } });
    expect(it.ended(null).action).toBe('restart');
    pass(500);
    expect(it.ended(null).action).toBe('restart');
    pass(499);
    expect(it.ended(null)).toMatchObject({ action: 'fail', reason: 'intensity' });
  });

  test('are none that lie a whole window apart', () => {
    const { it, pass } = policy({ intensity: { restarts: 2, within: 1000 } });
    it.ended(null);
    pass(500);
    it.ended(null);
    pass(500);
    expect(it.ended(null).action).toBe('restart');
  });

  test('is the first, where none is allowed', () => {
    expect(policy({ intensity: { restarts: 0, within: 1000 } }).it.ended(null).action).toBe('fail');
  });
});

test('what was not its own fault waits like anything else, and does not count', () => {
  const { it } = policy({ intensity: { restarts: 1, within: 1e6 } });
  expect(it.ended(exit(1))).toMatchObject({ action: 'restart', delay: 0 });
  const delays = Array.from({ length: 6 }, () => it.ended(null, 'none')).map(
    (one) => 'delay' in one && one.delay,
  );
  expect(delays).toEqual([100, 200, 400, 800, 1000, 1000]);
  expect(it.ended(exit(1))).toMatchObject({
    action: 'fail',
    message: 'It was started again once within 1000 s',
  });
});
