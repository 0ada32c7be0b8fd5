/** The supervisor with real programs: who starts before whom, and what the end of one does to the others. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { chmodSync, existsSync, mkdirSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Loop } from 'forkbeard';
import { Supervisor } from 'forkbeard/supervisor';
import { describe, expect, onTestFinished, test } from 'vitest';
import { LOOK } from '../../dist/supervisor/ascent.js';
import { sentence } from '../../dist/supervisor/sentences.js';
import { Shim } from '../../dist/supervisor/shim.js';
import { lockHolders, StateDirectory } from '../../dist/supervisor/state.js';
import { Overseen, script, sleeper } from './overseen.ts';
import { alive, coupled, eventually, folder, marked, Recorder, within } from './support.ts';

const kill = (pid: number) => process.kill(pid, 'SIGKILL');

/** The moments at which a supervisor looks after its traces, when the test says so. */
class Looks {
  #due: (() => void)[] = [];
  readonly clock = {
    now: () => Loop.current().now(),
    after: (ms: number, callback: () => void): Disposable => {
      if (ms !== LOOK) return Loop.current().watchTime({ after: ms }, callback);
      this.#due.push(callback);
      return {
        [Symbol.dispose]: () => {
          this.#due = this.#due.filter((one) => one !== callback);
        },
      };
    },
  };
  now(): void {
    for (const look of this.#due.splice(0)) look();
  }
}

describe('a lock that is not at its path any more', () => {
  const ways: Record<string, (path: string) => void> = {
    'was removed': (path) => rmSync(join(path, 'a.lock')),
    'was removed with its directory': (path) => rmSync(path, { recursive: true }),
    'is another file': (path) => {
      renameSync(path, `${path}.old`);
      onTestFinished(() => rmSync(`${path}.old`, { recursive: true }));
      mkdirSync(path, { mode: 0o700 });
      writeFileSync(join(path, 'a.lock'), '');
    },
  };

  test.runIf(process.platform === 'linux').each(Object.keys(ways))(
    'as it %s, is no leave to start a second instance',
    async (way) => {
      const looks = new Looks();
      const s = new Overseen({ services: { a: sleeper } }, { clock: looks.clock });
      await within('the start', s.it.start());
      const pid = s.pid('a');
      ways[way]?.(s.stateDir);
      const next = new Overseen({ services: { a: sleeper }, stateDir: s.stateDir });
      await within('the start of another', next.it.start());
      expect(next.it.status().services).toMatchObject({ a: { state: 'elsewhere', pid, owned: false } });
      expect(next.of('started')).toEqual([]);
      if (way !== 'was removed') {
        const told = await next.nth('elsewhere', 'a');
        expect(told).toMatchObject({ pid, isUntraced: true });
        expect(sentence(told)[1]).toContain(`(pid ${pid}), although its lock was removed`);
      }
      expect(marked(`FORKBEARD_STATE_DIR=${s.stateDir}`)).toEqual([pid]);
      // When that one lets go of it, it is this one's to start.
      await within('the stop', s.it.stop());
      await next.nth('started', 'a');
      expect(alive(pid)).toBe(false);
    },
  );

  test.runIf(process.platform === 'linux').each(Object.keys(ways))(
    'as it %s, is made anew with record and socket by whose it is, and that is told',
    async (way) => {
      const looks = new Looks();
      const services = { a: { ...sleeper, mode: 'independent' } } as const;
      const s = new Overseen({ services }, { clock: looks.clock });
      await within('the start', s.it.start());
      const pid = s.pid('a');
      looks.now();
      ways[way]?.(s.stateDir);
      looks.now();
      const told = await s.nth('traces-lost', 'a');
      const { lock, record, socket } = new StateDirectory(s.stateDir).of('a');
      expect(told).toMatchObject({ path: lock, problem: null });
      expect(sentence(told)).toEqual(['warn', expect.stringMatching(/removed its lock .* made anew/)]);
      expect([record, socket].filter((path) => !existsSync(path))).toEqual([]);
      await within('its being let go of', s.it.stop({ independent: 'leave' }));
      const next = new Overseen({ services, stateDir: s.stateDir });
      await within('the start of another', next.it.start());
      expect(next.it.status().services).toMatchObject({ a: { state: 'running', pid, owned: true } });
      const holders = lockHolders(lock);
      expect(holders).toHaveLength(1);
      await within('the stop', next.it.stop());
      expect([pid, ...(holders as number[])].filter(alive)).toEqual([]);
      expect([record, socket].filter((path) => existsSync(path))).toEqual([]);
      expect(s.of('traces-lost')).toHaveLength(1);
    },
  );

  test.runIf(process.platform === 'linux')(
    'and is held by another there, is told once, and taken when it is free',
    async () => {
      const looks = new Looks();
      const s = new Overseen({ services: { a: sleeper } }, { clock: looks.clock });
      await within('the start', s.it.start());
      const { lock, record } = new StateDirectory(s.stateDir).of('a');
      rmSync(lock);
      const seen = new Recorder();
      const other = Shim.start(
        Loop.current(),
        coupled('exec sleep 1000', { lock, record: { path: record, head: { service: 'a' } } }),
        seen,
      );
      await seen.until('started');
      looks.now();
      expect(await s.nth('traces-lost', 'a')).toMatchObject({ problem: `held by ${seen.start?.shim}` });
      looks.now();
      other.stop([{ signal: 'KILL', wait: 1000 }]);
      await seen.until('gone');
      await eventually('a lock that is free', () => lockHolders(lock)?.length === 0);
      looks.now();
      expect(await s.nth('traces-lost', 'a', 2)).toMatchObject({ problem: null });
      expect(s.of('traces-lost')).toHaveLength(2);
      expect(new StateDirectory(s.stateDir).find('a')).toMatchObject({
        verdict: 'running',
        record: { pid: s.pid('a') },
      });
    },
  );
});

describe('a state directory that somebody has cleared away', () => {
  test('is made anew for the next start, and no reason to end what another supervisor runs', async () => {
    const s = new Overseen({ services: { a: sleeper, b: sleeper } });
    await within('the start', s.it.start());
    const b = s.pid('b');
    rmSync(s.stateDir, { recursive: true });
    const next = new Overseen({ services: { c: sleeper }, stateDir: s.stateDir });
    await within('the start of another', next.it.start());
    expect(next.of('swept')).toEqual([{ event: 'swept', when: 'start', orphans: 0 }]);
    await within('its stop', next.it.stop());
    expect(alive(b)).toBe(true);
    rmSync(s.stateDir, { recursive: true });
    kill(s.pid('a'));
    await s.nth('ready', 'a', 2);
    expect(s.it.status().services).toMatchObject({
      a: { state: 'running' },
      b: { state: 'running', pid: b },
    });
    const pids = [s.pid('a'), b];
    await within('the stop', s.it.stop());
    expect(pids.filter(alive)).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)(
    'that is closed to the user of a service is told, when that does not get ready',
    async () => {
      const stateDir = folder();
      chmodSync(stateDir, 0o700);
      const s = new Overseen({
        stateDir,
        services: {
          a: { ...sleeper, user: 'nobody', ready: { notify: true, within: 50 }, restart: 'temporary' },
        },
      });
      const { services } = await within('the start', s.it.start());
      expect(services['a']?.problem).toMatch(
        /^it did not say READY=1 within 50 ms; .* is closed to its user \(mode 700\), and has its NOTIFY_SOCKET$/,
      );
    },
  );
});

describe('a start', () => {
  test('goes in the order of dependencies, each when the one before is ready, and a stop the other way', async () => {
    const go = join(folder(), 'go');
    const s = new Overseen({
      services: {
        web: { ...sleeper, dependsOn: ['api'] },
        api: { ...sleeper, dependsOn: ['db'] },
        db: { ...sleeper, ready: { exec: ['test', '-e', go] } },
      },
    });
    const started = s.it.start();
    await s.nth('started', 'db');
    expect(s.it.status().services['api']).toMatchObject({
      state: 'gated',
      problem: 'waits for db, which is starting',
    });
    expect(s.order('started')).toEqual(['db']);
    writeFileSync(go, '');
    const { state, services } = await within('the start', started);
    expect(state).toBe('running');
    expect(s.order('ready')).toEqual(['db', 'api', 'web']);
    expect(services['web']).toMatchObject({
      kind: 'service',
      ready: true,
      dependsOn: ['api'],
      mode: 'coupled',
    });
    const pids = ['web', 'api', 'db'].map((name) => s.pid(name));
    const report = await within('the stop', s.it.stop());
    expect(s.order('stopped')).toEqual(['web', 'api', 'db']);
    expect(report).toMatchObject({ survivors: {}, left: [] });
    expect(report.services['db']?.steps.map(({ signal }) => signal)).toEqual(['SIGTERM']);
    expect(pids.filter(alive)).toEqual([]);
    expect(s.of('swept')).toEqual([
      { event: 'swept', when: 'start', orphans: 0 },
      { event: 'swept', when: 'shutdown', orphans: 0 },
    ]);
  });

  test('that is asked for ten times at once is one', async () => {
    const s = new Overseen({ services: { a: sleeper } });
    await Promise.all(Array.from({ length: 10 }, () => s.it.start()));
    const pid = s.pid('a');
    await s.it.start();
    expect(s.pid('a')).toBe(pid);
    expect(s.of('started').length).toBe(1);
  });

  test('of what cannot be executed fails that alone, with errno and step, and what depends on it says so', async () => {
    const s = new Overseen({
      services: {
        bad: { command: ['/nonexistent'] },
        nowhere: { ...sleeper, cwd: '/nonexistent' },
        needs: { ...sleeper, dependsOn: ['bad'] },
        other: sleeper,
      },
    });
    const { services } = await s.it.start();
    expect(services).toMatchObject({
      bad: { state: 'failed' },
      needs: { state: 'failed' },
      other: { state: 'running' },
    });
    expect(s.of('failed', 'bad')[0]).toMatchObject({
      cause: 'refused',
      error: { code: 'ENOENT', step: 'exec', path: '/nonexistent' },
    });
    expect(s.it.status().services['nowhere']?.problem).toBe(
      "ENOENT: no such file or directory, spawn (chdir) '/nonexistent'",
    );
    expect(s.of('failed', 'needs')[0]).toMatchObject({ cause: 'dependency' });
    expect(s.of('started', 'needs')).toEqual([]);
  });

  test('waits for one that is to end well', async () => {
    const s = new Overseen({
      services: {
        migrate: { ...script('exit 0'), restart: 'temporary' },
        broken: { ...script('exit 3'), restart: 'temporary' },
        web: { ...sleeper, dependsOn: [{ service: 'migrate', until: 'done' }] },
        never: { ...sleeper, dependsOn: [{ service: 'broken', until: 'done' }] },
      },
    });
    const { services } = await s.it.start();
    expect(services).toMatchObject({
      migrate: { state: 'done' },
      web: { state: 'running' },
      never: { state: 'failed' },
    });
  });

  test('of what waits for another is over with a stop of it, or of all', async () => {
    const s = new Overseen({
      services: {
        db: { ...sleeper, ready: { exec: ['/bin/false'], within: '1h' } },
        web: { ...sleeper, dependsOn: ['db'] },
        api: { ...sleeper, dependsOn: ['db'] },
      },
    });
    const started = s.it.start();
    await s.nth('started', 'db');
    // Said in one breath: the last word counts.
    const [one, other] = [s.it.startService('web'), s.it.startService('api')];
    const stop = s.it.stopService('web');
    await expect(one).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STOPPED' });
    expect(await within('its stop', stop)).toMatchObject({ exit: null, survivors: [] });
    expect([s.state('web'), s.state('api')]).toEqual(['down', 'gated']);
    const [report] = await Promise.all([
      within('the stop', s.it.stop()),
      expect(other).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STOPPED' }),
    ]);
    expect(report.survivors).toEqual({});
    await within('the start', started);
    expect(s.order('started')).toEqual(['db']);
    expect(['db', 'web', 'api'].map((name) => s.state(name))).toEqual(['down', 'down', 'down']);
  });

  test('by hand takes along what is depended on, and forgets what went wrong', async () => {
    const go = join(folder(), 'go');
    const s = new Overseen({
      services: {
        db: { ...script(`[ -e ${go} ] && exec sleep 1000; exit 1`), exitCodes: { 1: 'never' } },
        web: { ...sleeper, dependsOn: ['db'] },
      },
    });
    await s.it.start();
    await s.nth('failed', 'db');
    await s.it.stop();
    writeFileSync(go, '');
    expect(await s.it.startService('web')).toMatchObject({ state: 'running' });
    expect(s.state('db')).toBe('running');
    expect((await s.it.stopService('web')).survivors).toEqual([]);
    expect(s.state('db')).toBe('running');
    const before = s.pid('db');
    expect((await s.it.restartService('db')).pid).not.toBe(before);
  });

  test('of what failed brings back who failed for want of it, and nobody else', async () => {
    const good = join(folder(), 'good');
    const s = new Overseen({
      services: {
        db: {
          command: ['/bin/sh', '-c', `[ -e ${good} ] && exec sleep 1000; exit 43`],
          exitCodes: { 43: 'never' },
          ready: { exec: ['test', '-e', good], within: '1h' },
        },
        bad: { command: ['/nonexistent'] },
        api: { ...sleeper, dependsOn: ['db'] },
        web: { ...sleeper, dependsOn: ['api'] },
        both: { ...sleeper, dependsOn: ['db', 'bad'] },
        unwanted: { ...sleeper, dependsOn: ['db'] },
      },
    });
    await s.it.start();
    expect(s.order('failed').toSorted()).toEqual(['api', 'bad', 'both', 'db', 'unwanted', 'web']);
    await s.it.stopService('unwanted');
    writeFileSync(good, '');
    await s.it.startService('db');
    await s.nth('ready', 'web');
    expect(s.order('ready')).toEqual(['db', 'api', 'web']);
    expect(s.state('both')).toBe('failed');
    expect(s.of('failed', 'both').length).toBe(1);
    expect(s.state('unwanted')).toBe('down');
  });

  test('in a circle is refused, and shown', () => {
    const services = { a: { ...sleeper, dependsOn: ['b'] }, b: { ...sleeper, dependsOn: ['a'] } };
    expect(() => new Supervisor({ stateDir: folder(), services })).toThrow('a → b → a');
  });

  test('of a name that nobody has is refused with the nearest', async () => {
    const s = new Overseen({ services: { cache: sleeper } });
    await expect(s.it.startService('cahce')).rejects.toMatchObject({ code: 'ERR_FORKBEARD_UNKNOWN_SERVICE' });
  });
});

describe('the end of one', () => {
  const three = { a: sleeper, b: sleeper, c: sleeper };
  const pids = (s: Overseen) => ['a', 'b', 'c'].map((name) => s.pid(name));

  test('is nothing to the others with one_for_one', async () => {
    const s = new Overseen({ services: three });
    await s.it.start();
    const [a, b, c] = pids(s);
    kill(b as number);
    await s.nth('ready', 'b', 2);
    expect(pids(s)).toEqual([a, expect.any(Number), c]);
    expect(s.pid('b')).not.toBe(b);
    expect(s.it.status().services['b']).toMatchObject({
      restarts: 1,
      counters: { starts: 2, exits: 1, restarts: { exit: 1 } },
    });
  });

  test('takes all with it with one_for_all', async () => {
    const s = new Overseen({ strategy: 'one_for_all', services: three });
    await s.it.start();
    const before = pids(s);
    kill(before[1] as number);
    for (const name of ['a', 'b', 'c']) await s.nth('ready', name, 2);
    expect(pids(s).some((pid) => before.includes(pid))).toBe(false);
    expect(before.filter(alive)).toEqual([]);
    expect(s.of('group-restart')).toMatchObject([{ group: '', because: 'b', members: ['a', 'b', 'c'] }]);
  });

  test('has one_for_all stop who is temporary, and not start it again; what was done is not done twice', async () => {
    const s = new Overseen({
      strategy: 'one_for_all',
      services: {
        a: sleeper,
        guest: { ...sleeper, restart: 'temporary' },
        job: { ...script('exit 0'), restart: 'temporary' },
      },
    });
    await s.it.start();
    const guest = s.pid('guest');
    kill(s.pid('a'));
    await s.nth('ready', 'a', 2);
    expect(alive(guest)).toBe(false);
    expect([s.state('guest'), s.state('job')]).toEqual(['down', 'done']);
    expect(s.order('started').sort()).toEqual(['a', 'a', 'guest', 'job']);
  });

  test('has one_for_all begin once more when another fails while all are started again', async () => {
    const count = join(folder(), 'count');
    const fails = `echo x >> ${count}; [ $(wc -l < ${count}) -eq 2 ] && exit 1; exec sleep 1000`;
    const s = new Overseen({ strategy: 'one_for_all', services: { a: sleeper, b: script(fails) } });
    await s.it.start();
    kill(s.pid('a'));
    await s.nth('group-restart', undefined, 2);
    await s.nth('started', 'b', 3);
    await s.it.start();
    expect([s.state('a'), s.state('b')]).toEqual(['running', 'running']);
    expect(s.of('group-restart').map(({ because }) => because)).toEqual(['a', 'b']);
    const there = s.of('started').filter(({ pid }) => alive(pid));
    expect(there.map(({ service }) => service).sort()).toEqual(['a', 'b']);
  });

  test('takes those with it that were started after it with rest_for_one', async () => {
    const s = new Overseen({ strategy: 'rest_for_one', services: three });
    await s.it.start();
    expect(s.order('ready')).toEqual(['a', 'b', 'c']);
    const [a, b, c] = pids(s);
    kill(b as number);
    await s.nth('ready', 'c', 2);
    expect(s.pid('a')).toBe(a);
    expect([b, c].filter((pid) => alive(pid as number))).toEqual([]);
    expect(s.order('ready').slice(3)).toEqual(['b', 'c']);
  });

  test('too often is the end of a group, once, and of nobody beside it', async () => {
    const s = new Overseen({
      services: {
        beside: sleeper,
        pair: {
          strategy: 'one_for_all',
          intensity: { restarts: 2, within: '1h' },
          restart: 'temporary',
          services: { good: sleeper, bad: script('exit 1') },
        },
      },
    });
    await s.it.start();
    expect(await s.nth('group-failed', undefined)).toMatchObject({ group: 'pair', final: true });
    await s.nth('stopped', 'good', 3);
    expect(s.of('group-failed').length).toBe(1);
    expect(s.state('beside')).toBe('running');
    expect(s.state('bad')).toBe('failed');
    expect(s.of('exit', 'bad').length).toBe(3);
  });

  test('of the outermost group is an event of its own, and a start by hand brings all back', async () => {
    const go = join(folder(), 'go');
    const s = new Overseen({
      strategy: 'one_for_all',
      intensity: { restarts: 1, within: '1h' },
      services: { good: sleeper, bad: script(`[ -e ${go} ] && exec sleep 1000; exit 1`) },
    });
    await s.it.start();
    expect(await s.nth('group-failed', undefined)).toMatchObject({ group: '', final: true });
    await s.nth('stopped', 'good', 2);
    expect(s.it.status().state).toBe('failed');
    writeFileSync(go, '');
    expect((await s.it.start()).state).toBe('running');
  });

  test('that a group within has come to has it started again by the one around it', async () => {
    const count = join(folder(), 'count');
    const s = new Overseen({
      services: {
        within: {
          strategy: 'one_for_all',
          intensity: { restarts: 1, within: '1h' },
          services: {
            good: sleeper,
            bad: script(`echo x >> ${count}; [ $(wc -l < ${count}) -gt 2 ] && exec sleep 1000; exit 1`),
          },
        },
      },
    });
    await s.it.start();
    expect(await s.nth('group-failed', undefined)).toMatchObject({ group: 'within', final: false });
    await s.nth('started', 'bad', 3);
    await s.it.start();
    expect([s.state('good'), s.state('bad')]).toEqual(['running', 'running']);
  });

  test('is started again while its neighbours fall without end', async () => {
    const s = new Overseen({
      services: {
        storm: {
          ...script('exit 1'),
          intensity: { restarts: 40, within: '1h' },
          backoff: { min: 0, max: 1 },
        },
        calm: sleeper,
      },
    });
    await s.it.start();
    const calm = s.pid('calm');
    kill(calm);
    await s.nth('ready', 'calm', 2);
    await s.nth('failed', 'storm');
    expect(s.of('exit', 'storm').length).toBe(41);
    expect(s.state('calm')).toBe('running');
  });

  test('is nothing that a stop waits for: all go, daemons and the deaf included', async () => {
    const s = new Overseen({
      services: {
        daemon: script('setsid -f sleep 1000; exec sleep 1000'),
        deaf: {
          ...script("trap '' TERM; echo up; while :; do sleep 1000; done"),
          stop: [
            { signal: 'TERM', wait: 100 },
            { signal: 'KILL', wait: '30s' },
          ],
        },
        leader: script('sleep 1000 & exit 0'),
      },
    });
    await s.it.start();
    const mark = `FORKBEARD_STATE_DIR=${s.stateDir}`;
    expect(marked(mark).length).toBeGreaterThan(2);
    const report = await s.it.stop();
    expect(report.survivors).toEqual({});
    expect(marked(mark)).toEqual([]);
    expect(s.of('orphans')).toEqual([]);
  });
});

test('a clock that is set does nothing: backoff and intensity go by the one that is given', async () => {
  const loop = Loop.current();
  let offset = 0;
  // As a clock that jumps forward an hour between two ends.
  const clock = {
    now: () => loop.now() + offset,
    after: (ms: number, callback: () => void) => loop.watchTime({ after: ms }, callback),
  };
  const s = new Overseen(
    { services: { a: { ...sleeper, intensity: { restarts: 1, within: '1h' } } } },
    { loop, clock },
  );
  // And the machine's own is set back by a year, and then far into the future.
  const wall = Date.now;
  onTestFinished(() => {
    Date.now = wall;
  });
  await s.it.start();
  Date.now = () => wall() - 365 * 86_400_000;
  kill(s.pid('a'));
  await s.nth('ready', 'a', 2);
  Date.now = () => wall() + 100 * 365 * 86_400_000;
  offset += 2 * 3_600_000;
  kill(s.pid('a'));
  await s.nth('ready', 'a', 3);
  kill(s.pid('a'));
  await s.nth('failed', 'a');
});

test('a service has what was asked for: folder, mask, limits, niceness, user, session and terminal', async () => {
  const place = folder();
  chmodSync(place, 0o755);
  const isRoot = process.getuid?.() === 0;
  const facts = [
    'umask',
    'pwd',
    'ulimit -Sn',
    'ulimit -Hn',
    'ulimit -c',
    'nice',
    'id -u',
    'id -g',
    'id -G',
    'cut -d" " -f5-7 /proc/$$/stat',
    'echo $HOME $ASKED',
  ];
  const s = new Overseen({
    services: {
      a: {
        ...script(`${facts.join('; ')}; echo end; exec sleep 1000`),
        cwd: place,
        umask: '027',
        nice: 7,
        rlimits: { nofile: { soft: 64, hard: 128 }, core: 0 },
        session: true,
        env: { HOME: '/somewhere', ASKED: 'as it is' },
        ...(isRoot ? { user: '65534', group: '65533' } : {}),
      },
    },
  });
  const ended = new Promise<void>((resolve) => {
    s.it.on('log', ({ text }) => text === 'end' && resolve());
  });
  await s.it.start();
  await within('its facts', ended);
  const pid = s.pid('a');
  const own = [process.getuid?.(), process.getgid?.()];
  const [uid, gid] = isRoot ? [65_534, 65_533] : own;
  const [umask, cwd, soft, hard, core, nice, ...others] = s.it.logs('a').map(({ text }) => text);
  expect({ umask, cwd, soft, hard, core, nice }).toEqual({
    umask: '0027',
    cwd: realpathSync(place),
    soft: '64',
    hard: '128',
    core: '0',
    nice: '7',
  });
  expect(others.slice(0, 2)).toEqual([`${uid}`, `${gid}`]);
  if (isRoot) expect(others[2]).toBe(`${gid}`);
  // Group, session, controlling terminal.
  expect(others.slice(3)).toEqual([`${pid} ${pid} 0`, '/somewhere as it is', 'end']);
});

test('what a service says comes by lines, and the last are kept; events go to diagnostics_channel', async () => {
  const heard: unknown[] = [];
  const listener = (message: unknown) => heard.push(message);
  subscribe('forkbeard:supervisor:ready', listener);
  const s = new Overseen({
    services: { a: script("printf 'one\\ntwo\\npart'; printf 'err\\n' >&2; exec sleep 1000") },
  });
  const lines: string[] = [];
  const said = new Promise<void>((resolve) => {
    s.it.on('log', ({ stream, text }) => {
      lines.push(`${stream} ${text}`);
      if (lines.length === 3) resolve();
    });
  });
  await s.it.start();
  await said;
  // Its last word is no line before its end.
  await s.it.stopService('a');
  unsubscribe('forkbeard:supervisor:ready', listener);
  expect(lines).toEqual(expect.arrayContaining(['stdout one', 'stdout two', 'stdout part', 'stderr err']));
  expect(s.it.logs('a').map(({ text }) => text)).toEqual(expect.arrayContaining(['one', 'two', 'part']));
  expect(heard[0]).toMatchObject({ event: 'ready', service: 'a' });
});

test('a service that floods is slowed down to what it may say, which is told, and loses nothing', async () => {
  const s = new Overseen({
    services: {
      flood: { ...script('seq 300; exec sleep 1000'), logLimit: { lines: 200 } },
      free: { ...script('seq 300; exec sleep 1000'), logLimit: { lines: 0, bytes: 0 } },
    },
  });
  const done = new Promise<void>((resolve) => {
    s.it.on('log', ({ service, text }) => {
      if (service === 'flood' && text === '300') resolve();
    });
  });
  await s.it.start();
  expect(await s.nth('flood', 'flood')).toMatchObject({ held: null });
  await within('the last line', done);
  expect(s.it.logs('flood').map(({ text }) => Number(text))).toEqual(
    Array.from({ length: 300 }, (_, line) => line + 1),
  );
  expect(s.of('flood', 'free')).toEqual([]);
  expect(s.it.status().services['flood']?.counters).toMatchObject({ floods: 1 });
});
