/**
 * The mold: forks as many workers as it is asked for, each a process of its own; says why when it cannot load or fork;
 * and is made of a worker that is warm.
 */
import { describe, expect, test } from 'vitest';
import { ask, monitorForEach } from './tiny-monitor.ts';

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
