/** Sockets that a service gets from its supervisor: what it finds, who waits while it is away, and who has them when. */
import { existsSync, lstatSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { sys } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { NamedListen } from '../../dist/supervisor/plan.js';
import { PATIENCE } from '../process/support.ts';
import { Overseen, sleeper } from './overseen.ts';
import { alive, folder, run, within } from './support.ts';
import { pidOf, Watched } from './watched.ts';

/** Answers each connection on its first socket with its pid, as long as it lives; whoever only looked has gone by then. */
const ANSWERS = `exec perl -e '$SIG{PIPE} = "IGNORE"; open(my $s, "+<&=", 3) or die; while (accept(my $c, $s)) { syswrite $c, $$; close $c }'`;

const tcp = (port: number, host = '127.0.0.1', name: string | null = null): NamedListen => ({
  name,
  target: { kind: 'tcp', host, port },
});

/** A port that nobody had a moment ago. */
function freePort(): number {
  const fd = sys.listen({ host: '127.0.0.1', port: 0 });
  const { port } = sys.localAddress(fd) as { port: number };
  sys.close(fd);
  return port;
}

/** What it was answered, or the code of what went wrong. */
function asked(where: { port: number; host: string } | { path: string }): Promise<string> {
  return new Promise((resolve) => {
    let said = '';
    const client = connect(where);
    client.on('data', (data) => {
      said += data;
    });
    client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code as string));
    client.on('close', () => resolve(said));
  });
}

describe('a service with sockets of ours', () => {
  test('finds them from 3 on, as many as there are, by their names and for its own number', async () => {
    const place = folder();
    const listen: NamedListen[] = Array.from({ length: 11 }, () => tcp(0));
    listen.push({ name: 'a door', target: { kind: 'unix', path: join(place, 'door.sock') } });
    const x = new Watched(
      `echo $$ $LISTEN_PID $LISTEN_FDS "$LISTEN_FDNAMES"
      exec python3 -c '
import os, time
def there(fd):
    try: return os.fstat(fd) is not None
    except OSError: return False
print([fd for fd in range(256) if there(fd)], os.get_blocking(3), os.get_blocking(14), flush=True)
time.sleep(1000)'`,
      { listen },
    );
    const { pid } = await x.it.start();
    await x.says('] True True');
    expect(x.text).toBe(
      `${pid} ${pid} 12 ${'x:'.repeat(11)}a door\n[${Array.from({ length: 15 }, (_, fd) => fd).join(', ')}] True True\n`,
    );
  });

  test('that is killed again and again refuses nobody', async () => {
    const port = freePort();
    const x = new Watched(ANSWERS, {
      listen: [tcp(port)],
      // Its own port, held by us, is in nobody's way.
      gates: [{ port }, { group: 'empty' }, { lock: 'free' }],
      restart: {
        type: 'permanent',
        backoff: { min: 1, max: 5, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 100, within: 60_000 },
      },
    });
    await x.it.start();
    const answers = new Map<string, number>();
    let done = false;
    const client = async () => {
      while (!done) {
        const said = await asked({ host: '127.0.0.1', port });
        answers.set(said, (answers.get(said) ?? 0) + 1);
      }
    };
    const clients = [client(), client(), client()];
    const pids = new Set<string>();
    for (let round = 1; round <= 6; round++) {
      const pid = pidOf(x);
      // It has answered somebody before it goes.
      while (!answers.has(String(pid))) await new Promise((resolve) => setImmediate(resolve));
      pids.add(String(pid));
      process.kill(pid, 'SIGKILL');
      await x.nth('ready', round + 1);
    }
    done = true;
    await within('the clients', Promise.all(clients));
    // Who was being answered just then may have heard nothing; nobody was turned away.
    expect([...answers.keys()].filter((said) => !/^\d*$/.test(said) && said !== 'ECONNRESET')).toEqual([]);
    expect(pids.size).toBe(6);
    expect(x.of('gate-blocked')).toEqual([]);
    await x.it.stop();
    expect(await asked({ host: '127.0.0.1', port })).toBe('ECONNREFUSED');
  }, 60_000);

  test('is waited for by whoever connects while it is away', async () => {
    const path = join(folder(), 'x.sock');
    const x = new Watched(ANSWERS, {
      listen: [{ name: null, target: { kind: 'unix', path } }],
      restart: {
        type: 'permanent',
        backoff: { min: 1000, max: 1000, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 100, within: 60_000 },
      },
    });
    await x.it.start();
    process.kill(pidOf(x), 'SIGKILL');
    await x.nth('ready', 2);
    process.kill(pidOf(x), 'SIGKILL');
    await x.until('a pause', () => x.of('backoff').some(({ delay }) => delay > 0));
    const answer = asked({ path });
    await x.nth('ready', 3);
    expect(Number(await answer)).toBe(pidOf(x));
    await x.it.stop();
    expect(existsSync(path)).toBe(false);
  });

  test('lets go of them when it is given up: nobody waits for what does not come', async () => {
    const path = join(folder(), 'x.sock');
    const x = new Watched('exit 43', {
      listen: [{ name: null, target: { kind: 'unix', path } }],
      restart: {
        type: 'permanent',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 1, within: 60_000 },
        exitCodes: { 43: 'never' },
      },
    });
    await x.it.start().catch(() => {});
    await x.nth('failed');
    expect(existsSync(path)).toBe(false);
  });

  test('waits for a port that a stranger has, and says who', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    const x = new Watched(ANSWERS, { listen: [tcp(port)], onGateTimeout: 'proceed', gateTimeout: PATIENCE });
    const starting = x.it.start();
    const blocked = await x.nth('gate-blocked');
    expect(blocked).toMatchObject({
      gate: `listen tcp://127.0.0.1:${port}`,
      reason: `tcp://127.0.0.1:${port}: EADDRINUSE`,
      holders: [{ pid: process.pid, ours: false }],
    });
    server.close();
    await starting;
    expect(Number(await asked({ host: '127.0.0.1', port }))).toBe(pidOf(x));
  });

  test('is not started without them, whatever the policy', async () => {
    const path = join(folder(), 'file');
    writeFileSync(path, 'not a socket');
    const x = new Watched(ANSWERS, {
      listen: [{ name: null, target: { kind: 'unix', path } }],
      gateTimeout: 30,
      onGateTimeout: 'proceed',
      restart: {
        type: 'temporary',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 0, within: 60_000 },
      },
    });
    await expect(x.it.start()).rejects.toThrow('there is a file that is no socket');
    expect(lstatSync(path).isFile()).toBe(true);
    expect(x.of('started')).toEqual([]);
  });

  test('takes the place of a listener that is gone, and not of one that is there', async () => {
    const path = join(folder(), 'x.sock');
    sys.close(sys.listen({ path }));
    const listen: NamedListen[] = [{ name: null, target: { kind: 'unix', path } }];
    const x = new Watched(ANSWERS, { listen, gates: [{ unix: path }] });
    await x.it.start();
    const y = new Watched(ANSWERS, { listen, gateTimeout: PATIENCE });
    const second = y.it.start();
    expect((await y.nth('gate-blocked')).reason).toBe(`unix://${path}: somebody listens`);
    expect(Number(await asked({ path }))).toBe(pidOf(x));
    await x.it.stop();
    await second;
    expect(Number(await asked({ path }))).toBe(pidOf(y));
  });

  test('gets a descriptor of ours as it is, and both keep it', async () => {
    const fd = sys.listen({ host: '127.0.0.1', port: 0 });
    onTestFinished(() => sys.close(fd));
    const { port } = sys.localAddress(fd) as { port: number };
    sys.setNonBlocking(fd, false);
    const x = new Watched(ANSWERS, { listen: [{ name: 'http', target: { kind: 'fd', fd } }] });
    const { pid } = await x.it.start();
    expect(Number(await asked({ host: '127.0.0.1', port }))).toBe(pid);
    await x.it.stop();
    expect(alive(pid as number)).toBe(false);
    expect(sys.localAddress(fd)).toMatchObject({ port });
  });

  test('is not asked what a held socket would answer for it', () => {
    const live = { every: 10, timeout: 10, failures: 1 };
    const listen = [tcp(6390)];
    expect(() => new Watched(ANSWERS, { listen, live: { probe: { tcp: 6390 }, ...live } })).toThrow(
      /live.*always succeeds/,
    );
    new Watched(ANSWERS, { listen, live: { probe: { http: 'http://127.0.0.1:6390/' }, ...live } });
    new Watched(ANSWERS, { listen, live: { probe: { tcp: 6391 }, ...live } });
  });
});

describe('a restart by a strategy', () => {
  const isRefused = (path: string): boolean => {
    const fd = sys.socket('unix', 'stream');
    try {
      return sys.connect(fd, { path }) < 0;
    } finally {
      sys.close(fd);
    }
  };
  const group = (path: string, restarts: number) => ({
    strategy: 'one_for_all' as const,
    intensity: { restarts, within: '1m' },
    services: { a: { ...sleeper, listen: `unix://${path}` }, b: sleeper },
  });

  test('refuses nobody while it lasts; a stop by hand does', async () => {
    const path = join(folder(), 'a.sock');
    const s = new Overseen(group(path, 5));
    await s.it.start();
    const while_: Record<string, boolean> = {};
    s.it.on('state', ({ service, to }) => {
      if (service === 'a') while_[to] = isRefused(path);
    });
    process.kill(s.pid('b'), 'SIGKILL');
    await s.nth('ready', 'a', 2);
    expect(while_).toEqual({ stopping: false, down: false, gated: false, starting: false, running: false });
    await s.it.stopService('a');
    expect(isRefused(path)).toBe(true);
  });

  test('is over with a stop meanwhile, and with the group: then nobody waits', async () => {
    const path = join(folder(), 'a.sock');
    const s = new Overseen(group(path, 1));
    await s.it.start();
    let stopped: Promise<unknown> | undefined;
    s.it.once('group-restart', () => {
      s.it.on('state', ({ service, to }) => {
        if (service === 'a' && to === 'down') stopped ??= s.it.stopService('a');
      });
    });
    process.kill(s.pid('b'), 'SIGKILL');
    await s.nth('ready', 'b', 2);
    await stopped;
    expect(isRefused(path)).toBe(true);
    await s.it.startService('a');
    expect(isRefused(path)).toBe(false);
    // Once more than it may: given up, while the other is down for its sake.
    process.kill(s.pid('b'), 'SIGKILL');
    await s.nth('group-failed', undefined);
    await s.nth('stopped', 'a', 2);
    expect(isRefused(path)).toBe(true);
  });

  test('of one that was adopted neither', async () => {
    const path = join(folder(), 'a.sock');
    const stateDir = folder();
    const services = {
      a: {
        ...sleeper,
        mode: 'independent' as const,
        lease: '1h',
        listen: [`unix://${path}`, 'tcp://127.0.0.1:0'],
      },
    };
    const first = run('oversees.mjs', [JSON.stringify({ stateDir, services })]);
    await first.next();
    await first.kill('SIGKILL');
    // Ended while nobody looks after it: its shim does.
    const next = new Overseen({ stateDir, services });
    const seen: boolean[] = [];
    next.it.on('backoff', () => seen.push(isRefused(path)));
    await next.it.start();
    expect(next.of('adopted')).toHaveLength(1);
    const file = lstatSync(path).ino;
    process.kill(next.pid('a'), 'SIGKILL');
    await next.nth('ready', 'a', 2);
    expect(seen).toEqual([false]);
    expect(lstatSync(path).ino).toBe(file);
    expect(next.of('gate-blocked')).toEqual([]);
    await next.it.stop();
    expect(existsSync(path)).toBe(false);
  });
});
