/**
 * What a worker accepts, and what it leaves in the kernel for others: limits of connections and of requests, the lack of
 * descriptors, and the share that is fair.
 */
import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { ask, methods, monitorForEach, until } from './tiny-monitor.ts';

const start = monitorForEach();

let sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
});

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  await once(socket, 'connect');
  return socket;
}

describe.each(methods)('a worker by %s', (method) => {
  test('with as many connections as it may have leaves others in the kernel until one ends', async () => {
    const monitor = start('routes.mjs', { maxConnections: 2 });
    const { entry } = await monitor.worker(method);
    const first = await open(monitor.port);
    await open(monitor.port);
    await until(() => entry.get('connections') === 2);
    const waiting = ask(monitor.url);
    await until(() => entry.get('paused') === 1);
    expect(entry.get('accepted')).toBe(2);
    first.destroy();
    expect((await waiting).body).toBe('hello\n');
    await until(() => entry.get('connections') === 1);
    expect(entry.get('accepted')).toBe(3);
    expect(entry.get('paused')).toBe(0);
  });

  test('heeds the limit that the application sets', async () => {
    const monitor = start('max-connections.mjs');
    const { entry } = await monitor.worker(method);
    const first = await open(monitor.port);
    await until(() => entry.get('connections') === 1);
    const waiting = ask(monitor.url);
    await until(() => entry.get('paused') === 1);
    first.destroy();
    expect((await waiting).status).toBe(200);
  });

  test('with as many requests in flight as it may have accepts none, and never has more', async () => {
    const monitor = start('most-at-once.mjs', { maxRequestsInFlight: 3 });
    const { entry } = await monitor.worker(method);
    const answers = await Promise.all(Array.from({ length: 30 }, () => ask(monitor.url)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(Math.max(...answers.map(({ body }) => Number(body)))).toBe(3);
    await until(() => entry.get('inFlight') === 0);
  });

  test('is not held up by connections that ask for nothing', async () => {
    const monitor = start('routes.mjs', { maxRequestsInFlight: 2 });
    const { entry } = await monitor.worker(method);
    await open(monitor.port);
    await open(monitor.port);
    await until(() => entry.get('connections') === 2);
    expect((await ask(monitor.url)).body).toBe('hello\n');
  });

  test('counts none of the requests that were sent in a row on a connection that is gone', async () => {
    const monitor = start('routes.mjs');
    const { entry } = await monitor.worker(method);
    const client = await open(monitor.port);
    const question = (path: string) => `GET ${path} HTTP/1.1\r\nhost: localhost\r\n\r\n`;
    client.write(question('/slow?ms=60000') + question('/') + question('/'));
    await until(() => entry.get('inFlight') === 3);
    client.destroy();
    await until(() => entry.get('inFlight') === 0);
    expect(entry.get('requests')).toBe(3);
  });

  test('without descriptors pauses, says so, and goes on when there are some again', async () => {
    const monitor = start('routes.mjs');
    monitor.settings = { rlimits: { nofile: { soft: 64, hard: 64 } } };
    const worker = await monitor.worker(method);
    const clients = await Promise.all(Array.from({ length: 100 }, () => open(monitor.port)));
    expect(await worker.hears('paused')).toEqual({ type: 'paused', reason: 'descriptors' });
    expect(worker.entry.get('paused')).toBe(3);
    expect(worker.entry.get('connections')).toBeGreaterThan(10);
    for (const client of clients) client.destroy();
    await worker.hears('resumed');
    expect((await ask(monitor.url)).body).toBe('hello\n');
    expect(worker.entry.get('paused')).toBe(0);
    expect(worker.gone).toBe(false);
  });
});

test('two workers share connections evenly', async () => {
  const monitor = start('routes.mjs');
  const workers = [await monitor.worker('fork'), await monitor.worker('fork')];
  await Promise.all(Array.from({ length: 64 }, () => open(monitor.port)));
  const counts = () => workers.map(({ entry }) => entry.get('connections'));
  await until(() => counts().reduce((a, b) => a + b) === 64);
  expect(Math.max(...counts()) / Math.min(...counts())).toBeLessThanOrEqual(1.5);
});

test('a worker that hangs does not keep others from accepting', async () => {
  const monitor = start('routes.mjs');
  const [first, second] = [await monitor.worker('fork'), await monitor.worker('fork')];
  process.kill(first.pid, 'SIGSTOP');
  await Promise.all(Array.from({ length: 50 }, () => ask(monitor.url)));
  expect(second.entry.get('accepted')).toBe(50);
});

test('one that was killed without a word leaves its share to the others', async () => {
  const monitor = start('routes.mjs');
  const [first, second] = [await monitor.worker('fork'), await monitor.worker('fork')];
  process.kill(first.pid, 'SIGKILL');
  await first.end();
  await Promise.all(Array.from({ length: 50 }, () => ask(monitor.url)));
  expect(second.entry.get('accepted')).toBe(50);
});

test('a worker that comes later gets its share of clients that keep their connections', async () => {
  const monitor = start('routes.mjs');
  const first = await monitor.worker('fork');
  let stopped = false;
  const client = async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    while (!stopped) {
      expect((await ask(monitor.url, { agent })).body).toBe('hello\n');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    agent.destroy();
  };
  const clients = Array.from({ length: 30 }, client);
  await until(() => first.entry.get('connections') === 30);
  const second = await monitor.worker('fork');
  await until(() => second.entry.get('connections') >= 11);
  stopped = true;
  await Promise.all(clients);
});
