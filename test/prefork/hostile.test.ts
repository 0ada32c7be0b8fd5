import { execFile } from 'node:child_process';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as later } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import {
  application,
  fixture,
  folder,
  HELLO,
  lives,
  PATIENCE,
  poolIsBack,
  type Served,
  serve,
} from './served.ts';
import { methods, until } from './tiny-monitor.ts';

const descriptors = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

/** Everybody whom a monitor has started and that is still there. */
function family(server: Served): number[] {
  const pids = server.told.flatMap(({ event, pid }) =>
    ['worker-started', 'mold-ready', 'worker-ready'].includes(event) ? [pid as number] : [],
  );
  return [...new Set(pids)].filter((pid) => pid > 1 && lives(pid));
}

function refuses(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.on('error', () => resolve(true));
  });
}

describe('a worker out of its mind', () => {
  test.each(['garbage', 'truncated', 'unknown', 'prototype', 'nothing', 'list', 'pid', 'types'])(
    'that says %s is not listened to any more, and replaced',
    async (broken) => {
      const options = { entry: fixture('broken-worker.mjs') };
      const plan = { workers: 1, spawnMethod: 'spawn' as const };
      const server = serve('', { plan, options, env: { BROKEN: broken } });
      const first = await server.hears('worker-ready');
      const record = await server.hears('worker-exit');
      expect(record).toMatchObject({ pid: first.pid, cause: 'lost-monitor', exitCode: 47 });
      await server.hears('worker-ready', ({ pid }) => pid !== first.pid);
      expect(server.told.filter(({ event }) => event === 'uncaught')).toEqual([]);
    },
  );

  test('that sends descriptors leaves none of them behind', async () => {
    const options = { entry: fixture('broken-worker.mjs') };
    const server = serve('', {
      plan: { workers: 1, spawnMethod: 'spawn' },
      options,
      env: { BROKEN: 'descriptors' },
    });
    await server.hears('worker-ready');
    const before = descriptors(server.pid);
    await server.until(() => server.all('worker-resumed').length === 200, 'all of them');
    expect(descriptors(server.pid)).toBeLessThanOrEqual(before);
  });

  test('that never stops talking keeps the monitor from nothing', async () => {
    const options = { entry: fixture('broken-worker.mjs') };
    const server = serve('', {
      plan: { workers: 1, spawnMethod: 'spawn' },
      options,
      env: { BROKEN: 'flood' },
    });
    await server.hears('worker-ready');
    expect((await server.status()).ready).toBe(1);
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
  });

  test('that closes its channel and stays is killed', async () => {
    const options = { entry: fixture('broken-worker.mjs') };
    const server = serve('', {
      plan: { workers: 1, spawnMethod: 'spawn' },
      options,
      env: { BROKEN: 'silence' },
    });
    const { pid } = await server.hears('worker-ready');
    expect(await server.hears('worker-exit')).toMatchObject({ pid, cause: 'system', signal: 'SIGKILL' });
  }, 30_000);
});

describe('a mold', () => {
  test('that is killed comes back, and nobody who serves notices', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2, spawnMethod: 'fork' } });
    await server.hears('ready');
    const pids = (await server.status()).workers.map(({ pid }) => pid);
    const [mold] = server.all('mold-ready');
    process.kill(mold?.pid as number, 'SIGKILL');
    const next = await server.hears('mold-ready', ({ pid }) => pid !== mold?.pid);
    expect(next.generation).toBe(1);
    expect((await server.status()).workers.map(({ pid }) => pid)).toEqual(pids);
    await server.ask('kill', 1);
    await poolIsBack(server, 2);
  });

  test('that is killed when it has been there for longer than it took to load is loaded at once, each time', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 1 } });
    await server.hears('ready');
    let { pid } = await server.hears('mold-ready');
    for (const kill of [1, 2]) {
      const began = performance.now();
      process.kill(pid, 'SIGKILL');
      const former = pid;
      ({ pid } = await server.hears('mold-ready', (mold) => mold.pid !== former && lives(mold.pid)));
      const took = performance.now() - began;
      const delays = server.all('warning').map(({ message }) => /again in (\d+) ms/.exec(message)?.[1]);
      expect(delays).toEqual(Array(kill).fill('0'));
      await later(Math.ceil(took) + 1);
    }
  });

  test('that is killed leaves nothing of itself in the monitor, though its workers live', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2 } });
    await server.hears('ready');
    const { pid } = await server.hears('mold-ready');
    const before = descriptors(server.pid);
    process.kill(pid, 'SIGKILL');
    await server.hears('mold-ready', (mold) => mold.pid !== pid);
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect(descriptors(server.pid)).toBe(before);
    expect(server.all('worker-exit')).toEqual([]);
  });

  test('that is killed while workers are wanted of it does not lose a place', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2, spawnMethod: 'fork' } });
    await server.hears('ready');
    for (let round = 0; round < 5; round++) {
      const mold = server.all('mold-ready').at(-1);
      void server.ask('scale', 8);
      process.kill(mold?.pid as number, 'SIGKILL');
      await poolIsBack(server, 8);
      await server.ask('scale', 2);
      await server.hears('mold-ready', ({ pid }) => pid !== mold?.pid && lives(pid));
    }
    await until(() => family(server).length === 3);
  });

  test('that is killed together with a worker is loaded once, and the worker forked as soon as it is', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2, spawnMethod: 'fork' } });
    await server.hears('ready');
    const [mold] = server.all('mold-ready');
    const [victim] = (await server.status()).workers;
    for (const pid of [mold?.pid, victim?.pid]) process.kill(pid as number, 'SIGKILL');
    const back = await server.hears('worker-ready', ({ id, pid }) => id === 1 && pid !== victim?.pid);
    expect(back.method).toBe('fork');
    expect(server.all('mold-ready')).toHaveLength(2);
    expect(server.all('mold-exit')).toHaveLength(1);
  });

  test('that cannot be had again for now keeps no place empty: workers load the application themselves', async () => {
    const flag = join(folder(), 'no-mold');
    const app = application(`import { existsSync } from 'node:fs';
      const isMold = process.env.FORKBEARD_WORKER === undefined;
      if (isMold && existsSync(${JSON.stringify(flag)})) process.kill(process.pid, 'SIGKILL');
      ${HELLO}`);
    const server = serve(app.url, { plan: { workers: 2, spawnMethod: 'fork' } });
    await server.hears('ready');
    const [first, second] = (await server.status()).workers;
    writeFileSync(flag, '');
    process.kill(server.all('mold-ready')[0]?.pid as number, 'SIGKILL');
    // It ends as often as it is loaded.
    process.kill(first?.pid as number, 'SIGKILL');
    const back = await server.hears('worker-ready', ({ id, pid }) => id === 1 && pid !== first?.pid);
    expect(back.method).toBe('spawn');
    expect(server.all('mold-ready')).toHaveLength(1);
    rmSync(flag);
    await server.until(() => server.all('mold-ready').length === 2, 'another mold');
    process.kill(second?.pid as number, 'SIGKILL');
    const next = await server.hears('worker-ready', ({ id, pid }) => id === 2 && pid !== second?.pid);
    expect(next.method).toBe('fork');
  });

  test('that was stopped in its tracks is replaced when a worker is wanted of it', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 1, spawnMethod: 'fork' } });
    await server.hears('ready');
    const [mold] = server.all('mold-ready');
    process.kill(mold?.pid as number, 'SIGSTOP');
    await server.ask('kill', 1);
    await server.until(() => server.all('mold-exit').length > 0, 'the end of the mold', 30_000);
    await poolIsBack(server, 1);
  }, 60_000);
});

describe.each(methods)('a monitor, with %s', (method) => {
  test('that is killed leaves nobody behind, and nothing holds the port', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2, spawnMethod: method } });
    await server.hears('ready');
    const port = await server.port();
    expect(family(server)).toHaveLength(method === 'fork' ? 3 : 2);
    server.kill('SIGKILL');
    await server.exited;
    await until(() => family(server).length === 0);
    expect(await refuses(port)).toBe(true);
  });

  test('that runs out of descriptors serves on with the workers it has', async () => {
    const server = serve(application(HELLO).url, {
      plan: { workers: 1, spawnMethod: method },
      before: 'ulimit -n 64; exec',
    });
    await server.hears('ready');
    const before = descriptors(server.pid);
    server.ask('scale', 32).catch(() => {});
    await server.hears('warning', ({ message }) => /EMFILE|descriptors/.test(message));
    expect((await server.hello()).generation).toBe(1);
    await server.ask('scale', 1);
    await poolIsBack(server, 1);
    // One that each attempt lost would be dozens.
    await until(() => descriptors(server.pid) < before + 8);
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
    // Dozens of processes are started, by spawn each loads the application.
  }, 60_000);

  test('is one of many whose processes are killed at random under load, themselves included', {
    timeout: 4 * PATIENCE,
  }, async () => {
    const soak = fileURLToPath(new URL('../../scripts/soak-server.mjs', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [
      soak,
      '--seconds=4',
      `--method=${method}`,
    ]);
    const { blows, answered, failed } = JSON.parse(stdout);
    expect(blows.worker + blows.mold + blows.newborn).toBeGreaterThan(2);
    expect(blows.monitor).toBeGreaterThan(0);
    expect(answered.all).toBeGreaterThan(0);
    expect(failed).toBe(0);
  });
});
