import { describe, expect, test } from 'vitest';
import { EXIT } from '../../dist/prefork/exit-codes.js';
import { Aftermath } from '../../dist/prefork/monitor/aftermath.js';
import { Backoff } from '../../dist/prefork/monitor/backoff.js';
import { classify, type Evidence } from '../../dist/prefork/monitor/cause.js';
import { isFromMold, isFromWorker } from '../../dist/prefork/monitor/hearing.js';
import { POLICY } from '../../dist/prefork/monitor/policy.js';
import { Pool } from '../../dist/prefork/monitor/pool.js';
import { Renewal } from '../../dist/prefork/monitor/renewal.js';
import type { Renewals } from '../../dist/prefork/monitor/renewals.js';

const end: Evidence = {
  exitCode: 0,
  signal: null,
  killed: undefined,
  ready: true,
  leaving: false,
  nearHeapLimit: false,
  oomKill: false,
};
const by = (signal: string, more: Partial<Evidence> = {}) =>
  classify({ ...end, exitCode: null, signal, ...more });
const with_ = (exitCode: number, more: Partial<Evidence> = {}) => classify({ ...end, exitCode, ...more });

describe('the cause of an end', () => {
  test('is what its exit code says', () => {
    for (const [code, cause] of [
      [0, 'drained'],
      [40, 'recycled'],
      [44, 'out-of-descriptors'],
      [47, 'lost-monitor'],
      [50, 'memory'],
      [52, 'uncaught'],
      [1, 'uncaught'],
    ] as const) {
      expect(with_(code)).toBe(cause);
    }
  });

  test('is the boot for whoever ends before it is ready, however politely', () => {
    expect(with_(0, { ready: false })).toBe('boot');
    expect(with_(1, { ready: false })).toBe('boot');
    expect(with_(50, { ready: false })).toBe('memory');
    expect(with_(0, { ready: false, leaving: true })).toBe('drained');
  });

  test('tells the kernel, V8, a crash, ourselves and somebody else apart', () => {
    expect(by('SIGKILL')).toBe('operator');
    expect(by('SIGKILL', { oomKill: true })).toBe('kernel-oom');
    expect(by('SIGKILL', { oomKill: true, killed: 'blocked-loop' })).toBe('blocked-loop');
    expect(by('SIGABRT')).toBe('crash');
    expect(by('SIGABRT', { nearHeapLimit: true })).toBe('heap-limit');
    expect(by('SIGTRAP', { nearHeapLimit: true })).toBe('heap-limit');
    expect(by('SIGSEGV', { nearHeapLimit: true })).toBe('crash');
    expect(by('SIGTERM')).toBe('operator');
    expect(with_(134, { nearHeapLimit: true })).toBe('heap-limit');
  });
});

test('what stops a start at once is what trying again would not mend', () => {
  const stopping = Object.entries(POLICY).filter(([, { beforeReady }]) => beforeReady === 'stop');
  expect(stopping.map(([cause, { exitCode }]) => [cause, exitCode])).toEqual([
    ['boot', EXIT.boot],
    ['boot-deadline', EXIT.boot],
    ['no-permission', EXIT.noPermission],
  ]);
});

describe('a backoff', () => {
  test('begins at once, doubles, and ends at half a minute', () => {
    const backoff = new Backoff(() => 0.5);
    const delays = Array.from({ length: 12 }, () => backoff.failed());
    expect(delays).toEqual([0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
    backoff.reset();
    expect(backoff.failed()).toBe(0);
    expect(new Backoff(() => 0.5).failed('long')).toBe(2000);
  });

  test('differs by a fifth from place to place', () => {
    const delays = [0, 1].map((random) => {
      const backoff = new Backoff(() => random);
      backoff.failed();
      return backoff.failed();
    });
    expect(delays).toEqual([80, 120]);
  });
});

describe('what follows from an end', () => {
  const begin = () => {
    const pool = new Pool(1);
    const delays: number[] = [];
    const nothing = () => {};
    const renewals = { failed: () => false } as unknown as Renewals;
    const aftermath = new Aftermath(pool, renewals, {
      canSpawnInstead: () => false,
      cannotFork: nothing,
      canBeFewer: () => false,
      resize: nothing,
      giveUp: nothing,
      onBackoff: ({ delay }) => delays.push(delay),
      onWarning: nothing,
    });
    aftermath.anyReady();
    const follow = (service: number) => {
      for (const { member } of pool.settle(Number.POSITIVE_INFINITY)) {
        pool.ready(member);
        pool.ended(member);
        aftermath.follow(member, 'crash', 'it crashed', service);
      }
    };
    return { follow, delays };
  };

  test('is forgotten after half a minute of service', () => {
    const { follow, delays } = begin();
    for (const service of [10, 10, 10, 31_000, 10]) follow(service);
    // The first end of each row is got over at once.
    expect(delays).toHaveLength(3);
    const [first, second, third] = delays as [number, number, number];
    expect(second).toBeGreaterThan(first);
    expect(third).toBeLessThan(second);
  });
});

describe('a renewal', () => {
  test('fails with its first worker', async () => {
    const renewal = new Renewal(2);
    expect(renewal.failed(1, false, 'an old one')).toBe(false);
    expect(renewal.failed(2, false, 'no database')).toBe(true);
    await expect(renewal.done).rejects.toThrow('no database');
  });

  test('that has a worker ready puts up with failures, but not with five in a row', async () => {
    const renewal = new Renewal(2);
    renewal.ready(2);
    expect(renewal.failed(2, true, 'served')).toBe(false);
    for (let i = 0; i < 4; i++) expect(renewal.failed(2, false, 'x')).toBe(false);
    renewal.ready(2);
    for (let i = 0; i < 4; i++) expect(renewal.failed(2, false, 'x')).toBe(false);
    expect(renewal.failed(2, false, 'the fifth')).toBe(true);
    await expect(renewal.done).rejects.toThrow('the fifth');
  });
});

test('nothing is believed that no worker or mold may say', () => {
  expect(isFromWorker({ type: 'hello', pid: 7 })).toBe(true);
  expect(isFromWorker({ type: 'ready' })).toBe(true);
  expect(isFromMold({ type: 'forked', entry: 0, pid: 7 })).toBe(true);
  const wrong = [null, 7, [], {}, { type: 'toString' }, { type: 'hello' }, { type: 'hello', pid: 1 }];
  for (const message of [...wrong, { type: 'hello', pid: 2.5 }, { type: 'failed', error: { message: 1 } }]) {
    expect(isFromWorker(message)).toBe(false);
  }
  expect(isFromMold({ type: 'forked', entry: -1, pid: 7 })).toBe(false);
  expect(isFromMold({ type: 'loaded', pid: 7, ms: 1, hazards: [{}], method: 'fork', cutOff: '' })).toBe(
    false,
  );
});
