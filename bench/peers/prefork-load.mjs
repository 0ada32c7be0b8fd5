// Hello world by two workers under wrk: requests a second, and the busiest worker's share over the idlest one's.
//   prefork-load.mjs <forkbeard|cluster|pm2> <seconds>
import { execFile } from 'node:child_process';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { get } from 'node:http';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const WORKERS = 2;
const CONNECTIONS = 64;
const [kind, seconds] = process.argv.slice(2);
const here = (name) => fileURLToPath(new URL(`${name}.mjs`, import.meta.url));
const run = promisify(execFile);

const SERVERS = {
  async forkbeard() {
    const { prefork } = await import('forkbeard/prefork');
    const server = await prefork({
      application: here('prefork-hello'),
      workers: WORKERS,
      listen: 'tcp://127.0.0.1:0',
      control: false,
    });
    await server.ready;
    const { port } = new URL(server.status().listen[0].replace('tcp:', 'http:'));
    return { port, end: () => server.stop({ quick: true }) };
  },
  async cluster() {
    cluster.setupPrimary({ exec: here('prefork-hello-listening') });
    const workers = Array.from({ length: WORKERS }, () => cluster.fork());
    const places = await Promise.all(workers.map(async (worker) => (await once(worker, 'listening'))[0]));
    return {
      port: places[0].port,
      end: async () => {
        for (const { process: child } of workers) child.kill('SIGKILL');
      },
    };
  },
  async pm2() {
    const { daemon } = await import('./prefork-daemon.mjs');
    const pm2 = await daemon();
    return { port: await pm2.start(here('prefork-hello-listening'), WORKERS), end: () => pm2.end() };
  },
};

/** How often each worker has answered: asked until both were found. */
async function counts(port) {
  const found = new Map();
  for (let attempt = 0; found.size < WORKERS && attempt < 10_000; attempt++) {
    const { pid, served } = await new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port, path: '/count', agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part) => {
          text += part;
        });
        response.on('end', () => resolve(JSON.parse(text)));
      }).on('error', reject);
    });
    found.set(pid, served);
  }
  return found;
}

const server = await SERVERS[kind]();
try {
  const wrk = (time) =>
    run('wrk', [
      '-t',
      '1',
      '-c',
      String(CONNECTIONS),
      '-d',
      String(time),
      `http://127.0.0.1:${server.port}/`,
    ]);
  await counts(server.port);
  await wrk(1);
  const before = await counts(server.port);
  const { stdout } = await wrk(seconds);
  if (/Socket errors|Non-2xx/.test(stdout)) throw new Error(`wrk saw errors:\n${stdout}`);
  const after = await counts(server.port);
  const shares = [...after].map(([pid, served]) => served - (before.get(pid) ?? 0));
  const throughput = Number(/Requests\/sec:\s*([\d.]+)/.exec(stdout)[1]);
  console.log(JSON.stringify({ throughput, skew: Math.max(...shares) / Math.min(...shares) }));
} finally {
  await server.end();
}
process.exit();
