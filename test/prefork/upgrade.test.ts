import { existsSync, readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { application, folder, get, HELLO, lives, load, type Served, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

/** What the new monitor tells comes by the same pipe. */
const heir = (server: Served) => server.told.find(({ from }) => from !== server.pid)?.from as number;

describe.each(methods)('a hot upgrade, with %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test('hands listeners and pid file over to a new monitor without a failed request', async () => {
    const pidFile = join(folder(), 'server.pid');
    const app = application(HELLO);
    const server = serve(app.url, { plan: { ...plan, pidFile } });
    await server.hears('ready');
    expect(readFileSync(pidFile, 'latin1')).toBe(`${server.pid}\n`);
    const port = await server.port();
    const result = load(port, 4, 8);
    app.rewrite(HELLO.replace('VERSION = 1', 'VERSION = 2'));
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    expect(await server.exited).toEqual([0, null]);
    expect(heir(server)).toBe(pid);
    const { failed, requests, text } = await result;
    expect(failed, text).toBe(0);
    expect(requests).toBeGreaterThan(100);
    expect(JSON.parse((await get(port)).body)).toMatchObject({ version: 2 });
    expect(readFileSync(pidFile, 'latin1')).toBe(`${pid}\n`);
    // The new one is a server like any other.
    process.kill(pid, 'SIGUSR2');
    const next = await server.hears('upgrade-done', ({ from }) => from === pid);
    await server.hears('stopped', ({ from }) => from === pid);
    expect(JSON.parse((await get(port)).body)).toMatchObject({ version: 2 });
    process.kill(next.pid, 'SIGTERM');
    await server.hears('stopped', ({ from }) => from === next.pid);
    expect(existsSync(pidFile)).toBe(false);
  });

  test('finishes what the old workers have in flight', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const answer = server.get('/slow?ms=3000');
    for (let busy = 0; busy === 0; ) {
      busy = (await server.status()).workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
    }
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    expect(await answer).toEqual({ status: 200, body: 'slow' });
    expect(await server.exited).toEqual([0, null]);
    expect(server.all('worker-exit').filter(({ from }) => from === server.pid)).toMatchObject([
      { cause: 'drained' },
      { cause: 'drained' },
    ]);
    process.kill(pid, 'SIGTERM');
    await server.hears('stopped', ({ from }) => from === pid);
  });

  test('goes back by itself when the new monitor does not get ready', async () => {
    const app = application(HELLO);
    const server = serve(app.url, { plan });
    await server.hears('ready');
    app.rewrite('throw new Error("does not load");');
    server.kill('SIGUSR2');
    expect((await server.hears('upgrade-failed')).message).toContain('exit code 41');
    expect(lives(heir(server))).toBe(false);
    expect(await server.hello()).toMatchObject({ version: 1 });
    expect(await server.status()).toMatchObject({ state: 'ready', ready: 2 });
    app.rewrite(HELLO.replace('VERSION = 1', 'VERSION = 2'));
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    await server.exited;
    process.kill(pid, 'SIGTERM');
    await server.hears('stopped', ({ from }) => from === pid);
  });

  test('leaves a unix socket where it is, also when it is called off', async () => {
    const path = join(folder(), 'server.sock');
    const app = application(HELLO);
    const server = serve(app.url, { plan: { ...plan, listen: [{ kind: 'unix', path }] } });
    await server.hears('ready');
    const agent = () => new Agent({ keepAlive: false, socketPath: path } as object);
    app.rewrite('throw new Error("does not load");');
    await expect(server.ask('upgrade')).rejects.toThrow('exit code 41');
    expect((await get(0, '/', agent())).status).toBe(200);
    app.rewrite(HELLO);
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    await server.exited;
    expect((await get(0, '/', agent())).status).toBe(200);
    process.kill(pid, 'SIGTERM');
    await server.hears('stopped', ({ from }) => from === pid);
    expect(existsSync(path)).toBe(false);
  });
});

test('the new monitor goes on alone when the old one is killed in the middle of the upgrade', async () => {
  const slow = 'await new Promise((resolve) => setTimeout(resolve, 700));';
  const server = serve(application(slow + HELLO).url, { plan: { workers: 1, spawnMethod: 'fork' } });
  await server.hears('ready');
  const port = await server.port();
  server.kill('SIGUSR2');
  const { pid } = await server.hears('upgrade-started');
  server.kill('SIGKILL');
  await server.hears('ready', ({ from }) => from === pid);
  expect((await get(port)).status).toBe(200);
  process.kill(pid, 'SIGTERM');
  await server.hears('stopped', ({ from }) => from === pid);
});

test('an upgrade that runs is no reason for another, and a stop calls it off', async () => {
  const app = application(HELLO);
  const server = serve(app.url, { plan: { workers: 1, spawnMethod: 'fork' } });
  await server.hears('ready');
  app.rewrite('await new Promise((resolve) => setTimeout(resolve, 1e6));');
  server.kill('SIGUSR2');
  const { pid } = await server.hears('upgrade-started');
  await expect(server.ask('upgrade')).rejects.toThrow(`to process ${pid}`);
  server.kill('SIGTERM');
  expect(await server.exited).toEqual([0, null]);
  expect(lives(pid)).toBe(false);
});
