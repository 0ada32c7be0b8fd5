/** A service's starter with real programs: what is asked for at once, what ends by itself, what is in the way. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { PATIENCE } from '../process/support.ts';
import { alive, eventually, folder, marked, shell, TITLED, titledOf, within } from './support.ts';
import { pidOf, Watched } from './watched.ts';

describe('a start', () => {
  test('is over when the program runs, and tells what is known of it', async () => {
    const x = new Watched('exec sleep 1000');
    const status = await x.it.start();
    expect(status).toMatchObject({
      name: 'x',
      state: 'running',
      guarantee: 'tree',
      restarts: 0,
      problem: null,
    });
    expect(alive(status.pid as number)).toBe(true);
    expect(x.states).toEqual(['gated', 'starting', 'running']);
    expect(x.state.find('x')).toMatchObject({
      verdict: 'running',
      record: { pid: status.pid, runId: status.runId },
    });
  });

  test('of what runs already is the same one', async () => {
    const x = new Watched('exec sleep 1000');
    const first = await x.it.start();
    expect((await x.it.start()).pid).toBe(first.pid);
    const both = await Promise.all([x.it.start(), x.it.start()]);
    expect(both.map(({ pid }) => pid)).toEqual([first.pid, first.pid]);
    expect(x.of('started')).toHaveLength(1);
  });

  test('that is asked for ten times at once is one', async () => {
    const x = new Watched('exec sleep 1000');
    const all = await Promise.all(Array.from({ length: 10 }, () => x.it.start()));
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
    expect(x.of('started')).toHaveLength(1);
  });

  test('waits until it is ready: a port that answers', async () => {
    const fd = sys.listen({ host: '127.0.0.1', port: 0 });
    const { port } = sys.localAddress(fd) as { port: number };
    sys.close(fd);
    const script = `setTimeout(() => require("net").createServer().listen(${port}, "127.0.0.1"), 200)`;
    const x = new Watched('', {
      command: [process.execPath, '-e', script],
      gates: [{ port }],
      ready: { probe: { tcp: port }, within: PATIENCE, timeout: 1000 },
    });
    await x.it.start();
    expect(x.of('ready')[0]?.ms).toBeGreaterThanOrEqual(200);
    expect(x.states).toEqual(['gated', 'starting', 'running']);
  });

  test('waits until a program says that it is', async () => {
    const x = new Watched('sleep 0.1; touch $STATE/ready; exec sleep 1000', {
      ready: { probe: { exec: shell('test -e $STATE/ready') }, within: PATIENCE, timeout: 1000 },
    });
    await x.it.start();
    expect(existsSync(join(x.state.path, 'ready'))).toBe(true);
  });

  test('that is never ready is stopped, tried again, and given up', async () => {
    const x = new Watched('sleep 1000', {
      ready: { probe: { exec: ['/bin/false'] }, within: 60, timeout: 1000 },
      restart: {
        type: 'permanent',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 1e6 },
        intensity: { restarts: 2, within: 1e6 },
      },
    });
    await expect(x.it.start()).rejects.toMatchObject({ code: 'ERR_FORKBEARD_FAILED' });
    expect(x.of('started')).toHaveLength(3);
    expect(x.of('started').filter(({ pid }) => alive(pid))).toEqual([]);
    expect(x.of('failed')).toEqual([expect.objectContaining({ cause: 'intensity' })]);
    expect(x.it.status()).toMatchObject({
      state: 'failed',
      problem: expect.stringContaining('not ready within 60 ms'),
    });
    expect(x.state.find('x').verdict).toBe('none');
  });

  test('that ends before it is ready never was: one failed attempt, and no ready', async () => {
    const x = new Watched('exit 7', {
      ready: { probe: { tcp: 1 }, within: PATIENCE, timeout: 100 },
      restart: {
        type: 'permanent',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 1e6 },
        intensity: { restarts: 1, within: 1e6 },
      },
    });
    await expect(x.it.start()).rejects.toThrow(/code 7 before it was ready/);
    expect(x.of('ready')).toEqual([]);
    expect(x.of('backoff')).toEqual([expect.objectContaining({ cause: 'exit' })]);
  });

  test('of what ends at once is told first, and then its end', async () => {
    const x = new Watched('echo bye; exit 3', {
      restart: {
        type: 'temporary',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 5, within: 60_000 },
      },
    });
    for (let turn = 1; turn <= 10; turn++) {
      await x.it.start().catch(() => {});
      await x.nth('exit', turn);
      await eventually('the end of what follows', () => !x.it.busy);
      expect(
        x.events.filter(({ event }) => event === 'started' || event === 'exit').map(({ event }) => event),
      ).toEqual(Array.from({ length: turn }, () => ['started', 'exit']).flat());
    }
  });

  test('of what cannot be executed fails at once, with the step, and is not tried again', async () => {
    const x = new Watched('', { command: ['/does/not/exist'] });
    await expect(x.it.start()).rejects.toMatchObject({
      code: 'ERR_FORKBEARD_FAILED',
      cause: { code: 'ENOENT', step: 'exec', path: '/does/not/exist' },
    });
    expect(x.states).toEqual(['gated', 'starting', 'failed']);
    expect(readdirSync(x.state.path)).toEqual(['x.lock']);
  });

  test('of what another supervisor runs is that one, left alone, and taken over when it is let go', async () => {
    const path = folder();
    const first = new Watched('exec sleep 1000', {}, path);
    const { pid, runId } = await first.it.start();
    const second = new Watched('exec sleep 1000', {}, path);
    expect(await second.it.start()).toMatchObject({ state: 'elsewhere', pid, runId, owned: false });
    // Nothing of it is ours to stop.
    expect(await second.it.stop()).toMatchObject({ elsewhere: pid, exit: null, survivors: [] });
    expect(alive(pid as number)).toBe(true);
    await second.it.start();
    await first.it.stop();
    const ready = await second.nth('ready');
    expect(ready.pid).not.toBe(pid);
    expect(second.of('released')).toEqual([expect.objectContaining({ pid, runId })]);
    expect(second.it.status()).toMatchObject({ state: 'running', owned: true, restarts: 0 });
  });

  test('by ten supervisors at once is one, ten times over', async () => {
    for (let round = 0; round < 10; round++) {
      const path = folder();
      const all = Array.from({ length: 10 }, () => new Watched('exec sleep 1000', {}, path));
      const found = await Promise.all(all.map(({ it }) => it.start()));
      expect(new Set(found.map(({ pid }) => pid)).size).toBe(1);
      expect(found.filter(({ owned }) => owned)).toHaveLength(1);
      expect(all.flatMap((one) => one.of('started')).length).toBe(1);
      // Those that have it not first, or they would take it over.
      const owner = found.findIndex(({ owned }) => owned);
      await Promise.all(all.filter((_, index) => index !== owner).map(({ it }) => it.stop()));
      await all[owner]?.it.stop();
    }
  });
});

describe('a service that ends', () => {
  test('is running again, as another process', async () => {
    const x = new Watched('exec sleep 1000');
    const { pid } = await x.it.start();
    process.kill(pid as number, 'SIGKILL');
    const again = await x.nth('ready', 2);
    expect(again.pid).not.toBe(pid);
    expect(x.of('exit')).toEqual([
      expect.objectContaining({ exit: expect.objectContaining({ signal: 'SIGKILL' }), asked: false }),
    ]);
    expect(x.of('backoff')).toEqual([expect.objectContaining({ cause: 'exit', delay: 0, failures: 1 })]);
    expect(x.it.status()).toMatchObject({ state: 'running', restarts: 1 });
  });

  test.each([
    ['transient', 0, 'done'],
    ['transient', 3, 'running'],
    ['temporary', 3, 'done'],
  ] as const)('of the type %s with code %i: %s', async (type, code, state) => {
    const x = new Watched(
      'read x < $STATE/fifo; if [ -e $STATE/again ]; then exec sleep 1000; fi; touch $STATE/again; exit $x',
      {
        restart: {
          type,
          backoff: { min: 1, max: 1, jitter: 0, resetAfter: 1e6 },
          intensity: { restarts: 5, within: 1e6 },
        },
      },
    );
    execFileSync('mkfifo', [join(x.state.path, 'fifo')]);
    await x.it.start();
    writeFileSync(join(x.state.path, 'fifo'), `${code}\n`);
    await x.nth('exit');
    await x.until(state, () => x.it.state === state);
    expect(x.it.status()).toMatchObject({ state, lastExit: { exitCode: code } });
  });

  test('is ended with all that it left behind, before it is started again', async () => {
    const x = new Watched(
      "(trap '' TERM; sleep 1000) & setsid -f sleep 1000; [ -e $STATE/again ] && exec sleep 1000; touch $STATE/again; exit 1",
      {
        stop: [
          { signal: 'TERM', wait: 50 },
          { signal: 'KILL', wait: 5000 },
        ],
      },
    );
    await x.it.start();
    // Its end may be there before anybody could call it ready.
    await x.nth('started', 2);
    await x.until('running again', () => x.it.state === 'running');
    const [first] = x.of('started');
    expect(x.of('exit')[0]?.left.length).toBeGreaterThan(0);
    expect(marked(`FORKBEARD_RUN_ID=${first?.runId}`)).toEqual([]);
    expect(x.states).toContain('settling');
  });

  test('and takes long to be cleared away is one end, however often it is asked for meanwhile', async () => {
    const deaf = "(trap '' TERM; while :; do sleep 0.05; done) &";
    const x = new Watched(
      `[ -e $STATE/again ] && exec sleep 1000; touch $STATE/again; ${deaf} read x < $STATE/fifo; exit 1`,
      {
        restart: {
          type: 'permanent',
          backoff: { min: 1, max: 1, jitter: 0, resetAfter: 1e6 },
          intensity: { restarts: 1, within: 1e6 },
        },
        stop: [
          { signal: 'TERM', wait: 200 },
          { signal: 'KILL', wait: 5000 },
        ],
      },
    );
    execFileSync('mkfifo', [join(x.state.path, 'fifo')]);
    await x.it.start();
    writeFileSync(join(x.state.path, 'fifo'), '');
    await x.until('settling', () => x.it.state === 'settling');
    const all = await Promise.all(Array.from({ length: 10 }, () => [x.it.revive(), x.it.start()]).flat());
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
    expect(x.it.status()).toMatchObject({ state: 'running', restarts: 1 });
    expect(x.of('started')).toHaveLength(2);
    expect(x.of('failed')).toEqual([]);
  });

  test('again and again waits longer, and is given up: an event of its own, once', async () => {
    const x = new Watched('exit 1');
    x.it.start().catch(() => {});
    const failed = await x.nth('failed');
    expect(failed).toMatchObject({ cause: 'intensity', message: expect.stringContaining('code 1') });
    expect(x.of('backoff').map(({ delay }) => delay)).toEqual([0, 20, 40, 80, 100]);
    expect(x.it.status().state).toBe('failed');
    expect(x.of('failed')).toHaveLength(1);
  });

  test('for good is brought back by a start by hand', async () => {
    const x = new Watched('[ -e $STATE/fixed ] && exec sleep 1000; exit 1', {
      restart: {
        type: 'permanent',
        backoff: { min: 1, max: 1, jitter: 0, resetAfter: 1e6 },
        intensity: { restarts: 0, within: 1e6 },
      },
    });
    x.it.start().catch(() => {});
    await x.nth('failed');
    writeFileSync(join(x.state.path, 'fixed'), '');
    expect(await x.it.start()).toMatchObject({ state: 'running', failures: 0 });
  });

  test('with its shim is started again, and what was left of it is found by its id', async () => {
    const x = new Watched('sleep 1000 & sleep 1000 & wait');
    await x.it.start();
    const { runId } = x.it.status();
    await eventually('both', () => marked(`FORKBEARD_RUN_ID=${runId}`).length >= 4);
    const { record } = x.state.find('x');
    process.kill(record?.shim.pid as number, 'SIGKILL');
    await x.nth('ready', 2);
    expect(x.of('orphans')[0]?.orphans.length).toBeGreaterThanOrEqual(2);
    expect(marked(`FORKBEARD_RUN_ID=${runId}`)).toEqual([]);
    expect(x.of('backoff')[0]).toMatchObject({ cause: 'shim-lost' });
  });

  test('with its shim is started again without those of it that have written a title over their environment', async () => {
    const x = new Watched(`${TITLED} & exec sleep 1000`);
    await x.it.start();
    const first = x.it.status().pid as number;
    const titled = await titledOf(first);
    process.kill(x.state.find('x').record?.shim.pid as number, 'SIGKILL');
    await x.nth('ready', 2);
    const told = x.of('orphans').flatMap(({ orphans }) => orphans);
    expect(told).toContainEqual(expect.objectContaining({ pid: titled, spared: null }));
    expect(alive(titled)).toBe(false);
    expect(x.it.status().pid).not.toBe(first);
  });
});

describe('a service that is not well', () => {
  const live = (probe: string) =>
    ({ probe: { exec: shell(probe) }, every: 30, timeout: 2000, failures: 2 }) as const;

  test('says so at the first bad answer, and is started again after so many', async () => {
    const x = new Watched('rm -f $STATE/ill; echo up; exec sleep 1000', {
      live: live('test ! -e $STATE/ill'),
    });
    const { pid } = await x.it.start();
    await x.says('up');
    writeFileSync(join(x.state.path, 'ill'), '');
    const again = await x.nth('ready', 2);
    expect(again.pid).not.toBe(pid);
    expect(x.states.slice(3)).toEqual(['unhealthy', 'stopping', 'backoff', 'gated', 'starting', 'running']);
    expect(x.of('health')[0]?.problem).toContain('ended with 1');
  });

  test('is running again when it recovers before', async () => {
    const x = new Watched('exec sleep 1000', {
      live: { ...live('test ! -e $STATE/ill'), failures: 1000 },
    });
    await x.it.start();
    writeFileSync(join(x.state.path, 'ill'), '');
    await x.until('unhealthy', () => x.it.state === 'unhealthy');
    const { rmSync } = await import('node:fs');
    rmSync(join(x.state.path, 'ill'));
    await x.until('running', () => x.it.state === 'running');
    expect(x.of('started')).toHaveLength(1);
  });

  test('because it is stopped is known by its process, whatever it would answer', async () => {
    const x = new Watched('exec sleep 1000', { live: live('true') });
    const { pid } = await x.it.start();
    process.kill(pid as number, 'SIGSTOP');
    await x.nth('ready', 2);
    expect(x.of('backoff')[0]?.message).toBe('its process is stopped');
    expect(alive(pid as number)).toBe(false);
  });

  test('is said to be so by a stop alone where nobody is asked, and is not restarted', async () => {
    const x = new Watched('exec sleep 1000');
    const { pid } = await x.it.start();
    for (const count of [1, 2]) {
      process.kill(pid as number, 'SIGSTOP');
      await x.nth('readiness', 2 * count - 1);
      expect(x.it.status()).toMatchObject({ state: 'unhealthy', ready: false, pid });
      expect(x.it.status().problem).toBe('its process is stopped');
      process.kill(pid as number, 'SIGCONT');
      await x.nth('readiness', 2 * count);
      expect(x.it.status()).toMatchObject({ state: 'running', ready: true, pid, problem: null });
    }
    const said = ['its process is stopped', null, 'its process is stopped', null];
    expect(x.of('health').map(({ problem }) => problem)).toEqual(said);
    expect(x.of('readiness').map(({ problem }) => problem)).toEqual(said);
    expect(x.it.status().restarts).toBe(0);
  });

  test('a stop of one that is stopped tells of nothing but the stop', async () => {
    const x = new Watched('exec sleep 1000');
    const { pid } = await x.it.start();
    process.kill(pid as number, 'SIGSTOP');
    await x.nth('readiness');
    const { exit, steps } = await x.it.stop();
    expect(exit?.signal).toBe('SIGTERM');
    expect(steps).toHaveLength(1);
    expect(x.of('health')).toHaveLength(1);
    expect(x.of('readiness')).toHaveLength(1);
    expect(x.states.slice(-3)).toEqual(['unhealthy', 'stopping', 'down']);
  });

  test('that is stopped before it is ready is so when it is, and its end is seen', async () => {
    const x = new Watched('exec sleep 1000', {
      ready: { probe: { exec: shell('test -e $STATE/ready') }, within: 60_000, timeout: 5000 },
    });
    const started = x.it.start();
    await x.nth('started');
    process.kill(pidOf(x), 'SIGSTOP');
    await x.until('a stop', () => x.it.state === 'starting');
    writeFileSync(join(x.state.path, 'ready'), '');
    await started;
    await x.until('unhealthy', () => x.it.state === 'unhealthy');
    process.kill(pidOf(x), 'SIGKILL');
    expect((await x.nth('exit')).exit.signal).toBe('SIGKILL');
    await x.nth('ready', 2);
    expect(x.it.status()).toMatchObject({ state: 'running', ready: true, restarts: 1 });
  });

  test('with somebody who asks is not ready while it is stopped, and as well as that one finds', async () => {
    const x = new Watched('exec sleep 1000', {
      live: { ...live('true'), every: 3_600_000 },
    });
    const { pid } = await x.it.start();
    process.kill(pid as number, 'SIGSTOP');
    expect((await x.nth('readiness')).problem).toBe('its process is stopped');
    expect(x.it.status()).toMatchObject({ state: 'running', ready: false });
    process.kill(pid as number, 'SIGCONT');
    expect((await x.nth('readiness', 2)).problem).toBe(null);
    expect(x.it.status()).toMatchObject({ state: 'running', ready: true, problem: null });
    expect(x.of('health')).toEqual([]);
  });

  test('is not blamed for what its judge has missed', async () => {
    const x = new Watched('exec sleep 1000', {
      live: { probe: { exec: shell('sleep 0.05') }, every: 20, timeout: 200, failures: 1 },
    });
    await x.it.start();
    // Each time in the middle of a question: its time is over before we can hear the answer.
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 45));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(x.of('started')).toHaveLength(1);
    expect(x.it.state).toBe('running');
  });
});

describe('a stop', () => {
  test('ends it, says each step, and nothing starts it again', async () => {
    const x = new Watched("trap '' TERM; echo up; while :; do sleep 1000; done", {
      stop: [
        { signal: 'TERM', wait: 50 },
        { signal: 'KILL', wait: 5000 },
      ],
    });
    const { pid } = await x.it.start();
    await x.says('up');
    const report = await x.it.stop();
    expect(report).toMatchObject({ exit: { pid, signal: 'SIGKILL' }, survivors: [] });
    expect(report.steps.map(({ signal }) => signal)).toEqual(['SIGTERM', 'SIGKILL']);
    expect(report.steps[1]?.at).toBeGreaterThanOrEqual(45);
    expect(x.of('exit')).toEqual([expect.objectContaining({ asked: true })]);
    expect(x.it.status()).toMatchObject({ state: 'down', pid: null, runId: null });
    expect(x.of('backoff')).toEqual([]);
    expect(readdirSync(x.state.path)).toEqual(['x.lock']);
  });

  test('twice at once is one, and both hear of it', async () => {
    const x = new Watched('exec sleep 1000');
    await x.it.start();
    const [one, other] = await Promise.all([x.it.stop(), x.it.stop()]);
    expect(one).toBe(other);
    expect(x.of('stopped')).toHaveLength(1);
  });

  test('during a backoff cancels it', async () => {
    const x = new Watched('exit 1', {
      restart: {
        type: 'permanent',
        backoff: { min: 60_000, max: 60_000, jitter: 0, resetAfter: 1e6 },
        intensity: { restarts: 50, within: 1e6 },
      },
    });
    x.it.start().catch(() => {});
    await x.nth('backoff', 2);
    await x.it.stop();
    expect(x.it.state).toBe('down');
    expect(x.of('started')).toHaveLength(2);
  });

  test('while a gate is closed ends the waiting', async () => {
    const x = new Watched('exec sleep 1000', {
      gates: [{ name: 'never', check: () => false }],
      gateTimeout: 60_000,
    });
    const starting = expect(x.it.start()).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STOPPED' });
    await x.nth('gate-blocked');
    expect(x.it.status()).toMatchObject({ state: 'gated', problem: 'gate "never": it says no' });
    await x.it.stop();
    await starting;
    expect(x.states).toEqual(['gated', 'down']);
  });

  test('while a gate does not answer ends the waiting, and the program that asks with all of its group', async () => {
    const script = 'sleep 1000 & echo $! $$ > $STATE/new; mv $STATE/new $STATE/asked; wait';
    let isAsked = false;
    const hang = () => {
      isAsked = true;
      return new Promise<boolean>(() => {});
    };
    const x = new Watched('exec sleep 1000', {
      gates: [{ exec: shell(script) }, { name: 'hangs', check: hang }],
      gateTimeout: 600_000,
    });
    const starting = expect(x.it.start()).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STOPPED' });
    const asked = join(x.state.path, 'asked');
    await eventually('the program asks', () => existsSync(asked));
    expect(isAsked).toBe(true);
    const asking = readFileSync(asked, 'utf8').trim().split(' ').map(Number);
    expect(asking.map(alive)).toEqual([true, true]);
    await within('the stop', x.it.stop());
    await starting;
    expect(x.states).toEqual(['gated', 'down']);
    expect(x.of('gate-blocked')).toEqual([]);
    await eventually('nobody asks', () => !asking.some(alive));
  });

  test('while it starts ends what has started', async () => {
    const x = new Watched('sleep 1000', {
      ready: { probe: { exec: ['/bin/false'] }, within: 60_000, timeout: 60_000 },
    });
    const starting = expect(x.it.start()).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STOPPED' });
    const { pid } = await x.nth('started');
    await x.it.stop();
    await starting;
    expect(alive(pid)).toBe(false);
    expect(x.it.state).toBe('down');
  });

  test('leaves its neighbours alone', async () => {
    const neighbour = new Watched('exec sleep 1000');
    const { pid } = await neighbour.it.start();
    const x = new Watched('exec sleep 1000');
    for (let i = 0; i < 10; i++) {
      await x.it.start();
      await x.it.stop();
    }
    expect(pidOf(neighbour)).toBe(pid);
    expect(alive(pid as number)).toBe(true);
  });
});

describe('a restart', () => {
  test('is another process, never beside the old one', async () => {
    const x = new Watched(
      'mkdir $STATE/alone || { echo two; exit 1; }; trap "rmdir $STATE/alone; exit 0" TERM; echo up; while :; do sleep 0.01; done',
    );
    const first = await x.it.start();
    await x.says('up');
    const second = await x.it.restart();
    expect(second.pid).not.toBe(first.pid);
    expect(alive(first.pid as number)).toBe(false);
    // The shell has a word of its own on the end of its child.
    await x.until('up twice', () => x.text.split('up\n').length === 3);
    expect(x.text).not.toContain('two');
    expect(second.restarts).toBe(0);
  });

  test('twenty times at once ends with one process', async () => {
    const x = new Watched('exec sleep 1000');
    await x.it.start();
    const all = await Promise.all(Array.from({ length: 20 }, () => x.it.restart()));
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
    expect(x.of('started').filter(({ pid }) => alive(pid))).toHaveLength(1);
    expect(x.of('started')).toHaveLength(2);
  });

  test('hurries a backoff when it is a start by hand', async () => {
    const x = new Watched('[ -e $STATE/fixed ] && exec sleep 1000; exit 1', {
      restart: {
        type: 'permanent',
        backoff: { min: 60_000, max: 60_000, jitter: 0, resetAfter: 1e6 },
        intensity: { restarts: 50, within: 1e6 },
      },
    });
    // It may end before it counts as ready: then this start goes on, and is hurried with it.
    x.it.start().catch(() => {});
    await eventually('a wait', () => x.of('backoff').some(({ delay }) => delay > 0));
    writeFileSync(join(x.state.path, 'fixed'), '');
    expect(await x.it.start()).toMatchObject({ state: 'running' });
  });

  test('waits for a port that the old one has left to a daemon, and says who has it', async () => {
    const fd = sys.listen({ host: '127.0.0.1', port: 0 });
    const { port } = sys.localAddress(fd) as { port: number };
    const x = new Watched('exec sleep 1000', { gates: [{ port, host: '127.0.0.1' }] });
    const starting = x.it.start();
    const blocked = await x.nth('gate-blocked');
    expect(blocked).toMatchObject({
      gate: `port 127.0.0.1:${port}`,
      holders: [{ pid: process.pid, ours: false }],
    });
    sys.close(fd);
    await starting;
    expect(x.of('gates-passed')[0]?.blocked).toHaveLength(1);
  });
});

test('nothing is left here after fifty ends', async () => {
  const x = new Watched('exec sleep 1000', {
    restart: {
      type: 'permanent',
      backoff: { min: 0, max: 0, jitter: 0, resetAfter: 0 },
      intensity: { restarts: 1e6, within: 1 },
    },
  });
  await x.it.start();
  const descriptors = readdirSync('/proc/self/fd').length;
  for (let i = 2; i <= 50; i++) {
    process.kill(pidOf(x), 'SIGKILL');
    await x.nth('ready', i);
  }
  // The last shim's own end is heard after its service's.
  await eventually('as many as before', () => readdirSync('/proc/self/fd').length === descriptors);
  expect(readFileSync(join(x.state.path, 'x.pid'), 'utf8')).toContain(`"pid":${pidOf(x)}`);
});
