import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { application, HELLO, type Plan, poolIsBack, provoke, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

describe.each(methods)('a worker that ends, made by %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test.each([
    ['/exit?code=50', 'memory', 50],
    ['/exit?code=51', 'system', 51],
    ['/exit?code=7', 'uncaught', 7],
    ['/throw', 'uncaught', 52],
    ['/exit?code=40', 'recycled', 40],
  ])('%s is recorded as %s, and replaced', async (path, cause, exitCode) => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    // What they take is known from then on.
    await server.status();
    provoke(await server.port(), path);
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({ cause, exitCode, signal: null, generation: 1, method, ready: true });
    expect(record.age).toBeGreaterThan(0);
    expect(record.memory?.uss).toBeGreaterThan(0);
    await poolIsBack(server, 2);
    expect((await server.status()).exits).toEqual({ [cause]: 1 });
  });

  test('by a signal of its own leaves gracefully, and its place is filled meanwhile', async () => {
    const server = serve(application(HELLO).url, { plan: { ...plan, workers: 1 } });
    await server.hears('ready');
    const answer = server.get('/slow?ms=1500');
    let [worker] = (await server.status()).workers;
    while (worker?.inFlight === 0) [worker] = (await server.status()).workers;
    process.kill(worker?.pid as number, 'SIGTERM');
    await server.hears('worker-ready', ({ pid }) => pid !== worker?.pid);
    expect(server.all('worker-exit')).toEqual([]);
    expect(await answer).toEqual({ status: 200, body: 'slow' });
    expect(await server.hears('worker-exit')).toMatchObject({ cause: 'drained', pid: worker?.pid });
  });

  test('because somebody stopped its process counts as blocked', async () => {
    const server = serve(application(HELLO).url, { plan: { ...plan, blockedTimeout: 1500 } });
    await server.hears('ready');
    const [victim] = (await server.status()).workers;
    process.kill(victim?.pid as number, 'SIGSTOP');
    expect(await server.hears('worker-exit')).toMatchObject({ cause: 'blocked-loop', pid: victim?.pid });
    await poolIsBack(server, 2);
  });

  test('because a request took too long is told first, then killed', async () => {
    const server = serve(application(HELLO).url, { plan: { ...plan, requestTimeout: 500 } });
    await server.hears('ready');
    provoke(await server.port(), '/slow?ms=60000');
    const slow = await server.hears('worker-slow');
    expect(slow).toMatchObject({ reason: 'request', request: 'GET /slow?ms=60000' });
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({ cause: 'request-deadline', signal: 'SIGKILL', worker: slow.worker });
    expect(record.request).toContain('/slow');
    await poolIsBack(server, 2);
  });

  test('because it does not leave within the graceful timeout is killed', async () => {
    const server = serve(application(HELLO).url, { plan: { ...plan, workers: 1, gracefulTimeout: 700 } });
    await server.hears('ready');
    const answer = server.get('/slow?ms=60000').catch((error: Error) => error);
    for (let busy = 0; busy === 0; ) busy = (await server.status()).workers[0]?.inFlight ?? 0;
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
    expect(server.all('worker-exit')).toMatchObject([{ cause: 'graceful-deadline' }]);
    expect(await answer).toBeInstanceOf(Error);
  });
});

describe('a worker that ends with', () => {
  const begin = async (plan: Partial<Plan> = {}) => {
    const server = serve(application(HELLO).url, { plan: { workers: 2, spawnMethod: 'auto', ...plan } });
    await server.hears('ready');
    const port = await server.port();
    return { server, end: (code: number) => provoke(port, `/exit?code=${code}`) };
  };

  test('42 is replaced', async () => {
    const { server, end } = await begin();
    end(42);
    expect(await server.hears('worker-exit')).toMatchObject({ cause: 'address-in-use' });
    await poolIsBack(server, 2);
  });

  test('43 leaves its place empty, and the last one ends the server with 43', async () => {
    const { server, end } = await begin();
    end(43);
    const { worker } = await server.hears('worker-exit', ({ cause }) => cause === 'no-permission');
    await server.hears('warning', ({ message }) => message.startsWith(`Place ${worker} stays empty`));
    expect((await server.hello()).id).toBe(3 - worker);
    end(43);
    expect(await server.exited).toEqual([43, null]);
    expect(server.all('worker-started')).toHaveLength(2);
  });

  test('44 is one fewer', async () => {
    const { server, end } = await begin();
    end(44);
    expect(await server.hears('scaled')).toMatchObject({ from: 2, to: 1 });
    await server.hears('warning', ({ message }) => message.includes('not enough descriptors'));
    await poolIsBack(server, 1);
    expect((await server.status()).target).toBe(1);
  });

  test('45 comes back later than others', async () => {
    const { server, end } = await begin();
    end(45);
    const { cause, delay, failures } = await server.hears('backoff');
    expect([cause, failures]).toEqual(['out-of-kernel-memory', 1]);
    expect(delay).toBeGreaterThanOrEqual(1600);
  });

  test('46 is spawned from then on, like everybody, or ends a server that is to fork with 46', async () => {
    const { server, end } = await begin();
    end(46);
    const { reason } = await server.hears('method', ({ method }) => method === 'spawn');
    expect(reason).toContain('unsafe-fork');
    const { worker } = await server.hears('worker-exit', ({ cause }) => cause === 'unsafe-fork');
    await server.hears('worker-ready', ({ id, method }) => id === worker && method === 'spawn');
    const strict = await begin({ spawnMethod: 'fork' });
    strict.end(46);
    expect(await strict.server.exited).toEqual([46, null]);
  });
});

describe('an application that opens what its workers do not have', () => {
  const opens = `
    import { createServer } from 'node:net';
    createServer().listen(0, '127.0.0.1');
    export default (request, response) => response.end();`;

  test('is told what it is', async () => {
    const server = serve(application(opens).url);
    const { message } = await server.hears('warning');
    expect(message).toMatch(/does not work in its workers \(TCPServerWrap\): open it in afterFork/);
    await server.hears('ready');
  });

  test('and sees to it before a fork is told nothing', async () => {
    const server = serve(application(`${opens} export function beforeFork() {}`).url);
    await server.hears('ready');
    expect(server.all('warning')).toEqual([]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

describe.each(methods)('an application that does not boot, with %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test('stops the start with exit code 41, and says why', async () => {
    const server = serve(application('throw new Error("no such table")').url, { plan });
    expect(await server.exited).toEqual([41, null]);
    expect(server.all('stopping')).toMatchObject([
      { how: 'quick', cause: expect.stringContaining('no such table') },
    ]);
  });

  test('stops the start when the factory of its workers fails', async () => {
    const server = serve(application('export default async (w) => { throw new Error("no database"); }').url, {
      plan,
    });
    expect(await server.exited).toEqual([41, null]);
    expect(server.all('stopping')).toMatchObject([{ cause: expect.stringContaining('no database') }]);
  });

  test('stops the start when it listens itself where its workers do, and says so at once', async () => {
    const port = await freePort();
    const listens = `
      import { createServer } from 'node:http';
      const listener = (request, response) => response.end();
      createServer(listener).listen(${port});
      export default listener;`;
    const listen = [{ kind: 'tcp' as const, host: '127.0.0.1', port }];
    const server = serve(application(listens).url, { plan: { ...plan, listen } });
    expect(await server.exited).toEqual([41, null]);
    expect(server.all('stopping')).toMatchObject([{ cause: expect.stringContaining('listens by itself') }]);
    const ends = [...server.all('mold-exit'), ...server.all('worker-exit')];
    expect(ends.map(({ cause }) => cause)).toContain('boot');
    expect(server.all('backoff')).toEqual([]);
  });

  test('stops the start when it takes too long', async () => {
    const never =
      'await new Promise((resolve) => setTimeout(resolve, 1e6)); export default (req, res) => res.end();';
    const server = serve(application(never).url, { plan: { ...plan, bootTimeout: 1000 } });
    expect(await server.exited).toEqual([41, null]);
    const why = expect.stringMatching(/ was not ready within the boot timeout of 1\.0 s$/);
    expect(server.all('stopping')).toMatchObject([{ cause: why }]);
  });

  test('stops the start when it ends itself, however politely', async () => {
    const server = serve(application('process.exit(0)').url, { plan });
    expect(await server.exited).toEqual([41, null]);
    const why = expect.stringMatching(/ ended \(exit code 0\) before it was ready$/);
    expect(server.all('stopping')).toMatchObject([{ cause: why }]);
  });

  test('stops the start after several attempts when it crashes before it is ready', async () => {
    const server = serve(application('process.kill(process.pid, "SIGSEGV"); export default () => {};').url, {
      plan,
    });
    expect(await server.exited).toEqual([52, null]);
  });

  test('later on leaves places empty for a while, and the others serve', async () => {
    const app = application(HELLO);
    const server = serve(app.url, { plan });
    await server.hears('ready');
    app.rewrite('throw new Error("broken meanwhile")');
    // With a fork what was loaded is what counts: its workers come back whatever the file says.
    const [first, second] = (await server.status()).workers;
    process.kill(first?.pid as number, 'SIGKILL');
    if (method === 'fork') {
      await server.hears('worker-ready', ({ id, pid }) => id === 1 && pid !== first?.pid);
      return;
    }
    const { delay, failures } = await server.hears('backoff', (backoff) => backoff.failures === 3);
    expect(failures).toBe(3);
    expect(delay).toBeGreaterThanOrEqual(160);
    expect(delay).toBeLessThanOrEqual(240);
    expect((await server.hello()).pid).toBe(second?.pid);
    app.rewrite(HELLO);
    await poolIsBack(server, 2);
  });
});

test('a crash loop after readiness is slowed down from failure to failure', async () => {
  const crashes =
    'export const onReady = () => setImmediate(() => process.abort()); export default (q, r) => r.end();';
  const server = serve(application(crashes).url, { plan: { workers: 1, spawnMethod: 'fork' } });
  await server.hears('backoff', ({ failures }) => failures === 4);
  expect(server.all('backoff').map(({ cause, failures }) => [cause, failures])).toEqual([
    ['crash', 2],
    ['crash', 3],
    ['crash', 4],
  ]);
  const [first, second, third] = server.all('backoff').map(({ delay }) => delay) as [number, number, number];
  expect(first).toBeGreaterThanOrEqual(80);
  expect(second).toBeGreaterThan(first);
  expect(third).toBeGreaterThan(second);
});
