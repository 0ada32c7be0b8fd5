// A daemon of PM2's with a home of its own, for the peers that are served by PM2.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const program = fileURLToPath(new URL('npm/node_modules/pm2/bin/pm2', import.meta.url));

export async function daemon() {
  const home = mkdtempSync(join(tmpdir(), 'forkbeard-pm2-'));
  const pm2 = async (args, env = {}) =>
    (
      await run(process.execPath, [program, '--silent', ...args], {
        env: { ...process.env, ...env, PM2_HOME: home },
      })
    ).stdout;
  await pm2(['ping']);
  return {
    /** The daemon’s. */
    pid: Number(readFileSync(join(home, 'pm2.pid'), 'latin1')),
    /** Gives the port, once somebody listens there: the command does not always wait for it. */
    async start(script, workers) {
      const port = await freePort();
      await pm2(['start', script, '-i', String(workers)], { PORT: String(port) });
      while (!(await answers(port))) await delay(5);
      return port;
    },
    async pids() {
      return JSON.parse(await pm2(['jlist'])).map(({ pid }) => pid);
    },
    async end() {
      await pm2(['kill']).catch(() => {});
      rmSync(home, { recursive: true, force: true });
    },
  };
}

async function answers(port) {
  const socket = connect(port, '127.0.0.1');
  return new Promise((resolve) => {
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
  }).finally(() => socket.destroy());
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
