/** Questions to services: each kind alone, and what a service's starter makes of the answers. */

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Clock } from '../../dist/supervisor/clock.js';
import { becomesReady, PROBE_DEFAULTS } from '../../dist/supervisor/health.js';
import { ask, type Probe } from '../../dist/supervisor/probes.js';
import { PATIENCE } from '../process/support.ts';
import { alive, environment, folder, marked, shell } from './support.ts';
import { Watched } from './watched.ts';

const answer = (probe: Probe, timeout = PATIENCE, cwd?: string) =>
  ask(probe, { loop: Loop.current(), timeout, env: environment({ MARK: 'probe' }), cwd });

async function listening(server: Server, where: string | number): Promise<void> {
  const address = typeof where === 'string' ? { path: where } : { port: where, host: '127.0.0.1' };
  await new Promise<void>((resolve) => server.listen(address, resolve));
  onTestFinished(() => void server.close());
}

describe('a question', () => {
  test('to a unix socket is answered by who listens there, and by nobody else', async () => {
    const place = folder();
    const path = join(place, 'app.sock');
    expect(await answer({ unix: path })).toBe('ENOENT');
    await listening(createServer(), path);
    expect(await answer({ unix: path })).toBe(null);
    expect(await answer({ unix: 'app.sock' }, PATIENCE, place)).toBe(null);
    const left = join(place, 'left.sock');
    sys.close(sys.listen({ path: left }));
    expect(await answer({ unix: left })).toBe('ECONNREFUSED');
  });

  test('over HTTP goes to a port or to a unix socket, and its status is judged', async () => {
    const path = join(folder(), 'http.sock');
    const seen: string[] = [];
    const server = () =>
      createHttp(({ url = '', headers }, response) => {
        seen.push(`${headers.host} ${url}`);
        response.statusCode = Number(url.slice(1));
        response.end('x'.repeat(100_000));
      });
    await listening(server(), path);
    expect(await answer({ http: '/204', unix: path })).toBe(null);
    expect(await answer({ http: '/302', unix: path })).toBe(null);
    expect(await answer({ http: '/503', unix: path })).toBe('status 503');
    expect(await answer({ http: '/503', unix: path, status: [503] })).toBe(null);
    expect(await answer({ http: 'http://name.test/204', unix: path })).toBe(null);
    expect(seen).toEqual([
      'localhost /204',
      'localhost /302',
      'localhost /503',
      'localhost /503',
      'name.test /204',
    ]);
    const byPort = server();
    await listening(byPort, 0);
    const { port } = byPort.address() as { port: number };
    expect(await answer({ http: `http://127.0.0.1:${port}/500` })).toBe('status 500');
    expect(await answer({ tcp: port })).toBe(null);
  });

  test('that is none is an answer too', async () => {
    expect(await answer({ http: 'http://[/' })).toMatch(/invalid url/i);
    expect(await answer({ http: 'gopher://127.0.0.1/' })).toMatch(/gopher/);
    expect(await answer({ exec: ['/nowhere/at/all'] })).toMatch(/ENOENT/);
  });

  test('that is not answered is over when its time is, and nothing of it is left', async () => {
    const path = join(folder(), 'deaf.sock');
    await listening(
      createHttp(() => {}),
      path,
    );
    expect(await answer({ http: '/', unix: path }, 50)).toBe('no answer within 50 ms');
    expect(await answer({ exec: shell('sleep 1000 & sleep 1000') }, 50)).toBe('no answer within 50 ms');
    expect(marked('MARK=probe').filter(alive)).toEqual([]);
  });
});

describe('readiness', () => {
  const file = (name: string) => ({ probe: { exec: shell(`test -e $STATE/${name}`) } }) as const;

  test('is asked again: who is not ready any more says so, and is not ended', async () => {
    const path = folder();
    const flag = join(path, 'ready');
    writeFileSync(flag, '');
    const x = new Watched(
      'exec sleep 1000',
      { ready: { ...file('ready'), ...PROBE_DEFAULTS.ready, timeout: PATIENCE, every: 20, successes: 2 } },
      path,
    );
    const { pid, ready } = await x.it.start();
    expect(ready).toBe(true);
    rmSync(flag);
    expect((await x.nth('readiness')).problem).toContain('ended with 1');
    expect(x.it.status()).toMatchObject({ state: 'running', ready: false, pid });
    expect(x.it.status().problem).toContain('ended with 1');
    writeFileSync(flag, '');
    expect((await x.nth('readiness', 2)).problem).toBe(null);
    expect(x.it.status()).toMatchObject({ state: 'running', ready: true, pid, restarts: 0, problem: null });
    expect(x.of('started')).toHaveLength(1);
    await x.it.stop();
    expect(x.it.status().ready).toBe(false);
  });

  test('is not asked before the start is over, and liveness is not either', async () => {
    const path = folder();
    const x = new Watched(
      'exec sleep 1000',
      {
        startup: { ...file('begun'), within: PATIENCE, timeout: PATIENCE },
        ready: {
          probe: { exec: shell('test -e $STATE/begun || echo early >>$STATE/early') },
          within: PATIENCE,
          timeout: PATIENCE,
        },
        live: {
          probe: { exec: shell('test -e $STATE/begun || echo early >>$STATE/early') },
          every: 5,
          timeout: PATIENCE,
          failures: 1,
        },
      },
      path,
    );
    const starting = x.it.start();
    await x.nth('started');
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(x.it.status()).toMatchObject({ state: 'starting', ready: false });
    writeFileSync(join(path, 'begun'), '');
    expect(await starting).toMatchObject({ state: 'running', ready: true });
    expect(existsSync(join(path, 'early'))).toBe(false);
  });

  test('that never begins is a failed start, with the last answer', async () => {
    const x = new Watched('exec sleep 1000', {
      startup: { ...file('begun'), within: 60, timeout: PATIENCE },
      restart: {
        type: 'permanent',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 1, within: 60_000 },
      },
    });
    await expect(x.it.start()).rejects.toThrow('had not begun within 60 ms: the program ended with 1');
    expect(x.of('started')).toHaveLength(2);
    expect(marked(`STATE=${x.state.path}`)).toEqual([]);
  });

  test('follows what a service says of itself: reloading, ready again, stopping', async () => {
    const x = new Watched(
      `exec python3 -c '
import os, signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
for word in ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]:
    s.send(word.encode())
    signal.sigwait([signal.SIGUSR1])'`,
      { ready: { notify: true, within: PATIENCE, timeout: 0 } },
    );
    await x.it.start();
    for (const [count, expected] of [
      'it says that it is reloading',
      null,
      'it says that it is stopping',
    ].entries()) {
      await x.it.signal('SIGUSR1');
      expect((await x.nth('readiness', count + 1)).problem).toBe(expected);
      expect(x.it.status()).toMatchObject({ state: 'running', ready: expected === null });
    }
  });
});

test('who is asked until it is ready, and whose run ends meanwhile, leaves no timer behind', async () => {
  const timers = new Set<object>();
  const clock: Clock = {
    now: () => performance.now(),
    after: (ms, callback) => {
      const timer = setTimeout(() => {
        timers.delete(timer);
        callback();
      }, ms);
      timers.add(timer);
      return {
        [Symbol.dispose]: () => {
          timers.delete(timer);
          clearTimeout(timer);
        },
      };
    },
  };
  for (const answer of [async () => 'not yet', () => new Promise<never>(() => {})]) {
    const over = new AbortController();
    const asked = becomesReady(answer, { within: 60_000, timeout: 1000 }, clock, over.signal);
    // In the pause after the first answer, and in the middle of a question.
    setImmediate(() => over.abort(new Error('it ended')));
    await expect(asked).rejects.toThrow('it ended');
    expect(timers.size).toBe(0);
  }
});
