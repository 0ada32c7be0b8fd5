import { describe, expect, test } from 'vitest';
import { application, HELLO, load, poolIsBack, type Served, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

/** The fewest workers that served, and had not been told to leave, whenever something happened since `from`. */
function fewestReady(server: Served, from: string): number {
  const since = server.told.findIndex(({ event }) => event === from);
  return Math.min(...server.told.slice(since).map(({ serving }) => serving));
}

describe.each(methods)('a reload, with %s', (method) => {
  const plan = { workers: 3, spawnMethod: method };

  test('never has fewer workers than there should be', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const before = (await server.status()).workers.map(({ pid }) => pid);
    await server.ask('reload');
    const { workers, ready, generation } = await server.status();
    expect([ready, generation]).toEqual([3, 2]);
    expect(workers.filter(({ pid, state }) => state === 'ready' && before.includes(pid))).toEqual([]);
    expect(fewestReady(server, 'reload-started')).toBeGreaterThanOrEqual(3);
  });

  test('of an application that does not load leaves all workers as they are', async () => {
    const app = application(HELLO);
    const server = serve(app.url, { plan });
    await server.hears('ready');
    const before = (await server.status()).workers.map(({ pid }) => pid);
    app.rewrite('throw new Error("half deployed")');
    await expect(server.ask('reload')).rejects.toThrow('half deployed');
    expect(await server.hears('reload-failed')).toMatchObject({ generation: 2 });
    const status = await server.status();
    expect(status).toMatchObject({ generation: 1, ready: 3, state: 'ready' });
    expect(status.workers.filter(({ state }) => state === 'ready').map(({ pid }) => pid)).toEqual(before);
    app.rewrite(HELLO.replace('VERSION = 1', 'VERSION = 3'));
    await server.ask('reload');
    expect(await server.hello()).toMatchObject({ version: 3, generation: 3 });
  });

  test('of an application whose workers do not boot touches nothing but the first place', async () => {
    const app = application(HELLO);
    const server = serve(app.url, { plan });
    await server.hears('ready');
    const before = (await server.status()).workers.map(({ pid }) => pid);
    app.rewrite(HELLO.replace('info = worker;', 'throw new Error("no database");'));
    server.kill('SIGHUP');
    const { message } = await server.hears('reload-failed');
    expect(message).toContain('no database');
    const serving = (await server.status()).workers.filter(({ state }) => state === 'ready');
    expect(serving.map(({ pid }) => pid)).toEqual(before);
  });

  test('that is asked for again while it runs is done once more, once', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    await Promise.all([server.ask('reload'), server.ask('reload'), server.ask('reload')]);
    const { generation } = await server.status();
    expect(generation).toBeLessThanOrEqual(3);
  });

  test('goes on when workers are killed in the middle of it', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const [, , third] = (await server.status()).workers;
    const reload = server.ask('reload');
    await server.hears('reload-started');
    process.kill(third?.pid as number, 'SIGKILL');
    await reload;
    const { generation, ready } = await server.status();
    expect([generation, ready]).toEqual([2, 3]);
  });
});

describe.each(methods)('workers with a socket each, made by %s', (method) => {
  test('all answer, are replaced without a failed request, and are not to be fewer', async () => {
    const plan = { workers: 2, spawnMethod: method, reusePort: true };
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const ids = new Set<number>();
    while (ids.size < 2) ids.add((await server.hello()).id);
    const result = load(await server.port(), 3, 8);
    await server.ask('reload');
    await server.ask('scale', 3);
    await expect(server.ask('scale', 1)).rejects.toThrow('from 2 to');
    await server.ask('scale', 2);
    const { failed, text } = await result;
    expect(failed, text).toBe(0);
  });
});

test('a reload mends a server whose mold died and does not load any more', async () => {
  const app = application(HELLO);
  const server = serve(app.url, { plan: { workers: 2, spawnMethod: 'fork' } });
  await server.hears('ready');
  app.rewrite('throw new Error("broken meanwhile")');
  process.kill(server.all('mold-ready')[0]?.pid as number, 'SIGKILL');
  await server.until(() => server.all('mold-exit').length === 2, 'a mold that did not load');
  await server.ask('kill', 1);
  await server.hears('worker-exit');
  expect((await server.hello()).id).toBe(2);
  app.rewrite(HELLO.replace('VERSION = 1', 'VERSION = 2'));
  await server.ask('reload');
  expect(await server.status()).toMatchObject({ ready: 2, generation: 2 });
  expect((await server.hello()).version).toBe(2);
});

describe.each(methods)('the number of workers, with %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test('changes by TTIN and TTOU, the highest numbers first, without a failed request', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const result = load(await server.port(), 3, 8);
    server.kill('SIGTTIN');
    await poolIsBack(server, 3);
    expect((await server.status()).workers.map(({ id }) => id)).toEqual([1, 2, 3]);
    server.kill('SIGTTOU');
    await server.hears('worker-exit', ({ worker }) => worker === 3);
    server.kill('SIGTTOU');
    await server.hears('scaled', ({ to }) => to === 1);
    await server.until(() => server.all('worker-exit').length === 2, 'two ends');
    expect(server.all('worker-exit').map(({ worker, cause }) => [worker, cause])).toEqual([
      [3, 'drained'],
      [2, 'drained'],
    ]);
    // There is always one.
    server.kill('SIGTTOU');
    await server.hears('warning', ({ message }) => message.includes('not 0'));
    const { failed, text } = await result;
    expect(failed, text).toBe(0);
    expect((await server.status()).target).toBe(1);
  });

  test('is told what it cannot be', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    await expect(server.ask('scale', 0)).rejects.toThrow('from 1 to');
    await expect(server.ask('scale', 1.5)).rejects.toThrow('from 1 to');
    await expect(server.ask('scale', 1e6)).rejects.toThrow('from 1 to');
  });

  test('is none after WINCH, until a reload brings them back', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    server.kill('SIGWINCH');
    await server.until(() => server.all('worker-exit').length === 2, 'two ends');
    expect(await server.status()).toMatchObject({ state: 'draining', ready: 0, target: 2, workers: [] });
    // Whoever comes meanwhile waits, and is answered.
    const waiting = server.get('/');
    await server.ask('reload');
    expect((await waiting).status).toBe(200);
    expect(await server.status()).toMatchObject({ state: 'ready', ready: 2 });
  });
});

describe.each(methods)('workers that are replaced because of their age, with %s', (method) => {
  test('make room one after the other, without a failed request', async () => {
    const plan = { workers: 2, spawnMethod: method, maxRequests: 300, jitter: 10 };
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    while (server.all('worker-exit').length < 2) {
      const { failed, text } = await load(await server.port(), 1, 8);
      expect(failed, text).toBe(0);
    }
    const recycled = server.all('worker-exit');
    expect(new Set(recycled.map(({ cause, reason, exitCode }) => `${cause} ${reason} ${exitCode}`))).toEqual(
      new Set(['recycled requests 40']),
    );
    expect(fewestReady(server, 'ready')).toBeGreaterThanOrEqual(2);
    expect(server.all('backoff')).toEqual([]);
  });

  test('or of their memory', async () => {
    const grows = `const held = [];
      export default (req, res) => { held.push(Buffer.alloc(1 << 26, 1)); res.end(String(process.pid)); };`;
    const plan = { workers: 1, spawnMethod: method, maxMemory: 100 << 20 };
    const server = serve(application(grows).url, { plan, options: { sampleEvery: 1100 } });
    await server.hears('ready');
    const first = (await server.get('/')).body;
    while ((await server.get('/')).body === first) if (server.all('worker-exit').length > 0) break;
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({ cause: 'recycled', reason: 'memory', exitCode: 40, pid: Number(first) });
    expect(record.memory?.uss).toBeGreaterThan(100 << 20);
  });

  test('or of their memory, which is looked at sooner when it grows fast', async () => {
    const leaks = `const held = [];
      export const onReady = () => {
        setInterval(() => held.length < 400 && held.push(Buffer.alloc(1 << 20, 1)), 5);
      };
      export default (req, res) => res.end();`;
    const plan = { workers: 1, spawnMethod: method, maxMemory: 200 << 20 };
    // What is private is asked for every minute only.
    const server = serve(application(leaks).url, { plan, options: { sampleEvery: 60_000 } });
    const { pid } = await server.hears('worker-ready');
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({ cause: 'recycled', reason: 'memory', pid });
  });
});

describe('a warm worker', () => {
  test('becomes the mold of the others, as often as was said, without a failed request', async () => {
    const plan = { workers: 2, spawnMethod: 'fork' as const, reforkAfter: [50, 200] };
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const [mold] = server.all('mold-ready');
    const { failed, text } = await load(await server.port(), 4, 8);
    expect(failed, text).toBe(0);
    await server.hears('mold-ready', ({ generation }) => generation === 3);
    await server.until(() => server.all('mold-exit').length === 2, 'the end of the molds before');
    expect(server.all('refork').map(({ generation }) => generation)).toEqual([2, 3]);
    expect(server.all('mold-exit')[0]).toMatchObject({ pid: mold?.pid, generation: 1, cause: 'drained' });
    const status = await server.status();
    expect(status).toMatchObject({ generation: 3, ready: 2 });
    expect(fewestReady(server, 'ready')).toBeGreaterThanOrEqual(2);
    // Its children are forked from it: they come back from it, too.
    await server.ask('kill', 1);
    await poolIsBack(server, 2);
    expect(server.all('warning')).toEqual([]);
  });
});
