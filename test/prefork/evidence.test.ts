import { describe, expect, test } from 'vitest';
import { application, HELLO, load, poolIsBack, provoke, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

describe.each(methods)('a worker that cannot speak any more, made by %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test('with its heap at the limit is told from a crash', async () => {
    const server = serve(application(HELLO).url, { plan, env: { NODE_OPTIONS: '--max-old-space-size=60' } });
    await server.hears('ready');
    provoke(await server.port(), '/grow');
    expect(await server.hears('worker-exit')).toMatchObject({ cause: 'heap-limit' });
    await poolIsBack(server, 2);
  });

  test('because its loop stands still is told first, with its stack, then killed; the other one serves on', async () => {
    const server = serve(application(HELLO).url, { plan: { ...plan, blockedTimeout: 2000 } });
    await server.hears('ready');
    const port = await server.port();
    provoke(port, '/spin');
    const slow = await server.hears('worker-slow');
    expect(slow).toMatchObject({ reason: 'blocked-loop', request: expect.stringContaining('/spin') });
    expect(slow.age).toBeGreaterThanOrEqual(900);
    const { failed, requests, text } = await load(port, 1, 2);
    expect(failed, text).toBe(0);
    expect(requests).toBeGreaterThan(10);
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({ cause: 'blocked-loop', signal: 'SIGKILL', worker: slow.worker });
    expect(record.stack).toMatch(/app\.mjs/);
    await poolIsBack(server, 2);
  });
});
