/** What becomes of workers whose JavaScript does not come back: they tell where, and none outlives its monitor. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { application, lives, serve } from './served.ts';
import { methods, until } from './tiny-monitor.ts';

const HANGS = `
import { execFileSync } from 'node:child_process';
function spinning() { for (;;); }
function matching() { return /^(a|aa|a*)*$/.test('a'.repeat(60) + 'b'); }
function growing() { const kept = []; for (;;) kept.push({ number: kept.length, text: 'kept ' + kept.length }); }
export default (request, response) => {
  switch (request.url) {
    case '/spin': return spinning();
    case '/match': return matching();
    case '/grow': return growing();
    case '/sleep': return execFileSync('sleep', ['4']);
    case '/wait': return;
    case '/orphan':
      return response.end(execFileSync('sh', ['-c', 'sleep 60 >&- 2>&- & echo $!'], { encoding: 'utf8' }));
  }
  response.end(String(process.pid));
};
`;

const forgotten = (request: Promise<unknown>) => request.catch(() => {});

const children = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').map(Number);

test('orphans of the application are reaped by the monitor, and nobody takes them for workers', async () => {
  const server = serve(application(HANGS).url, { plan: { workers: 2, spawnMethod: 'fork' } });
  await server.hears('ready');
  const before = (await server.status()).workers.map(({ pid }) => pid);
  const orphan = Number((await server.get('/orphan')).body);
  const isOurs = () => children(server.pid).includes(orphan);
  await until(isOurs);
  process.kill(orphan);
  await until(() => !isOurs());
  expect((await server.status()).workers.map(({ pid }) => pid)).toEqual(before);
  expect(server.all('worker-exit')).toEqual([]);
});

describe.each(methods)('a worker made by %s', (method) => {
  const plan = { workers: 2, spawnMethod: method };

  test.each(['spin', 'match'])('that hangs (%s) tells where, before and after it is killed', async (way) => {
    const server = serve(application(HANGS).url, { plan: { ...plan, blockedTimeout: 1500 } });
    await server.hears('ready');
    forgotten(server.get(`/${way}`));
    const frame = { spin: 'at spinning (', match: 'at matching (' }[way];
    const slow = await server.hears('worker-slow', ({ reason }) => reason === 'blocked-loop');
    expect(slow.stack).toContain(frame);
    expect(slow.request).toBe(`GET /${way}`);
    const record = await server.hears('worker-exit');
    expect(record).toMatchObject({ cause: 'blocked-loop', pid: slow.pid });
    expect(record.stack).toContain(frame);
    await server.hears('worker-ready', ({ id, pid }) => id === slow.worker && pid !== slow.pid);
  });

  test('that hangs in what cannot be interrupted is told without a stack, and killed', async () => {
    const server = serve(application(HANGS).url, { plan: { ...plan, blockedTimeout: 1000 } });
    await server.hears('ready');
    forgotten(server.get('/sleep'));
    const slow = await server.hears('worker-slow');
    expect(slow).toMatchObject({ reason: 'blocked-loop', request: 'GET /sleep' });
    expect(slow.stack).toBeUndefined();
    expect((await server.hears('worker-exit')).cause).toBe('blocked-loop');
  });

  test('whose request keeps the loop from telling is told of by the monitor, with the stack', async () => {
    const server = serve(application(HANGS).url, {
      plan: { ...plan, requestTimeout: 500, blockedTimeout: 0 },
    });
    await server.hears('ready');
    forgotten(server.get('/spin'));
    const slow = await server.hears('worker-slow');
    expect(slow).toMatchObject({ reason: 'request', request: 'GET /spin' });
    expect(slow.stack).toContain('at spinning (');
    const record = await server.hears('worker-exit');
    expect(record.cause).toBe('request-deadline');
    expect(record.stack).toContain('at spinning (');
  });

  test('that merely waits has no stack to tell', async () => {
    const server = serve(application(HANGS).url, { plan: { ...plan, requestTimeout: 300 } });
    await server.hears('ready');
    forgotten(server.get('/wait'));
    const record = await server.hears('worker-exit');
    expect(record.cause).toBe('request-deadline');
    expect(record.stack).toBeUndefined();
  });

  test('that runs into the limit of its heap is known for that', async () => {
    const server = serve(application(HANGS).url, {
      plan,
      env: { NODE_OPTIONS: '--max-old-space-size=60' },
    });
    await server.hears('ready');
    forgotten(server.get('/grow'));
    expect((await server.hears('worker-exit')).cause).toBe('heap-limit');
  });

  test('ends after its monitor was killed, idle or hanging, and the next one has its port', async () => {
    const server = serve(application(HANGS).url, { plan: { ...plan, blockedTimeout: 0 } });
    await server.hears('ready');
    const port = await server.port();
    const { workers } = await server.status();
    forgotten(server.get('/spin'));
    await until(async () => (await server.status()).workers.some(({ inFlight }) => inFlight > 0));
    server.kill('SIGKILL');
    await server.exited;
    // The one that hangs gets the time that it would have had to finish, and the next monitor waits for so long.
    const next = serve(application(HANGS).url, {
      plan: { ...plan, listen: [{ kind: 'tcp', host: '127.0.0.1', port }] },
    });
    await next.hears('ready');
    await until(() => !workers.some(({ pid }) => lives(pid)));
  });
});
