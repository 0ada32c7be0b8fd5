/** Ten thousand clients at once, again and again: all are served, and what their connections took is there for the next. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { memoryOf } from '../../dist/prefork/monitor/memory.js';
import { application, serve } from './served.ts';

const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);

const CLIENTS = 10_000;
const ROUNDS = 4;
/** So many connect at the same time: fewer than any kernel's backlog holds. */
const ABREAST = 100;

/** This process has one end of each, and some descriptors of its own. */
const hasRoom =
  Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).replace('unlimited', '1e9')) >
  CLIENTS + 1000;

const LASTING = `
import { createServer } from 'node:http';
const server = createServer((req, res) => res.end('hello'));
// Idle for as long as a slow machine takes for all of them.
server.keepAliveTimeout = 600_000;
export default server;
`;

async function client(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
  if (!/^connection: close/im.test(String(answer))) return socket;
  // Its worker has more than its share.
  socket.destroy();
  return client(port);
}

async function allClients(port: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < CLIENTS)
    sockets.push(...(await Promise.all(Array.from({ length: ABREAST }, () => client(port)))));
  return sockets;
}

test.runIf(hasRoom)(
  'memory is flat over rounds of ten thousand connections (needs 11 000 descriptors)',
  async () => {
    const server = serve(application(LASTING).url, { plan: { workers: 2, spawnMethod: 'fork' } });
    await server.hears('ready');
    const port = await server.port();
    const connections = async () =>
      (await server.status()).workers.reduce((sum, worker) => sum + worker.connections, 0);
    const taken: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const sockets = await allClients(port);
      while ((await connections()) !== CLIENTS);
      const { workers } = await server.status();
      taken.push(workers.reduce((sum, { pid }) => sum + (memoryOf(pid)?.uss ?? Number.NaN), 0));
      // Without TIME_WAIT, or the ports would not do for the next round.
      for (const socket of sockets) socket.resetAndDestroy();
      while ((await connections()) > 0);
    }
    expect(server.all('worker-exit')).toEqual([]);
    // Garbage that no round collects levels off below twice the first; were nothing given back, it would be ROUNDS times.
    expect((taken.at(-1) as number) / (taken[0] as number)).toBeLessThan(2.5);
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
  },
  120_000 * slow,
);
