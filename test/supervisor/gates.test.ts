/** Gates before a start, against real ports, locks and processes: when they open, and what they say while they do not. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { clockOf } from '../../dist/supervisor/clock.js';
import {
  type Blocked,
  type Gate,
  type GateWait,
  groupGate,
  lockGate,
  passGates,
  portGate,
  predicateGate,
  socketGate,
} from '../../dist/supervisor/gates.js';
import { Shim } from '../../dist/supervisor/shim.js';
import { coupled, environment, folder, Recorder } from './support.ts';

const clock = clockOf(Loop.current());

function wait(gates: Gate[], more: Partial<GateWait> = {}) {
  const blocked: Blocked[] = [];
  const passed = passGates({
    gates,
    within: 5000,
    onTimeout: 'fail',
    clock,
    onBlocked: (one) => blocked.push(one),
    ...more,
  });
  return { blocked, passed };
}

/** Asked once. */
const isOpen = (gate: Gate) =>
  wait([gate], { within: 0 }).passed.then(
    () => true,
    () => false,
  );

function listening(host: string, port = 0, options: { reusePort?: boolean; v6Only?: boolean } = {}) {
  const fd = sys.listen({ host, port }, options);
  let open = true;
  const stop = () => {
    if (open) sys.close(fd);
    open = false;
  };
  onTestFinished(stop);
  return { port: (sys.localAddress(fd) as { port: number }).port, stop };
}

describe('a port', () => {
  test('that nobody has is open at once', async () => {
    const { port, stop } = listening('127.0.0.1');
    stop();
    const { blocked, passed } = wait([portGate(port)]);
    expect(await passed).toMatchObject({ blocked: [], passed: [] });
    expect(blocked).toEqual([]);
  });

  test.each([
    ['127.0.0.1', ['0.0.0.0', '::'], false],
    ['127.0.0.1', ['127.0.0.1'], false],
    ['127.0.0.1', ['127.0.0.2'], true],
    ['127.0.0.1', ['0.0.0.0'], false],
    ['127.0.0.1', ['::'], true],
    ['0.0.0.0', ['127.0.0.1'], false],
    ['0.0.0.0', ['::1'], true],
    ['::1', ['0.0.0.0'], true],
    ['::1', ['::'], false],
    ['::1', ['0.0.0.0', '::'], false],
  ])('taken on %s is, for one who wants %j, open: %s', async (taken, wanted, open) => {
    const { port } = listening(taken, 0, { v6Only: true });
    expect(await isOpen(portGate(port, wanted))).toBe(open);
  });

  test('taken on :: for both families is closed in IPv4, too', async () => {
    const { port } = listening('::');
    expect(await isOpen(portGate(port, ['127.0.0.1']))).toBe(false);
  });

  test('that a sibling shares is not free because one could share it', async () => {
    const { port } = listening('127.0.0.1', 0, { reusePort: true });
    expect(await isOpen(portGate(port))).toBe(false);
  });

  test('with nothing but remains of closed connections is open', async () => {
    const server: Server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    const client = dial(port, '127.0.0.1');
    const [connection] = await accepted;
    // Who closes first keeps the remains.
    connection.end();
    client.on('data', () => {}).on('end', () => client.end());
    await Promise.all([once(connection, 'close'), once(client, 'close')]);
    server.close();
    await once(server, 'close');
    expect(await isOpen(portGate(port))).toBe(true);
  });

  test('that is let go of late is waited for; who had it, and how long, is told', async () => {
    const { port, stop } = listening('127.0.0.1');
    setTimeout(stop, 100);
    const { blocked, passed } = wait([portGate(port)]);
    const report = await passed;
    expect(report.waited).toBeGreaterThanOrEqual(90);
    expect(report.blocked).toEqual([
      expect.objectContaining({ gate: `port ${port}`, reason: 'EADDRINUSE', waited: expect.any(Number) }),
    ]);
    expect(report.blocked[0]?.waited).toBeGreaterThanOrEqual(90);
    expect(blocked).toHaveLength(1);
    expect(blocked[0]?.holders).toEqual([
      { pid: process.pid, command: expect.stringContaining('node'), ours: false },
    ]);
  });

  test('that a run of the service has is told from a stranger’s', async () => {
    const seen = new Recorder();
    const listen =
      'require("net").createServer().listen(0, "::", function () { console.log(this.address().port) })';
    const shim = Shim.start(
      Loop.current(),
      {
        ...coupled(''),
        command: [process.execPath, '-e', listen],
        env: environment({ FORKBEARD_RUN_ID: 'run-1' }),
      },
      seen,
    );
    await seen.says('\n');
    const port = Number(seen.text);
    const whose = async (runIds: string[]) => {
      const error = await wait([portGate(port, undefined, () => runIds)], { within: 0 }).passed.catch(
        (e) => e,
      );
      expect(error).toMatchObject({ code: 'ERR_FORKBEARD_GATE', gate: `port ${port}` });
      return error.obstacle.holders;
    };
    expect(await whose(['run-0', 'run-1'])).toEqual([expect.objectContaining({ pid: seen.pid, ours: true })]);
    expect(await whose(['run-2'])).toEqual([expect.objectContaining({ pid: seen.pid, ours: false })]);
    shim.stop([{ signal: 'KILL', wait: 1000 }]);
    await seen.until('gone');
  });

  test('that may not be bound here says so', async () => {
    const { blocked, passed } = wait([portGate(80, ['203.0.113.1'])], { within: 0 });
    await expect(passed).rejects.toMatchObject({ obstacle: { reason: 'EADDRNOTAVAIL' } });
    expect(blocked[0]?.reason).toBe('EADDRNOTAVAIL');
  });
});

describe('a gate that stays closed', () => {
  const never = predicateGate('never', () => false);

  test('fails the wait, by default, when its time is over', async () => {
    const before = performance.now();
    await expect(wait([never], { within: 60 }).passed).rejects.toMatchObject({
      code: 'ERR_FORKBEARD_GATE',
      gate: 'never',
      waited: expect.any(Number),
      message: expect.stringContaining('it says no'),
    });
    expect(performance.now() - before).toBeGreaterThanOrEqual(60);
  });

  test('is passed with a note, where that is wanted', async () => {
    const report = await wait([never], { within: 30, onTimeout: 'proceed' }).passed;
    expect(report.passed).toEqual(['never']);
    expect(report.blocked[0]?.waited).toBeGreaterThanOrEqual(30);
  });

  test.each<[string, (open: boolean) => boolean | Promise<boolean>]>([
    ['at once', (open) => open],
    ['after a while', (open) => new Promise((answer) => setTimeout(answer, 5, open))],
  ])('is waited for beyond its time, where that is wanted, and answers %s', async (_, says) => {
    let open = false;
    setTimeout(() => {
      open = true;
    }, 120);
    const report = await wait([predicateGate('late', () => says(open))], { within: 10, onTimeout: 'wait' })
      .passed;
    expect(report.waited).toBeGreaterThanOrEqual(110);
  });

  test('has its own time and policy before the wait’s', async () => {
    const patient: Gate = { ...never, within: 30, onTimeout: 'proceed' };
    expect((await wait([patient], { within: 60_000 }).passed).passed).toEqual(['never']);
  });

  test('is given up at once when nobody wants the start any more', async () => {
    const controller = new AbortController();
    const { passed } = wait([never], { within: 60_000, signal: controller.signal });
    controller.abort(new Error('stopped'));
    await expect(passed).rejects.toThrow('stopped');
  });
});

describe('a predicate', () => {
  test('that throws is closed, and says why', async () => {
    const fails = predicateGate('registry', () => {
      throw new Error('no route');
    });
    await expect(wait([fails], { within: 0 }).passed).rejects.toThrow('it failed: no route');
    const rejects = predicateGate('registry', () => Promise.reject(new Error('no route')));
    await expect(wait([rejects], { within: 0 }).passed).rejects.toThrow('it failed: no route');
  });

  test('that never answers does not hold the wait up for longer than its time', async () => {
    const hangs = predicateGate('registry', () => new Promise(() => {}));
    await expect(wait([hangs], { within: 30 }).passed).rejects.toThrow('it does not answer');
  });

  test('that answers anything but true is closed', async () => {
    expect(await isOpen(predicateGate('registry', () => 'yes' as never))).toBe(false);
  });
});

test('a lock is open when nobody holds it, and names who does', async () => {
  const lock = join(folder(), 'x.lock');
  expect(await isOpen(lockGate(lock))).toBe(true);
  const seen = new Recorder();
  const env = environment({ FORKBEARD_RUN_ID: 'run-1' });
  const shim = Shim.start(Loop.current(), coupled('exec sleep 1000', { lock, env }), seen);
  await seen.until('started');
  const { blocked, passed } = wait([lockGate(lock, () => ['run-1'])], { within: 0 });
  await passed.catch(() => {});
  expect(blocked[0]?.holders).toEqual([expect.objectContaining({ pid: seen.start?.shim, ours: true })]);
  shim.stop([{ signal: 'KILL', wait: 1000 }]);
  await seen.until('gone');
  expect(await isOpen(lockGate(lock))).toBe(true);
});

test('a group is closed while a process of the last run is left', async () => {
  const seen = new Recorder();
  const shim = Shim.start(Loop.current(), coupled('sleep 1000 & exit 0'), seen);
  await seen.until('exited');
  const { blocked, passed } = wait([groupGate(() => seen.left)]);
  expect(blocked).toHaveLength(0);
  shim.stop([{ signal: 'KILL', wait: 1000 }]);
  await passed;
  expect(blocked[0]?.holders).toEqual([expect.objectContaining({ pid: seen.left[0], ours: true })]);
  await seen.until('gone');
});

test('a unix socket is free when nobody listens: a file that was left behind is nobody', async () => {
  const path = join(folder(), 'x.sock');
  expect(await isOpen(socketGate(path))).toBe(true);
  const fd = sys.listen({ path });
  expect(await isOpen(socketGate(path))).toBe(false);
  sys.close(fd);
  expect(await isOpen(socketGate(path))).toBe(true);
  const file = join(folder(), 'file');
  writeFileSync(file, '');
  expect(await isOpen(socketGate(file))).toBe(true);
});

test('gates open together: one that closes again is waited for with the rest', async () => {
  let looks = 0;
  const flickers = predicateGate('flickers', () => ++looks !== 2);
  let late = false;
  setTimeout(() => {
    late = true;
  }, 40);
  const report = await wait([flickers, predicateGate('late', () => late)]).passed;
  expect(report.blocked.map(({ gate }) => gate).sort()).toEqual(['flickers', 'late']);
});
