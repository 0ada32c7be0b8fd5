/**
 * A worker's life, of forked and of spawned ones: it serves as soon as it says that it is ready, tells the scoreboard
 * what it does, asks for its replacement, and ends with the code that its end deserves.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { monotonic } from '../../dist/prefork/scoreboard.js';
import { ask, methods, monitorForEach, until } from './tiny-monitor.ts';

const start = monitorForEach();

describe.each(methods)('a worker by %s', (method) => {
  test('serves once it is ready, and knows who it is', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const { status, body } = await ask(`${monitor.url}/worker`);
    expect(status).toBe(200);
    expect(JSON.parse(body)).toEqual({
      id: 1,
      pid: worker.pid,
      process: worker.pid,
      generation: 1,
      method,
    });
    expect(worker.heard.map(({ type }) => type)).toEqual(['hello', 'ready']);
  });

  test('says in its title which one it is', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const title = readFileSync(`/proc/${worker.pid}/cmdline`, 'latin1').split('\0')[0];
    expect(title).toBe('forkbeard: worker 1 gen 1 [app]');
  });

  test('writes into the scoreboard what it does', async () => {
    const monitor = start('routes.mjs');
    const { entry, pid } = await monitor.worker(method);
    const before = monotonic();
    const slow = ask(`${monitor.url}/slow?ms=400`);
    await until(() => entry.get('inFlight') === 1);
    expect(entry.get('connections')).toBe(1);
    expect(entry.get('oldest')).toBeGreaterThanOrEqual(before);
    expect(entry.read('request')).toBe('GET /slow?ms=400');
    await ask(`${monitor.url}/nowhere`);
    await until(() => entry.get('inFlight') === 1);
    expect(entry.read('request')).toBe('GET /slow?ms=400');
    await slow;
    await until(() => entry.get('connections') === 0);
    const fields = [
      'pid',
      'accepted',
      'requests',
      'inFlight',
      'oldest',
      'errors',
      'accepting',
      'paused',
    ] as const;
    expect(Object.fromEntries(fields.map((field) => [field, entry.get(field)]))).toEqual({
      pid,
      accepted: 2,
      requests: 2,
      inFlight: 0,
      oldest: 0,
      errors: 0,
      accepting: 1,
      paused: 0,
    });
    expect(entry.get('heapUsed')).toBeGreaterThan(1e6);
    expect(entry.get('heapLimit')).toBeGreaterThan(entry.get('heapUsed'));
  });

  test('has a pulse', async () => {
    const { entry } = await start('routes.mjs').worker(method);
    const first = entry.get('beat');
    await until(() => entry.get('beat') > first);
    expect(entry.get('beat')).toBeLessThanOrEqual(monotonic());
  });

  test('asks for its replacement when it has served enough, and serves on', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method, { maxRequests: 3 });
    for (let i = 0; i < 2; i++) await ask(monitor.url);
    expect(worker.heard.map(({ type }) => type)).toEqual(['hello', 'ready']);
    await ask(monitor.url);
    expect(await worker.hears('tired')).toEqual({ type: 'tired', reason: 'requests' });
    for (let i = 0; i < 3; i++) expect((await ask(monitor.url)).status).toBe(200);
    expect(worker.heard.filter(({ type }) => type === 'tired').length).toBe(1);
    worker.say({ type: 'stop', how: 'graceful', recycled: true });
    expect(await worker.end()).toBe(40);
  });

  test('asks for its replacement when it has lived long enough', async () => {
    const worker = await start('routes.mjs').worker(method, { maxLifetime: 100 });
    expect(await worker.hears('tired')).toEqual({ type: 'tired', reason: 'lifetime' });
  });

  test('tells of a request that takes too long, once', async () => {
    const monitor = start('routes.mjs', { requestTimeout: 150 });
    const worker = await monitor.worker(method);
    const slow = ask(`${monitor.url}/slow?ms=700`);
    const told = await worker.hears('slow-request');
    expect(told).toMatchObject({ method: 'GET', url: '/slow?ms=700' });
    expect(told.age).toBeGreaterThanOrEqual(150);
    expect((await slow).status).toBe(200);
    expect(worker.heard.filter(({ type }) => type === 'slow-request').length).toBe(1);
  });

  test.each([
    ['/throw', 52, 'thrown by the application'],
    ['/reject', 52, 'rejected by the application'],
    ['/memory', 50, 'Cannot allocate'],
    ['/system', 51, 'I/O error'],
  ])('%s: nobody catches it, so it ends with %i and says why', async (path, code, why) => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    ask(`${monitor.url}${path}`).catch(() => {});
    expect(await worker.end()).toBe(code);
    expect(await monitor.said(why)).toBe(true);
    expect(monitor.stderr).toContain('forkbeard: worker 1 gen 1 [app]: uncaught');
  });

  test('ends at once when the stop is a quick one', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const cut = ask(`${monitor.url}/slow?ms=60000`).catch((error: NodeJS.ErrnoException) => error.code);
    await until(() => worker.entry.get('inFlight') === 1);
    worker.say({ type: 'stop', how: 'quick', recycled: false });
    expect(await worker.end()).toBe(0);
    expect(await cut).toBe('ECONNRESET');
  });

  test('a SIGTERM of its own is a graceful stop', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const slow = ask(`${monitor.url}/slow?ms=300`);
    await until(() => worker.entry.get('inFlight') === 1);
    process.kill(worker.pid, 'SIGTERM');
    await worker.hears('leaving');
    expect((await slow).body).toBe('slow\n');
    expect(await worker.end()).toBe(0);
  });

  test.each(['SIGINT', 'SIGQUIT'] as const)('a %s of its own is a quick stop', async (signal) => {
    const worker = await start('routes.mjs').worker(method);
    process.kill(worker.pid, signal);
    expect(await worker.end()).toBe(0);
  });

  test('ends without its monitor, when what is in flight is answered', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const slow = ask(`${monitor.url}/slow?ms=300`);
    await until(() => worker.entry.get('inFlight') === 1);
    worker.desert();
    await until(() => worker.entry.get('accepting') === 0);
    expect((await slow).body).toBe('slow\n');
    expect(await worker.end()).toBe(47);
  });

  test('ends without its monitor five seconds later, when something stays in flight', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const cut = ask(`${monitor.url}/slow?ms=60000`).catch((error: NodeJS.ErrnoException) => error.code);
    await until(() => worker.entry.get('inFlight') === 1);
    const deserted = performance.now();
    worker.desert();
    expect(await worker.end()).toBe(47);
    expect(performance.now() - deserted).toBeGreaterThanOrEqual(4990);
    expect(await cut).toBe('ECONNRESET');
  });

  test('a stop while it boots ends it with 0', async () => {
    const monitor = start('slow-boot.mjs');
    const worker = await monitor.begin(method);
    await monitor.said('booting');
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    expect(await worker.end()).toBe(0);
  });

  test('opens its logs anew when it is told to', async () => {
    const monitor = start('logs.mjs');
    const worker = await monitor.worker(method);
    worker.say({ type: 'reopen' });
    expect(await monitor.said('opens its logs anew')).toBe(true);
  });
});
