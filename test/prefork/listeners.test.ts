import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { application, folder, get, HELLO, type Plan, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

const hasSs = spawnSync('ss', ['-V']).error === undefined;

const tcp = (port: number) => ({ kind: 'tcp' as const, host: '127.0.0.1', port });

/** A field of /proc/PID/stat, counted from the state. */
function stat(pid: number, field: number): string | undefined {
  if (!existsSync(`/proc/${pid}/stat`)) return undefined;
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[field];
}

const groupOf = (pid: number) => Number(stat(pid, 2));
const childrenOf = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);

async function taken(): Promise<{ port: number; free(): Promise<void> }> {
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  return {
    port,
    free: async () => {
      other.close();
      await once(other, 'close');
    },
  };
}

describe('an address', () => {
  test('in use is waited for', async () => {
    const { port, free } = await taken();
    const server = serve(application(HELLO).url, { plan: { listen: [tcp(port)] } });
    const { message } = await server.hears('warning', ({ code }) => code === 'EADDRINUSE');
    expect(message).toContain(`127.0.0.1:${port}`);
    await free();
    await server.hears('ready');
    expect(await server.port()).toBe(port);
  });

  test.runIf(hasSs)('has as much room for those who wait as was asked for', async () => {
    const server = serve(application(HELLO).url, { plan: { backlog: 7 } });
    await server.hears('ready');
    const { stdout } = spawnSync('ss', ['-ltnH', `sport = :${await server.port()}`], { encoding: 'utf8' });
    expect(stdout).toMatch(/^LISTEN +0 +7 /);
  });

  test('in use for good stops the start with exit code 42', async () => {
    const { port, free } = await taken();
    const server = serve(application(HELLO).url, { plan: { listen: [tcp(port)] } });
    expect(await server.exited).toEqual([42, null]);
    expect(server.all('stopping')).toMatchObject([{ cause: expect.stringContaining('EADDRINUSE') }]);
    await free();
  });

  test('that may not be had stops the start with exit code 43, at once', async () => {
    const place = join(folder(), 'locked');
    mkdirSync(place, { mode: 0o755 });
    const listen: Plan['listen'] = [{ kind: 'unix', path: join(place, 'server.sock') }];
    const nobody = process.getuid?.() === 0 ? { uid: 65534 } : {};
    if (process.getuid?.() !== 0) chmodSync(place, 0o555);
    const server = serve('file:///nowhere.mjs', { plan: { listen }, ...nobody });
    expect(await server.exited).toEqual([43, null]);
    expect(server.all('stopping')).toMatchObject([{ cause: expect.stringContaining('EACCES') }]);
    expect(server.all('warning')).toEqual([]);
  });

  test('that cannot be had for another reason stops the start with exit code 51', async () => {
    const listen: Plan['listen'] = [{ kind: 'unix', path: join(folder(), 'missing', 'server.sock') }];
    const server = serve(application(HELLO).url, { plan: { listen } });
    expect(await server.exited).toEqual([51, null]);
  });

  test('of which one cannot be had leaves none of the others open', async () => {
    const first = join(folder(), 'first.sock');
    const listen: Plan['listen'] = [
      { kind: 'unix', path: first },
      { kind: 'unix', path: join(folder(), 'missing', 'second.sock') },
    ];
    const server = serve(application(HELLO).url, { plan: { listen } });
    expect(await server.exited).toEqual([51, null]);
    expect(existsSync(first)).toBe(false);
  });
});

describe('a unix socket', () => {
  test('that a dead server has left is taken over, and removed at the end', async () => {
    const path = join(folder(), 'server.sock');
    sys.close(sys.listen({ path }));
    expect(existsSync(path)).toBe(true);
    const server = serve(application(HELLO).url, { plan: { listen: [{ kind: 'unix', path }] } });
    await server.hears('ready');
    expect((await get(0, '/', new Agent({ socketPath: path } as object))).status).toBe(200);
    server.kill('SIGTERM');
    await server.exited;
    expect(existsSync(path)).toBe(false);
  });

  test('of a living server is not', async () => {
    const path = join(folder(), 'server.sock');
    const fd = sys.listen({ path });
    const server = serve(application(HELLO).url, { plan: { listen: [{ kind: 'unix', path }] } });
    expect(await server.exited).toEqual([42, null]);
    expect(existsSync(path)).toBe(true);
    sys.close(fd);
  });

  test('whose path is some other file is left alone', async () => {
    const path = join(folder(), 'precious');
    writeFileSync(path, 'data');
    const server = serve(application(HELLO).url, { plan: { listen: [{ kind: 'unix', path }] } });
    expect(await server.exited).toEqual([42, null]);
    expect(existsSync(path)).toBe(true);
  });
});

describe.each(methods)('listeners of workers made by %s', (method) => {
  test('are several, of all kinds, and all answer', async () => {
    const path = join(folder(), 'server.sock');
    const fd = sys.listen({ host: '127.0.0.1', port: 0 });
    const { port } = sys.localAddress(fd) as { port: number };
    const listen: Plan['listen'] = [tcp(0), { kind: 'unix', path }, { kind: 'fd', fd: 3 }, tcp(0)];
    const server = serve(application(HELLO).url, {
      plan: { listen, workers: 2, spawnMethod: method },
      descriptors: [fd],
    });
    sys.close(fd);
    await server.hears('ready');
    const { listen: addresses } = await server.status();
    expect(addresses[1]).toBe(`unix://${path}`);
    expect(addresses[2]).toBe(`tcp://127.0.0.1:${port}`);
    const ports = [addresses[0], addresses[2], addresses[3]].map((address) =>
      Number(/\d+$/.exec(address as string)),
    );
    expect(new Set(ports).size).toBe(3);
    for (const one of ports) expect((await get(one)).status).toBe(200);
    expect((await get(0, '/', new Agent({ socketPath: path } as object))).status).toBe(200);
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    const after = await server.hears('listening', ({ from }) => from === pid);
    expect(after.listen).toEqual(addresses);
    for (const one of ports) expect((await get(one)).status).toBe(200);
    process.kill(pid, 'SIGTERM');
    await server.hears('stopped', ({ from }) => from === pid);
  });
});

describe('a stop', () => {
  test.each(['SIGINT', 'SIGQUIT'] as const)('by %s does not wait for requests', async (signal) => {
    const server = serve(application(HELLO).url, { plan: { workers: 2 } });
    await server.hears('ready');
    const answer = server.get('/slow?ms=60000').catch((error: Error) => error);
    for (let busy = 0; busy === 0; ) {
      busy = (await server.status()).workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
    }
    server.kill(signal);
    expect(await server.exited).toEqual([0, null]);
    expect(await answer).toBeInstanceOf(Error);
  });

  test('that takes its time is hurried by a second signal', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2 } });
    await server.hears('ready');
    const answer = server.get('/slow?ms=60000').catch((error: Error) => error);
    for (let busy = 0; busy === 0; ) {
      busy = (await server.status()).workers.reduce((sum, { inFlight }) => sum + inFlight, 0);
    }
    server.kill('SIGTERM');
    await server.hears('stopping', ({ how }) => how === 'graceful');
    server.kill('SIGINT');
    expect(await server.exited).toEqual([0, null]);
    expect(await answer).toBeInstanceOf(Error);
  });

  test('while the application is still loading ends that', async () => {
    const app = application(
      'await new Promise((resolve) => setTimeout(resolve, 1e6)); export default () => {};',
    );
    const server = serve(app.url, { plan: { workers: 2 } });
    await server.hears('listening');
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
  });

  test('also ends workers that were stopped by a signal', async () => {
    const server = serve(application(HELLO).url, { plan: { workers: 2, gracefulTimeout: 500 } });
    await server.hears('ready');
    const [first] = (await server.status()).workers;
    process.kill(first?.pid as number, 'SIGSTOP');
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
    expect(
      server
        .all('worker-exit')
        .map(({ cause }) => cause)
        .sort(),
    ).toEqual(['drained', 'graceful-deadline']);
  });

  test('by Ctrl-C reaches the monitor alone', async () => {
    // It goes to all of the terminal's foreground group.
    const server = serve(application(HELLO).url, { plan: { workers: 2 } });
    await server.hears('ready');
    const pids = (await server.status()).workers.map(({ pid }) => pid);
    expect(pids.map(groupOf)).toHaveLength(2);
    expect(pids.map(groupOf)).not.toContain(groupOf(server.pid));
  });
});

describe('process 1 of a container', () => {
  const container = 'exec unshare --user --map-root-user --pid --fork --kill-child --mount-proc';

  test('serves, reaps whoever is left to it, refuses an upgrade, and stops', async () => {
    const orphan = `import { spawn } from 'node:child_process';
      export default (req, res) => {
        // The shell ends at once, its child a moment later, as nobody's child.
        spawn('sh', ['-c', 'sleep 1 & echo $!'], { stdio: ['ignore', 'pipe', 'inherit'] })
          .stdout.once('data', (pid) => res.end(pid));
      };`;
    const server = serve(application(orphan).url, { plan: { workers: 1 }, before: container });
    await server.hears('ready', ({ from }) => from === 1);
    await expect(server.ask('upgrade')).rejects.toThrow('Process 1 cannot be upgraded');
    expect((await server.hears('upgrade-failed')).message).toContain('container');
    // As this side of the container sees it.
    const [monitor] = childrenOf(server.pid) as [number];
    const before = childrenOf(monitor);
    const pid = Number((await server.get('/')).body);
    expect(pid).toBeGreaterThan(1);
    const adopted = () => childrenOf(monitor).filter((child) => !before.includes(child));
    while (adopted().length === 0) await server.status();
    // One that nobody reaps would stay in the list.
    while (adopted().length > 0) await server.status();
    process.kill(monitor, 'SIGTERM');
    expect(await server.exited).toEqual([0, null]);
  });
});
