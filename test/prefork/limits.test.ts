/** What ends or replaces a worker, or keeps a server from starting, because this machine or its options set a limit. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { exitCodeOfBind } from '../../dist/prefork/monitor/listeners.js';
import { application, fixture, HELLO, lives, poolIsBack, serve } from './served.ts';
import { methods } from './tiny-monitor.ts';

describe.each(methods)('by %s', (method) => {
  test('workers of a certain age are replaced, not all at the same one', async () => {
    const plan = { workers: 3, spawnMethod: method, maxLifetime: 3000, jitter: 50 };
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const since = server.told.length;
    const first = new Set((await server.status()).workers.map(({ pid }) => pid));
    const ends = () => server.all('worker-exit').filter(({ pid }) => first.has(pid));
    await server.until(() => ends().length === 3, 'the end of the first three');
    for (const { cause, reason, exitCode, age } of ends()) {
      expect({ cause, reason, exitCode }).toEqual({ cause: 'recycled', reason: 'lifetime', exitCode: 40 });
      expect(age).toBeGreaterThanOrEqual(1500);
    }
    expect(Math.min(...server.told.slice(since).map(({ serving }) => serving))).toBe(3);
    expect(server.all('backoff')).toEqual([]);
  });

  test('nobody is judged by time in which all stood still', async () => {
    const plan = { workers: 2, spawnMethod: method, blockedTimeout: 1000, requestTimeout: 1000 };
    const server = serve(application(HELLO).url, { plan });
    await server.hears('ready');
    const { workers } = await server.status();
    const everybody = [server.pid, ...workers.map(({ pid }) => pid)];
    for (const pid of everybody) process.kill(pid, 'SIGSTOP');
    // Longer than any of them may stand still.
    await sleep(3000);
    process.kill(server.pid, 'SIGCONT');
    // The monitor is the first to look around.
    await server.status();
    for (const pid of everybody) process.kill(pid, 'SIGCONT');
    for (const { pid } of workers) while ((await server.hello()).pid !== pid);
    expect(server.all('worker-exit')).toEqual([]);
    expect(server.all('worker-slow')).toEqual([]);
  });
});

test('a mold that stood still together with the monitor gets its time afterwards', async () => {
  const slow = `console.log('begun:' + process.pid + ':'); await new Promise((resolve) => setTimeout(resolve, 100));`;
  const plan = { workers: 1, bootTimeout: 3000, spawnMethod: 'fork' as const };
  const server = serve(application(slow + HELLO).url, { plan });
  const begun = () => /begun:(\d+):/.exec(server.stderr)?.[1];
  await server.until(() => begun() !== undefined, 'the application');
  const mold = Number(begun());
  for (const pid of [server.pid, mold]) process.kill(pid, 'SIGSTOP');
  await sleep(6000);
  process.kill(server.pid, 'SIGCONT');
  // The monitor is the first to look around.
  await server.status();
  process.kill(mold, 'SIGCONT');
  await server.hears('ready');
  expect(server.all('mold-exit')).toEqual([]);
});

// ------------------------------------------------------------------------------- memory, by the kernel

/** A control group for a test, where we may make one: of version 1, or of version 2 when its parent gives memory on. */
function memoryGroup(): { path: string; limit: string } | undefined {
  const groups = readFileSync('/proc/self/cgroup', 'latin1');
  const own = /^\d+:(?:\S+,)?memory(?:,\S+)?:(.*)$/m.exec(groups)?.[1];
  const name = `forkbeard-${process.pid}`;
  const candidates = [
    { path: join('/sys/fs/cgroup/memory', own ?? '', name), limit: 'memory.limit_in_bytes' },
    { path: join('/sys/fs/cgroup', /^0::(.*)$/m.exec(groups)?.[1] ?? '', name), limit: 'memory.max' },
  ];
  return candidates.find(({ path, limit }) => {
    try {
      mkdirSync(path);
      if (existsSync(join(path, limit))) return true;
      rmdirSync(path);
    } catch {
      // Not ours to make.
    }
    return false;
  });
}

const group = memoryGroup();

test.runIf(group !== undefined)(
  'a worker that the kernel kills for want of memory is told from one that somebody killed (needs a memory cgroup)',
  async () => {
    const { path, limit } = group as { path: string; limit: string };
    writeFileSync(join(path, limit), String(400 << 20));
    const grows = HELLO.replace(
      'hold.push(new Array(1000).fill(hold.length))',
      'hold.push(Buffer.alloc(1 << 22, 1))',
    );
    const server = serve(application(grows).url, {
      plan: { workers: 2, spawnMethod: 'fork' },
      before: `echo $$ > ${join(path, 'cgroup.procs')}; exec`,
    });
    await server.hears('ready');
    const [first] = (await server.status()).workers;
    process.kill(first?.pid as number, 'SIGKILL');
    expect(await server.hears('worker-exit')).toMatchObject({ cause: 'operator', pid: first?.pid });
    await poolIsBack(server, 2);
    server.get('/grow').catch(() => {});
    const record = await server.hears('worker-exit', ({ pid }) => pid !== first?.pid);
    expect(record).toMatchObject({ cause: 'kernel-oom', signal: 'SIGKILL', exitCode: null });
    expect(lives(record.pid)).toBe(false);
    await poolIsBack(server, 2);
    server.kill('SIGTERM');
    expect(await server.exited).toEqual([0, null]);
  },
);

afterAll(async () => {
  if (group === undefined) return;
  // Whoever is left of it is on his way out.
  while (readFileSync(join(group.path, 'cgroup.procs'), 'latin1') !== '')
    await new Promise((resolve) => setImmediate(resolve));
  rmdirSync(group.path);
});

// ------------------------------------------------------------------------------- what keeps a server from starting

describe('a server ends', () => {
  test('with 44 when there are not enough descriptors for its sockets', async () => {
    const plan = { workers: 60, reusePort: true, spawnMethod: 'spawn' as const };
    const server = serve(application(HELLO).url, { plan, before: 'ulimit -n 64; exec' });
    expect(await server.exited).toEqual([44, null]);
    expect(server.all('stopping')[0]?.cause).toContain('EMFILE');
  });

  test('with the code of the cause whatever keeps it from binding', () => {
    const codes = ['EADDRINUSE', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EINVAL'];
    expect(codes.map(exitCodeOfBind)).toEqual([42, 43, 43, 44, 44, 45, 45, 51]);
  });

  test('with 46 when it is to fork what cannot be forked, and says why', async () => {
    const server = serve(fixture('with-thread.mjs'), { plan: { workers: 2, spawnMethod: 'fork' } });
    expect(await server.exited).toEqual([46, null]);
    expect(server.all('stopping')[0]?.cause).toMatch(/^Workers cannot be forked: .*thread/i);
    expect(server.all('worker-started')).toEqual([]);
  });
});
