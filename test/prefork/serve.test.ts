import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { application, HELLO, lives, load, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

/** Whether somebody listens there. */
async function connects(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    // One that the kernel had taken when the last listener went is reset.
    expect((error as NodeJS.ErrnoException).code).toMatch(/ECONNREFUSED|ECONNRESET/);
    return false;
  } finally {
    socket.destroy();
  }
}

describe.each(methods)('a server whose workers are made by %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test('is ready when all workers are, answers, and stops gracefully', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready', ({ workers }) => workers === 2);
    expect(await server.hello()).toMatchObject({ generation: 1, version: 1, method });
    const status = await server.status();
    expect(status).toMatchObject({
      version: 1,
      pid: server.pid,
      state: 'ready',
      method,
      target: 2,
      ready: 2,
    });
    expect(status.workers.map(({ id, state }) => [id, state])).toEqual([
      [1, 'ready'],
      [2, 'ready'],
    ]);
    expect(status.workers.every(({ memory }) => memory !== null && memory.uss > 0 && memory.pss > 0)).toBe(
      true,
    );
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
    expect(server.all('worker-exit').map(({ cause, exitCode }) => [cause, exitCode])).toEqual([
      ['drained', 0],
      ['drained', 0],
    ]);
    expect(status.workers.filter(({ pid }) => lives(pid))).toEqual([]);
  });

  test('finishes a request in flight after TERM', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const answer = server.get('/slow?ms=2000');
    for (let busy = 0; busy === 0; ) {
      busy = (await server.status()).workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
    }
    server.kill('SIGTERM');
    expect(await answer).toEqual({ status: 200, body: 'slow' });
    expect(await server.exited).toEqual([0, null]);
  });

  test('refuses new clients at once while it finishes what is in flight', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const port = await server.port();
    const answer = server.get('/slow?ms=4000');
    for (let busy = 0; busy === 0; ) {
      busy = (await server.status()).workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
    }
    server.kill('SIGTERM');
    // Until the last process has given its listener up.
    while (await connects(port));
    expect((await server.status()).workers.map(({ inFlight }) => inFlight)).toContain(1);
    expect(await answer).toEqual({ status: 200, body: 'slow' });
    expect(await server.exited).toEqual([0, null]);
  });

  test('replaces a worker that was killed, and says so', async () => {
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const [victim] = (await server.status()).workers;
    process.kill(victim?.pid as number, 'SIGKILL');
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({
      worker: victim?.id,
      pid: victim?.pid,
      cause: 'operator',
      signal: 'SIGKILL',
      ready: true,
    });
    const next = await server.hears(
      'worker-ready',
      ({ id, pid }) => id === victim?.id && pid !== victim?.pid,
    );
    expect(next.generation).toBe(1);
    // Milliseconds, in truth: it waits for no clock.
    expect(next.at - record.at).toBeLessThan(5000);
    expect((await server.status()).ready).toBe(2);
    // Its end was the reason to start another one, and no time was waited for.
    expect(server.all('backoff')).toEqual([]);
  });

  test('loses no request while it is reloaded under load', async () => {
    const app = application(HELLO);
    const server = serve(app.url, { plan });
    await server.hears('ready');
    const port = await server.port();
    const result = load(port, 3);
    app.rewrite(HELLO.replace('VERSION = 1', 'VERSION = 2'));
    server.kill('SIGHUP');
    await server.hears('reload-done');
    expect((await server.hello()).version).toBe(2);
    await server.ask('reload');
    const { requests, failed, text } = await result;
    expect(failed, text).toBe(0);
    expect(requests).toBeGreaterThan(100);
    expect(await server.status()).toMatchObject({ generation: 3, ready: 2, state: 'ready' });
  });
});
