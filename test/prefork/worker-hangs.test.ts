/**
 * A worker whose event loop does not come round any more: it still says what it is doing, and it does not outlive its
 * monitor.
 */

import { describe, expect, test } from 'vitest';
import { StackRequest } from '../../dist/process/lifeline.js';
import { ask, methods, monitorForEach, until } from './tiny-monitor.ts';

const start = monitorForEach();

describe.each(methods)('a worker by %s that spins', (method) => {
  test('tells its JavaScript stack and its request when it is asked', async () => {
    const monitor = start('spins.mjs');
    const { entry } = await monitor.worker(method);
    ask(`${monitor.url}/spin?for=ever`).catch(() => {});
    await until(() => entry.get('inFlight') === 1);
    entry.set('stackRequest', StackRequest.ASKED);
    await until(() => entry.get('stackRequest') === StackRequest.ANSWERED);
    expect(entry.read('stack')).toMatch(/spinForEver.*spins\.mjs:\d+/);
    expect(entry.read('request')).toBe('GET /spin?for=ever');
  });

  test('and comes back forgets the question', async () => {
    const monitor = start('spins.mjs');
    const { entry } = await monitor.worker(method);
    const spun = ask(`${monitor.url}/spin?for=1500`);
    await until(() => entry.get('inFlight') === 1);
    entry.set('stackRequest', StackRequest.ASKED);
    await until(() => entry.get('stackRequest') === StackRequest.ANSWERED);
    expect((await spun).body).toBe('back');
    await until(() => entry.get('stackRequest') === StackRequest.NONE);
    expect(entry.read('stack')).toBe('');
  });

  test('is gone some seconds after its monitor', async () => {
    const monitor = start('spins.mjs');
    const worker = await monitor.worker(method);
    ask(`${monitor.url}/spin?for=ever`).catch(() => {});
    await until(() => worker.entry.get('inFlight') === 1);
    worker.desert();
    expect(await worker.end()).toBe(47);
  });
});

test.each(methods)('a worker by %s whose heap is full has left a mark', async (method) => {
  const monitor = start('spins.mjs');
  monitor.settings = { env: { ...process.env, NODE_OPTIONS: '--max-old-space-size=50' } };
  const worker = await monitor.worker(method);
  ask(`${monitor.url}/hoard`).catch(() => {});
  expect(await worker.end()).toBe('SIGABRT');
  expect(worker.entry.get('nearHeapLimit')).toBe(1);
});
