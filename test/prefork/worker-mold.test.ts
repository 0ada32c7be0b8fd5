/**
 * The mold: forks as many workers as it is asked for, each a process of its own; says why when it cannot load or fork;
 * and is made of a worker that is warm.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import type { Entry } from '../../dist/prefork/scoreboard.js';
import { application, folder } from './served.ts';
import { ask, fixture, type MoldPeer, monitorForEach, until } from './tiny-monitor.ts';

const start = monitorForEach();

describe('a mold', () => {
  test('forks many workers at once', async () => {
    const monitor = start('routes.mjs');
    const mold = monitor.mold();
    await mold.hears('loaded');
    const workers = await Promise.all(Array.from({ length: 8 }, () => monitor.worker('fork')));
    expect(new Set(workers.map(({ pid }) => pid)).size).toBe(8);
    expect(mold.heard.filter(({ type }) => type === 'forked').length).toBe(8);
  });

  test('has collected what loading left behind before it forks', async () => {
    const { url } = application(`
      const left = new WeakRef({ big: new Array(1000) });
      export default (request, response) => response.end(String(left.deref() === undefined));
    `);
    const monitor = start('routes.mjs', { application: url });
    await monitor.worker('fork');
    expect((await ask(monitor.url)).body).toBe('true');
  });

  test('gives a worker the listener that is for it alone', async () => {
    const monitor = start('routes.mjs', { reusePort: true });
    const mold = monitor.mold();
    await mold.hears('loaded');
    const entry = monitor.board.take() as Entry;
    const own = sys.listen({ host: '127.0.0.1', port: 0 });
    const { port } = sys.localAddress(own) as { port: number };
    const place = { worker: 1, generation: 1, entry: entry.index, maxRequests: 0, maxLifetime: 0 };
    const worker = await monitor.fork(mold, place, entry, [own]);
    await worker.hears('ready');
    expect((await ask(`http://127.0.0.1:${port}/`)).body).toBe('hello\n');
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    expect(await worker.end()).toBe(0);
    // Neither the mold nor anybody else has kept it.
    await expect(ask(`http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('does not fork when beforeFork fails: what must not be shared may still be open', async () => {
    const monitor = start('failing-hooks.mjs', { env: { FAILING: 'beforeFork' } });
    const mold = monitor.mold();
    await mold.hears('loaded');
    monitor.begin('fork').catch(() => {});
    expect(await mold.hears('not-forked')).toMatchObject({
      error: { message: 'beforeFork failed', exitCode: 46 },
    });
  });

  test('rehearses being a worker before it loads the application, and nothing is left of it', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [fixture('rehearses.mjs')]);
    const { answered, before, after } = JSON.parse(stdout);
    expect(answered).toBeGreaterThan(10);
    expect(after).toEqual(before);
  });

  test('tells what stands against a fork of what it has loaded', async () => {
    const mold = start('with-thread.mjs').mold();
    const { method, hazards } = await mold.hears('loaded');
    expect(method).toBe('spawn');
    expect(hazards.filter(({ blocking }) => blocking).map(({ code }) => code)).toEqual(['WORKER_THREADS']);
  });

  test('ends with its monitor', async () => {
    const mold = start('routes.mjs').mold();
    await mold.hears('loaded');
    mold.desert();
    expect(await mold.end()).toBe(47);
  });

  test('says so when the kernel has dropped the descriptor of a message, and goes on', async () => {
    const monitor = start('routes.mjs');
    const mold = monitor.mold();
    await mold.hears('loaded');
    const place = { worker: 9, generation: 1, entry: 9, maxRequests: 0, maxLifetime: 0 };
    mold.say({ type: 'fork', place });
    expect(await mold.hears('not-forked')).toMatchObject({
      entry: 9,
      error: { code: 'EMFILE', exitCode: 44 },
    });
    const worker = await monitor.worker('fork');
    worker.say({ type: 'promote', generation: 2, title: 'forkbeard: mold gen 2 [app]' });
    expect(await worker.hears('not-promoted')).toMatchObject({ error: { code: 'EMFILE', exitCode: 44 } });
    expect((await ask(`${monitor.url}/`)).status).toBe(200);
  });

  test('takes children that die at their birth for killed ones, unless none has ever lived', async () => {
    const flag = join(folder(), 'stillborn');
    const monitor = start('stillborn.mjs', { env: { FORKBEARD_STILLBORN: flag } });
    const stillborn = async (mold: MoldPeer) => {
      const refusals = () => mold.heard.filter((message) => message.type === 'not-forked');
      const before = refusals().length;
      // It never says hello.
      monitor.begin('fork').catch(() => {});
      await until(() => refusals().length > before);
      return refusals().at(-1)?.error.exitCode;
    };
    const mold = monitor.mold();
    await mold.hears('loaded');
    await monitor.worker('fork');
    writeFileSync(flag, '');
    for (let i = 0; i < 4; i++) expect(await stillborn(mold)).toBe(51);
    const second = monitor.mold();
    await second.hears('loaded');
    expect([await stillborn(second), await stillborn(second), await stillborn(second)]).toEqual([51, 51, 46]);
  });

  test('is made of a worker that is warm, and forks workers that serve', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker('fork');
    await ask(`${monitor.url}/`);
    const { mold, theirs } = monitor.adopt();
    worker.say({ type: 'promote', generation: 2, title: 'forkbeard: mold gen 2 [app]' }, [theirs]);
    const { pid } = await worker.hears('promoted');
    monitor.watch(mold, pid);
    expect(await mold.hears('loaded')).toMatchObject({ pid, method: 'fork' });
    const second = await monitor.worker('fork', { generation: 2 });
    worker.say({ type: 'stop', how: 'graceful', recycled: true });
    const code = await worker.end();
    expect(code, monitor.stderr).toBe(40);
    const { body } = await ask(`${monitor.url}/worker`);
    expect(JSON.parse(body)).toMatchObject({ id: 2, pid: second.pid, process: second.pid, generation: 2 });
    mold.say({ type: 'leave' });
    expect(await mold.end()).toBe(0);
  });
});
