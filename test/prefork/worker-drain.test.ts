/**
 * How a worker leaves: what is in flight is finished, whatever kind it is; nothing waits for the idle; and what cannot
 * be finished is ended in time.
 */
import { once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { answer, ask, methods, monitorForEach, patiently, until, type WorkerPeer } from './tiny-monitor.ts';

const start = monitorForEach();

const leave = (worker: WorkerPeer) => worker.say({ type: 'stop', how: 'graceful', recycled: false });

describe.each(methods)('a worker by %s that leaves', (method) => {
  test('answers what is in flight, as the last of its connection', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const agent = new Agent({ keepAlive: true });
    const slow = ask(`${monitor.url}/slow?ms=300`, { agent });
    await until(() => worker.entry.get('inFlight') === 1);
    leave(worker);
    const { status, body, headers } = await slow;
    expect({ status, body, connection: headers.connection }).toEqual({
      status: 200,
      body: 'slow\n',
      connection: 'close',
    });
    expect(await worker.end()).toBe(0);
    agent.destroy();
  });

  test('answers a request that comes on an idle connection after the stop', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    expect((await ask(monitor.url, { agent })).headers.connection).toBe('keep-alive');
    leave(worker);
    await until(() => worker.entry.get('accepting') === 0);
    const request = httpRequest(monitor.url, { agent }).end();
    const { body, headers } = await answer(request);
    expect(request.reusedSocket).toBe(true);
    expect({ body, connection: headers.connection }).toEqual({ body: 'hello\n', connection: 'close' });
    expect(await worker.end()).toBe(0);
    agent.destroy();
  });

  test.each([
    ['as long as they were promised', 1200, 1200],
    ['not as long as the longest promise', 60_000, 2000],
  ])('keeps idle connections %s, when others serve on', async (_, promised, kept) => {
    const monitor = start('keep-alive.mjs', { env: { KEEP_ALIVE: String(promised) } });
    const worker = await monitor.worker(method);
    const idle = connect(monitor.port, '127.0.0.1');
    idle.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(idle, 'data');
    const stopped = performance.now();
    worker.say({ type: 'stop', how: 'graceful', recycled: false, patient: true });
    expect(await worker.end()).toBe(0);
    expect(performance.now() - stopped).toBeGreaterThanOrEqual(kept);
    idle.destroy();
  });

  test('answers a connection that it has accepted and that has not asked yet', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const socket = connect(monitor.port, '127.0.0.1');
    await until(() => worker.entry.get('connections') === 1);
    leave(worker);
    await until(() => worker.entry.get('accepting') === 0);
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
    let text = '';
    for await (const chunk of socket) text += chunk;
    expect(text).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    expect(text).toContain('Connection: close\r\n');
    expect(text).toContain('hello\n');
    expect(await worker.end()).toBe(0);
  });

  test('is gone within a second when nobody asks for anything', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const agent = new Agent({ keepAlive: true });
    await ask(monitor.url, { agent });
    leave(worker);
    expect(await worker.end()).toBe(0);
    agent.destroy();
  });

  test('finishes a response that is being streamed, and a request body', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const streamed = ask(`${monitor.url}/stream`);
    const echo = httpRequest(`${monitor.url}/echo`, { agent: false, method: 'POST' });
    const echoed = answer(echo);
    echo.write('before ');
    await until(() => worker.entry.get('inFlight') === 2);
    leave(worker);
    await until(() => worker.entry.get('accepting') === 0);
    echo.end('after');
    expect((await echoed).body).toBe('before after');
    expect((await streamed).body).toBe('part 0\npart 1\npart 2\npart 3\npart 4\n');
    expect(await worker.end()).toBe(0);
  });

  test('ends server-sent events, so that their clients come back to another worker', async () => {
    const monitor = start('routes.mjs');
    const worker = await monitor.worker(method);
    const events = ask(`${monitor.url}/events`);
    await until(() => worker.entry.get('inFlight') === 1);
    leave(worker);
    expect(await events).toMatchObject({ status: 200, body: 'data: hello\n\n' });
    expect(await worker.end()).toBe(0);
  });

  test('leaves WebSockets open until they end, or the time is over', async () => {
    const monitor = start('websocket-without-end.mjs', { gracefulTimeout: 400 });
    const worker = await monitor.worker(method);
    const socket = new WebSocket(monitor.url.replace('http', 'ws'));
    await once(socket, 'open');
    const stopped = performance.now();
    leave(worker);
    await until(() => worker.entry.get('accepting') === 0);
    socket.send('still there');
    expect(String((await once(socket, 'message'))[0])).toBe('still there');
    const closed = once(socket, 'close');
    await patiently(closed, () => 'the socket is open');
    expect(performance.now() - stopped).toBeGreaterThanOrEqual(400);
    expect(await worker.end()).toBe(0);
  });

  test('ends by itself when the time is over', async () => {
    const monitor = start('routes.mjs', { gracefulTimeout: 300 });
    const worker = await monitor.worker(method);
    const cut = ask(`${monitor.url}/slow?ms=60000`).catch((error: NodeJS.ErrnoException) => error.code);
    await until(() => worker.entry.get('inFlight') === 1);
    const stopped = performance.now();
    leave(worker);
    expect(await worker.end()).toBe(0);
    expect(performance.now() - stopped).toBeGreaterThanOrEqual(300);
    expect(await cut).toBe('ECONNRESET');
  });

  test('ends at once after all when it is told to be quick', async () => {
    const monitor = start('routes.mjs', { gracefulTimeout: 60_000 });
    const worker = await monitor.worker(method);
    const cut = ask(`${monitor.url}/slow?ms=60000`).catch((error: NodeJS.ErrnoException) => error.code);
    await until(() => worker.entry.get('inFlight') === 1);
    leave(worker);
    await until(() => worker.entry.get('accepting') === 0);
    worker.say({ type: 'stop', how: 'quick', recycled: false });
    expect(await worker.end()).toBe(0);
    expect(await cut).toBe('ECONNRESET');
  });

  test('leaves what waits in the kernel to the others', async () => {
    const monitor = start('routes.mjs', { maxConnections: 1 });
    const first = await monitor.worker(method);
    const slow = ask(`${monitor.url}/slow?ms=300`);
    await until(() => first.entry.get('connections') === 1);
    const waiting = Promise.all(Array.from({ length: 5 }, () => ask(`${monitor.url}/worker`)));
    leave(first);
    await slow;
    expect(await first.end()).toBe(0);
    const second = await monitor.worker(method);
    for (const { body } of await waiting) expect(JSON.parse(body).pid).toBe(second.pid);
  });
});
