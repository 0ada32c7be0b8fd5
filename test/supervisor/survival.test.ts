/** Who outlives whom: a supervisor that is killed, shims that are, services that go on, and the next supervisor. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { readRecord } from '../../dist/supervisor/state.js';
import { PATIENCE } from '../process/support.ts';
import { Overseen, script, sleeper } from './overseen.ts';
import {
  alive,
  eventually,
  fixture,
  folder,
  marked,
  type Running,
  run,
  TITLED,
  titledOf,
  within,
} from './support.ts';

type One = { pid: number; state: string; owned: boolean };
type Told = Record<string, One>;

const supervise = (options: object) => run('oversees.mjs', [JSON.stringify(options)]);
const shimOf = (stateDir: string, service: string): number =>
  (JSON.parse(readFileSync(join(stateDir, `${service}.pid`), 'utf8')) as { shim: { pid: number } }).shim.pid;

describe('a supervisor that is killed', () => {
  test('takes a hundred services with it, that have all been killed at once before, and came back once each', async () => {
    const stateDir = folder();
    const names = Array.from({ length: 100 }, (_, i) => `s${i}`);
    const services = Object.fromEntries(
      names.map((name) => [name, { ...sleeper, stdout: 'ignore', stderr: 'ignore' }]),
    );
    const it = supervise({ stateDir, services });
    const told = (await it.next()) as Told;
    expect(Object.values(told).every(({ state }) => state === 'running')).toBe(true);
    const mark = `FORKBEARD_STATE_DIR=${stateDir}`;
    const first = marked(mark);
    expect(first.length).toBe(100);
    for (const pid of first) process.kill(pid, 'SIGKILL');
    const isAnother = (name: string) => {
      const found = readRecord(join(stateDir, `${name}.pid`));
      return found.kind === 'record' && !first.includes(found.record.pid);
    };
    await eventually('a hundred others', () => names.every(isAnother));
    // Written down before they run.
    await eventually('all of them', () => marked(mark).length === 100);
    expect(marked(mark).filter((pid) => first.includes(pid))).toEqual([]);
    await it.kill('SIGKILL');
    await eventually('nothing left', () => marked(mark).length === 0);
  });

  test('or ends in any other way, ten times over, leaves what is independent, nothing else, and no more files than once', async () => {
    const stateDir = folder();
    const args = [fixture('ends-often.mjs'), stateDir, join(folder(), 'told')];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const rounds = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const [{ independent }] = rounds;
    const ways = ['SIGTERM', 'SIGKILL', 'throw', 'exit', 'rejection'];
    const ends = ['SIGTERM', 'SIGKILL', 1, 7, 1];
    const files = ['coupled.lock', 'independent.lock', 'independent.pid', 'independent.sock'];
    expect(rounds).toEqual(
      [...ways, ...ways].map((way, i) => ({
        way,
        end: ends[i % ends.length],
        coupled: expect.any(Number),
        independent,
        kept: true,
        files,
        sockets: 2,
      })),
    );
    expect(new Set(rounds.map(({ coupled }) => coupled)).size).toBe(10);
    const next = new Overseen({
      stateDir,
      services: {
        coupled: sleeper,
        independent: { ...sleeper, stdout: 'ignore', stderr: 'ignore', mode: 'independent', lease: '1h' },
      },
    });
    await next.it.start();
    expect(next.pid('independent')).toBe(independent);
    await next.it.stop();
    expect(readdirSync(stateDir)).toEqual(['coupled.lock', 'independent.lock']);
  });

  test('with its thread alone, a Worker’s, is as gone; what its loop has merely started is not concerned', async () => {
    const stateDir = folder();
    const quiet = { ...sleeper, stdout: 'ignore', stderr: 'ignore' } as const;
    const services = { a: quiet, b: { ...quiet, mode: 'independent', lease: '1h' } } as const;
    const worker = new Worker(
      `Promise.all([import('forkbeard'), import('forkbeard/supervisor')]).then(async ([{ Loop }, { Supervisor }]) => {
        const child = Loop.current().spawn({ command: ['sleep', '1000'], stdio: { stdout: 'ignore' } });
        const { services } = await new Supervisor(${JSON.stringify({ stateDir, services })}).start();
        require('node:worker_threads').parentPort.postMessage([child.pid, services.a.pid, services.b.pid]);
      })`,
      { eval: true },
    );
    const [[child, a, b]] = (await within('its services', once(worker, 'message'))) as [number[]];
    await worker.terminate();
    await eventually('the end of what is coupled', () => !alive(a as number));
    expect([child, b].map((pid) => alive(pid as number))).toEqual([true, true]);
    process.kill(child as number, 'SIGKILL');
    const next = new Overseen({ stateDir, services });
    await next.it.start();
    expect(next.pid('b')).toBe(b);
  });

  test('with a shim of its own killed before it leaves an orphan, which the next one finds and ends', async () => {
    const stateDir = folder();
    const services = { a: script('setsid -f sleep 1000; exec sleep 1000') };
    const it = supervise({ stateDir, services });
    await it.next();
    const mark = `FORKBEARD_STATE_DIR=${stateDir}`;
    await eventually('both', () => marked(mark).length === 2);
    // The supervisor must not have a turn in between.
    process.kill(it.pid, 'SIGSTOP');
    process.kill(shimOf(stateDir, 'a'), 'SIGKILL');
    await it.kill('SIGKILL');
    await eventually('the daemon alone', () => marked(mark).length === 1);
    const [daemon] = marked(mark);
    const next = new Overseen({ stateDir, services });
    await next.it.start();
    expect(next.of('orphans')).toMatchObject([{ service: 'a', orphans: [{ pid: daemon, spared: null }] }]);
    expect(next.of('swept')[0]).toMatchObject({ when: 'start', orphans: 1 });
    await eventually('its end', () => !alive(daemon as number));
    expect(next.state('a')).toBe('running');
  });

  test('with a shim of its own killed before it leaves one without an environment, which the next one knows by its group', async () => {
    const stateDir = folder();
    const services = { a: script(`${TITLED} & exec sleep 1000`) };
    const it = supervise({ stateDir, services });
    const { a } = (await it.next()) as Told;
    const titled = await titledOf((a as { pid: number }).pid);
    process.kill(it.pid, 'SIGSTOP');
    process.kill(shimOf(stateDir, 'a'), 'SIGKILL');
    await it.kill('SIGKILL');
    await eventually('the end of the first one', () => !alive((a as { pid: number }).pid));
    expect(alive(titled)).toBe(true);
    const next = new Overseen({ stateDir, services });
    await next.it.start();
    expect(next.of('orphans')).toMatchObject([{ service: 'a', orphans: [{ pid: titled, spared: null }] }]);
    await eventually('its end', () => !alive(titled));
    expect(next.state('a')).toBe('running');
  });

  test('in the middle of a stop has it finished by the shim, and the next one waits for that', async () => {
    const stateDir = folder();
    const up = join(stateDir, 'up');
    const services = {
      a: {
        ...script(`trap '' TERM; touch ${up}; while :; do sleep 0.05; done`),
        ready: { exec: ['test', '-e', up] },
        stop: [{ signal: 'TERM', wait: 500 }, { signal: 'KILL' }],
      },
    };
    const it = supervise({ stateDir, services });
    const { a } = (await it.next()) as Told;
    await it.kill('SIGKILL');
    const next = new Overseen({ stateDir, services });
    await next.it.start();
    await next.nth('ready', 'a');
    expect(alive((a as { pid: number }).pid)).toBe(false);
    expect(next.state('a')).toBe('running');
    expect(next.of('swept')[0]).toMatchObject({ orphans: 0 });
  });
});

describe('an independent service', () => {
  const independent = { mode: 'independent', lease: '1h' } as const;

  test('lives on, and is adopted: the same process, one start, no restart', async () => {
    const stateDir = folder();
    const services = { a: { ...sleeper, ...independent } };
    const it = supervise({ stateDir, services });
    const { a } = (await it.next()) as Told;
    await it.kill('SIGKILL');
    const next = new Overseen({ stateDir, services });
    const status = (await next.it.start()).services['a'];
    expect(status).toMatchObject({ pid: a?.pid, state: 'running', owned: true, restarts: 0 });
    expect(next.of('started')).toEqual([]);
    expect(next.of('adopted')).toMatchObject([{ pid: a?.pid, guarantee: 'tree' }]);
    process.kill(a?.pid as number, 'SIGKILL');
    expect(await next.nth('exit', 'a')).toMatchObject({ exit: { signal: 'SIGKILL' }, asked: false });
    await next.nth('ready', 'a', 2);
    const report = await next.it.stop();
    expect(report.survivors).toEqual({});
    expect(existsSync(join(stateDir, 'a.sock'))).toBe(false);
  });

  test('that is stopped is adopted as what it is, and is well when it goes on', async () => {
    const stateDir = folder();
    const services = { a: { ...sleeper, ...independent } };
    const it = supervise({ stateDir, services });
    const { a } = (await it.next()) as Told;
    await it.kill('SIGKILL');
    process.kill(a?.pid as number, 'SIGSTOP');
    const next = new Overseen({ stateDir, services });
    await next.it.start();
    expect(await next.nth('health', 'a')).toMatchObject({ problem: 'its process is stopped' });
    await next.nth('readiness', 'a');
    expect(next.it.status().services['a']).toMatchObject({ state: 'unhealthy', ready: false, pid: a?.pid });
    process.kill(a?.pid as number, 'SIGCONT');
    expect(await next.nth('health', 'a', 2)).toMatchObject({ problem: null });
    await next.nth('readiness', 'a', 2);
    expect(next.it.status().services['a']).toMatchObject({ state: 'running', ready: true, restarts: 0 });
  });

  test('that is stopped, or answers badly, when it is adopted is judged as one that runs, and not as one that starts', async () => {
    const stateDir = folder();
    const flag = join(folder(), 'ready');
    writeFileSync(flag, '');
    const ready = { exec: ['test', '-e', flag], within: '50ms', every: '20ms', failures: 1 };
    const services = { a: { ...sleeper, ...independent, ready }, b: { ...sleeper, ...independent, ready } };
    const it = supervise({ stateDir, services });
    const { a, b } = (await it.next()) as Told;
    await it.kill('SIGKILL');
    process.kill(a?.pid as number, 'SIGSTOP');
    rmSync(flag);
    const next = new Overseen({ stateDir, services });
    const status = await next.it.start();
    expect(status.services).toMatchObject({
      a: { pid: a?.pid, ready: false, restarts: 0, problem: 'its process is stopped' },
      b: { pid: b?.pid, ready: false, restarts: 0, problem: 'the program ended with 1' },
    });
    writeFileSync(flag, '');
    process.kill(a?.pid as number, 'SIGCONT');
    await eventually('two that are ready', () =>
      ['a', 'b'].every((name) => next.it.status().services[name]?.ready === true),
    );
    expect(next.of('started')).toEqual([]);
    expect(next.of('exit')).toEqual([]);
  });

  test('that ended meanwhile is told of, with how it ended, and its rule is kept', async () => {
    const stateDir = folder();
    const go = join(stateDir, 'go');
    const services = {
      a: {
        ...script(`while [ ! -e ${go} ]; do sleep 0.01; done; echo bye; exit 43`),
        ...independent,
        exitCodes: { 43: 'never' },
      },
    };
    const it = supervise({ stateDir, services });
    const { a } = (await it.next()) as Told;
    await it.kill('SIGKILL');
    writeFileSync(go, '');
    await eventually('its end', () => !alive(a?.pid as number));
    const next = new Overseen({ stateDir, services } as never);
    await next.it.start();
    expect(next.of('exit')).toMatchObject([{ exit: { pid: a?.pid, exitCode: 43 } }]);
    expect(next.of('failed')).toMatchObject([{ cause: 'exit-code' }]);
    const order = next.events
      .map(({ event }) => event)
      .filter((name) => name === 'adopted' || name === 'exit');
    expect(order).toEqual(['adopted', 'exit']);
    expect(next.it.logs('a').map(({ text }) => text)).toEqual(['bye']);
    expect(next.of('started')).toEqual([]);
  });

  test('whose command is another one by now is ended and started anew', async () => {
    const stateDir = folder();
    const it = supervise({ stateDir, services: { a: { ...sleeper, ...independent } } });
    const { a } = (await it.next()) as Told;
    await it.kill('SIGKILL');
    const next = new Overseen({
      stateDir,
      services: { a: { ...sleeper, ...independent, command: ['sleep', '999'] } },
    });
    await next.it.start();
    expect(next.of('stale')).toMatchObject([{ pid: a?.pid }]);
    expect(alive(a?.pid as number)).toBe(false);
    expect(next.state('a')).toBe('running');
  });

  test('goes when its lease is over', async () => {
    const stateDir = folder();
    const it = supervise({ stateDir, services: { a: { ...sleeper, mode: 'independent', lease: 300 } } });
    const { a } = (await it.next()) as Told;
    // Beats are what it lives on.
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(alive(a?.pid as number)).toBe(true);
    await it.kill('SIGKILL');
    await eventually('its end', () => !alive(a?.pid as number) && !existsSync(join(stateDir, 'a.sock')));
  });

  test('is let go of by a stop that says so, and adopted', async () => {
    const services = { a: { ...sleeper, ...independent }, b: sleeper };
    const first = new Overseen({ services });
    await first.it.start();
    const [a, b] = [first.pid('a'), first.pid('b')];
    const report = await first.it.stop({ independent: 'leave' });
    expect(report.left).toEqual(['a']);
    expect([alive(a), alive(b)]).toEqual([true, false]);
    const next = new Overseen({ stateDir: first.stateDir, services });
    await next.it.start();
    expect(next.pid('a')).toBe(a);
  });

  test('has one supervisor of two, and the other takes it over when that is killed', async () => {
    const stateDir = folder();
    const services = { a: { ...sleeper, ...independent } };
    const it = supervise({ stateDir, services });
    const { a } = (await it.next()) as Told;
    const other = new Overseen({ stateDir, services });
    expect((await other.it.start()).services['a']).toMatchObject({
      pid: a?.pid,
      state: 'elsewhere',
      owned: false,
    });
    await it.kill('SIGKILL');
    await other.nth('adopted', 'a');
    await other.nth('ready', 'a');
    expect(other.pid('a')).toBe(a?.pid);
  });

  test('is not taken from a stranger’s socket, and a record that lies kills nobody', async () => {
    const stateDir = folder();
    const bystander = new Overseen({ services: { b: sleeper } });
    await bystander.it.start();
    const pid = bystander.pid('b');
    const server = createServer((socket) => socket.on('error', () => {}).end('{"event":"started"}'));
    await new Promise<void>((resolve) => server.listen(join(stateDir, 'a.sock'), resolve));
    const shim = { pid: process.pid, startTime: 1 };
    const record = {
      service: 'a',
      runId: 'x',
      bootId: null,
      command: ['sleep'],
      pid,
      startTime: 1,
      groupId: pid,
      shim,
    };
    writeFileSync(join(stateDir, 'a.pid'), JSON.stringify(record));
    const next = new Overseen({ stateDir, services: { a: { ...sleeper, ...independent } } });
    await next.it.start();
    expect(next.of('adopted')).toEqual([]);
    expect(next.pid('a')).not.toBe(pid);
    expect(alive(pid)).toBe(true);
    server.close();
  });
});

test('ten supervisors at once have one instance between them, a hundred times', {
  timeout: 20 * PATIENCE,
}, async () => {
  const stateDir = folder();
  const rounds = Number(process.env['FORKBEARD_TEST_ROUNDS'] ?? 100);
  const services = { a: { ...sleeper, stdout: 'ignore', stderr: 'ignore' } };
  const options = JSON.stringify({ stateDir, services });
  const all = Array.from({ length: 10 }, () => run('starts-on-command.mjs', [options]));
  const told = (some = all) =>
    within('all of them', Promise.all(some.map((one) => one.next()))) as Promise<One[]>;
  await told();
  for (let round = 0; round < rounds; round++) {
    for (const one of all) one.say('start');
    const found = await told();
    expect([new Set(found.map(({ pid }) => pid)).size, found.filter(({ owned }) => owned).length]).toEqual([
      1, 1,
    ]);
    const { pid } = found[0] as One;
    expect(alive(pid)).toBe(true);
    if (round % 10 === 0) expect(marked(`FORKBEARD_STATE_DIR=${stateDir}`)).toEqual([pid]);
    // The others first, so that none of them takes it over.
    const others = all.filter((_, index) => !found[index]?.owned);
    for (const one of others) one.say('stop');
    await told(others);
    const [owner] = all.filter((_, index) => found[index]?.owned) as [Running];
    owner.say('stop');
    await told([owner]);
    expect(alive(pid)).toBe(false);
  }
  await Promise.all(all.map((one) => one.kill('SIGKILL')));
  expect(marked(`FORKBEARD_STATE_DIR=${stateDir}`)).toEqual([]);
});
