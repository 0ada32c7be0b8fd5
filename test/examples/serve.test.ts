/** The example applications, unchanged, under `forkbeard serve`, with real clients; forked and spawned. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { Agent, get, request } from 'node:http';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { createClient } from '@redis/client';
import { describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { folder, serve, slow } from '../cli/serving.ts';

const example = (name: string) => fileURLToPath(new URL(`../../examples/serve/${name}.mjs`, import.meta.url));
const json = async (url: string, body?: unknown) => {
  const response = await fetch(url, {
    ...(body !== undefined && {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};

const hasRedis = spawnSync('redis-server', ['--version']).error === undefined;

describe.each(['fork', 'spawn'])('%sed workers', { timeout: 60_000 * slow }, (method) => {
  const start = (name: string, options: Parameters<typeof serve>[2] = {}) =>
    serve(example(name), ['--spawn-method', method], options);

  it('serve plain http: kept connections, streams, bodies', async () => {
    const server = start('http');
    const url = await server.url();
    expect(await server.event('method')).toMatchObject({ method });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const answers: string[] = [];
    for (let i = 0; i < 3; i++) {
      const [response] = await once(get(url, { agent }), 'response');
      let text = '';
      for await (const chunk of response) text += chunk;
      answers.push(text);
    }
    // One connection, one worker, which is not the monitor.
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toMatch(/^Hello from worker \d+\n$/);
    expect(answers[0]).not.toContain(String(server.child.pid));
    agent.destroy();
    expect((await (await fetch(`${url}/count`)).text()).split('\n')).toHaveLength(101);
    const upload = request(`${url}/echo`, { method: 'POST' });
    const echoed = once(upload, 'response');
    upload.write('first, ');
    upload.end('second');
    let text = '';
    for await (const chunk of (await echoed)[0]) text += chunk;
    expect(text).toBe('first, second');
    expect(await server.stop()).toBe(0);
  });

  it.each(['express', 'fastify'])('serve %s', async (name) => {
    const server = start(name);
    const url = await server.url();
    expect(await json(url)).toEqual({ status: 200, body: { hello: name, pid: expect.any(Number) } });
    expect(await json(`${url}/users/7`)).toEqual({ status: 200, body: { id: '7' } });
    expect(await json(`${url}/sum`, [1, 2, 3])).toEqual({ status: 200, body: { sum: 6 } });
    expect((await fetch(`${url}/nothing`)).status).toBe(404);
    expect(await server.stop()).toBe(0);
  });

  it('serve koa', async () => {
    const server = start('koa');
    const url = await server.url();
    expect((await json(url)).body).toMatchObject({ hello: 'koa' });
    expect((await fetch(`${url}/nothing`)).status).toBe(404);
    expect(await server.stop()).toBe(0);
  });

  it('serve WebSockets, and say goodbye to them', async () => {
    const server = start('websocket');
    const url = await server.url();
    const socket = new WebSocket(url.replace('http', 'ws'));
    await once(socket, 'open');
    socket.send('hi');
    const [answer] = await once(socket, 'message');
    expect(String(answer)).toMatch(/^\d+: hi$/);
    const closed = once(socket, 'close');
    const ended = server.stop();
    const [code] = await closed;
    expect(code).toBe(1001);
    expect(await ended).toBe(0);
  });

  it('serve events, and end their streams', async () => {
    const server = start('events');
    const url = await server.url();
    const response = await fetch(`${url}/events`, { headers: { 'last-event-id': '41' } });
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    let text = '';
    let ended: Promise<number | null> | undefined;
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      text += Buffer.from(chunk).toString();
      if (text.includes('id: 43') && ended === undefined) ended = server.stop();
    }
    expect(text).toMatch(/^id: 42\ndata: \{"pid":\d+\}\n\nid: 43\n/);
    expect(await ended).toBe(0);
  });

  it.skipIf(!hasRedis)('have a database connection each (needs redis-server)', async () => {
    const port = await freePort();
    const redis = spawn(
      'redis-server',
      ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    try {
      for await (const chunk of redis.stdout) if (String(chunk).includes('Ready to accept')) break;
      const url = `redis://127.0.0.1:${port}`;
      const own = await createClient({ url }).connect();
      await own.set('greeting', 'Ahoy');
      const server = start('redis', { env: { REDIS_URL: url } });
      const address = await server.url();
      const answers = await Promise.all(Array.from({ length: 40 }, async () => (await json(address)).body));
      // None was lost, none came twice, none reached the wrong one.
      expect(answers.map(({ visits }) => visits as number).sort((a, b) => a - b)).toEqual(
        Array.from({ length: 40 }, (_, index) => index + 1),
      );
      expect(new Set(answers.map(({ greeting }) => greeting))).toEqual(new Set(['Ahoy']));
      // A connection of each worker, and ours. The mold has none any more.
      const clients = (await own.sendCommand(['CLIENT', 'LIST'])) as unknown as string;
      expect(clients.trim().split('\n')).toHaveLength(3);
      await own.close();
      expect(await server.stop()).toBe(0);
    } finally {
      redis.kill();
      await once(redis, 'close');
    }
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
