/**
 * What an application may be, and what is said about one that is none of it. Each is served by real workers, forked and
 * spawned, and asked by real clients.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import WebSocket from 'ws';
import { answer, ask, methods, monitorForEach, until } from './tiny-monitor.ts';

const start = monitorForEach();

describe.each(methods)('an application in a worker by %s', (method) => {
  test.each([
    ['express.mjs', 'express'],
    ['fastify.mjs', 'fastify'],
    ['koa.mjs', 'koa'],
    ['commonjs.cjs', 'commonjs'],
    ['compiled.cjs', 'compiled'],
    ['websocket.mjs', 'http'],
  ])('%s', async (application, body) => {
    const monitor = start(application);
    await monitor.worker(method);
    expect(await ask(monitor.url)).toMatchObject({ status: 200, body });
  });

  test.each(['express.mjs', 'fastify.mjs'])('%s reads JSON', async (application) => {
    const monitor = start(application);
    await monitor.worker(method);
    const request = httpRequest(`${monitor.url}/json`, {
      agent: false,
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
    });
    request.end('{"a":1}');
    expect(JSON.parse((await answer(request)).body)).toEqual({ got: { a: 1 } });
  });

  test('a server takes itself for one that listens, and hears of its end', async () => {
    const monitor = start('server.mjs');
    const worker = await monitor.worker(method);
    expect(JSON.parse((await ask(monitor.url)).body)).toEqual({
      seen: ['listening'],
      listening: true,
      address: { address: '127.0.0.1', family: 'IPv4', port: monitor.port },
    });
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    expect(await worker.end()).toBe(0);
    expect(await monitor.said('the server is closed')).toBe(true);
  });

  test('a factory makes it in each worker', async () => {
    const monitor = start('factory.mjs');
    await monitor.worker(method);
    expect(JSON.parse((await ask(monitor.url)).body)).toEqual({ id: 1, own: method === 'fork' });
  });

  test('a Fastify application is closed when the last request is answered', async () => {
    const monitor = start('fastify.mjs');
    const worker = await monitor.worker(method);
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    expect(await worker.end()).toBe(0);
    expect(await monitor.said('fastify is closed')).toBe(true);
  });

  test('WebSockets work, and are told of the end by the application', async () => {
    const monitor = start('websocket.mjs');
    const worker = await monitor.worker(method);
    const socket = new WebSocket(monitor.url.replace('http', 'ws'));
    await once(socket, 'open');
    socket.send('hello');
    expect(String((await once(socket, 'message'))[0])).toBe(`${worker.pid} heard hello`);
    const closed = once(socket, 'close');
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    expect((await closed)[0]).toBe(1012);
    expect(await worker.end()).toBe(0);
  });

  test('HTTP/2 sessions end when their streams have', async () => {
    const monitor = start('http2.mjs');
    const worker = await monitor.worker(method);
    const session = connectHttp2(monitor.url);
    const stream = session.request({ ':path': '/' });
    const closed = once(session, 'close');
    await until(() => worker.entry.get('inFlight') === 1);
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    let body = '';
    for await (const chunk of stream) body += chunk;
    expect(body).toBe('http2');
    await closed;
    expect(await worker.end()).toBe(0);
  });

  describe('over TLS', () => {
    let folder = '';
    let env: Record<string, string>;

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'forkbeard-'));
      env = { TLS_KEY: join(folder, 'key.pem'), TLS_CERT: join(folder, 'cert.pem') };
      const pair = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
      execFileSync(
        'openssl',
        [
          'req',
          '-x509',
          ...pair,
          '-subj',
          '/CN=localhost',
          '-keyout',
          env['TLS_KEY'] as string,
          '-out',
          env['TLS_CERT'] as string,
        ],
        { stdio: 'ignore' },
      );
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    test('an https server answers, and leaves when told', async () => {
      const monitor = start('https.mjs', { env });
      const worker = await monitor.worker(method);
      const url = monitor.url.replace('http', 'https');
      const request = httpsRequest(url, { rejectUnauthorized: false, agent: false }).end();
      expect(await answer(request)).toMatchObject({ status: 200, body: 'https' });
      expect(worker.entry.get('requests')).toBe(1);
      worker.say({ type: 'stop', how: 'graceful', recycled: false });
      expect(await worker.end()).toBe(0);
    });
  });

  test('its hooks run, each in its place', async () => {
    const monitor = start('hooks.mjs', { requestTimeout: 200 });
    const worker = await monitor.worker(method);
    expect(await monitor.said(`onReady 1 ${worker.pid}`)).toBe(true);
    const late = ask(`${monitor.url}/late`);
    expect(await worker.hears('slow-request')).toMatchObject({ method: 'GET', url: '/late' });
    expect((await late).body).toBe('late');
    worker.say({ type: 'stop', how: 'graceful', recycled: false });
    expect(await worker.end()).toBe(0);
    const own = monitor.stderr.split('\n').filter((line) => line.endsWith(` ${worker.pid}`));
    const before = method === 'fork' ? [] : [`loaded ${worker.pid}`];
    expect(own).toEqual([
      ...before,
      ...['afterFork 1', 'onReady 1', 'onRequestTimeout GET /late 1', 'onStop 1', 'stopped 1', 'exit'].map(
        (line) => `${line} ${worker.pid}`,
      ),
    ]);
    expect(monitor.stderr.includes('beforeFork')).toBe(method === 'fork');
  });

  test('finds the timers that it started when it was loaded', async () => {
    const monitor = start('timers.mjs');
    await monitor.worker(method);
    const seen = async () => JSON.parse((await ask(monitor.url)).body);
    const first = await seen();
    for (let now = first; now.ticks < first.ticks + 3 || now.once === 0 || now.weak < 2; now = await seen()) {
      expect(now.cleared).toBe(0);
    }
    expect(await seen()).toMatchObject({ once: 1, cleared: 0 });
  });

  test('handles errors itself if it listens for them', async () => {
    const monitor = start('handles-errors.mjs');
    const worker = await monitor.worker(method);
    expect((await ask(`${monitor.url}/throw`)).body).toBe('fine');
    expect(await monitor.said('handled: thrown and handled')).toBe(true);
    expect((await ask(monitor.url)).body).toBe('fine');
    expect(worker.gone).toBe(false);
  });
});

describe('an application that does not start', () => {
  const refusals: [application: string, why: RegExp][] = [
    ['throws.mjs', /this application throws at import/],
    ['number.mjs', /default export must be a request listener.*it is 42/],
    ['no-default.mjs', /default export must be a request listener.*it is missing/],
    ['listens.mjs', /listens by itself/],
    ['bad-hook.mjs', /afterFork must be a function/],
    ['is-not-there.mjs', /Cannot find module/],
  ];

  test.each(refusals)('%s: the mold says why and ends with 41', async (application, why) => {
    const mold = start(application).mold();
    const { error } = await mold.hears('failed');
    expect(error.message).toMatch(why);
    expect(error.exitCode).toBe(41);
    expect(await mold.end()).toBe(41);
  });

  test.each(refusals)('%s: a spawned worker says why and ends with 41', async (application, why) => {
    const worker = await start(application).begin('spawn');
    const { error } = await worker.hears('failed');
    expect(error.message).toMatch(why);
    expect(await worker.end()).toBe(41);
  });

  test.each(methods)('a factory that makes nothing useful: a worker by %s ends with 41', async (method) => {
    const worker = await start('bad-factory.mjs').begin(method);
    const { error } = await worker.hears('failed');
    expect(error.message).toMatch(/What the factory returned must be/);
    expect(await worker.end()).toBe(41);
  });

  test.each(methods)('afterFork fails: a worker by %s ends with 41', async (method) => {
    const worker = await start('failing-hooks.mjs', { env: { FAILING: 'afterFork' } }).begin(method);
    expect((await worker.hears('failed')).error.message).toBe('afterFork failed');
    expect(await worker.end()).toBe(41);
  });

  test.each(methods)('onReady fails: a worker by %s has been ready, and ends with 52', async (method) => {
    const monitor = start('failing-hooks.mjs', { env: { FAILING: 'onReady' } });
    const worker = await monitor.worker(method);
    expect(await worker.end()).toBe(52);
    expect(await monitor.said('onReady failed')).toBe(true);
    expect(worker.heard.map(({ type }) => type)).toEqual(['hello', 'ready']);
  });

  test.each(methods)('it wants a port that is taken: a worker by %s ends with 42', async (method) => {
    const monitor = start('takes-port.mjs');
    monitor.plan.env['TAKEN'] = String(monitor.port);
    const worker = await monitor.begin(method);
    expect((await worker.hears('failed')).error).toMatchObject({ code: 'EADDRINUSE', exitCode: 42 });
    expect(await worker.end()).toBe(42);
  });
});
