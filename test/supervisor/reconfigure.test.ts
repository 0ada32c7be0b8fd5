/** Another configuration for a supervisor that runs: what comes, goes, changes, and what nobody touches. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SupervisorOptions } from 'forkbeard/supervisor';
import { describe, expect, test } from 'vitest';
import { Overseen, script, sleeper } from './overseen.ts';
import { alive, folder, within } from './support.ts';

const other = { ...sleeper, command: ['sleep', '2000'] };

function follow(s: Overseen, options: SupervisorOptions) {
  return within('another configuration', s.it.reconfigure({ ...options, stateDir: s.stateDir }));
}

describe('another configuration', () => {
  test('starts what is new, stops what is gone, restarts what has changed, and touches nothing else', async () => {
    // It hears nothing, and goes all the same.
    const deaf = {
      ...script("trap '' TERM; echo deaf; while :; do sleep 0.05; done"),
      stop: [{ signal: 'TERM', wait: 50 }, { signal: 'KILL' }],
    };
    const s = new Overseen({ services: { stays: sleeper, goes: deaf, changes: sleeper } });
    await within('the start', s.it.start());
    const [stays, goes, changes] = ['stays', 'goes', 'changes'].map((name) => s.pid(name)) as [
      number,
      number,
      number,
    ];
    const services = { comes: sleeper, changes: other, stays: sleeper };
    const difference = { added: ['comes'], removed: ['goes'], changed: ['changes'], unchanged: ['stays'] };
    expect(await follow(s, { services })).toEqual(difference);
    expect(s.of('reconfigured')).toEqual([{ event: 'reconfigured', ...difference }]);
    expect([alive(stays), alive(goes), alive(changes)]).toEqual([true, false, false]);
    const status = s.it.status();
    expect(status.state).toBe('running');
    expect(Object.keys(status.services)).toEqual(['comes', 'changes', 'stays']);
    expect(status.services).toMatchObject({
      comes: { state: 'running' },
      changes: { state: 'running', command: ['sleep', '2000'], restarts: 0 },
      stays: { state: 'running', pid: stays },
    });
    await expect(s.it.startService('goes')).rejects.toMatchObject({ code: 'ERR_FORKBEARD_UNKNOWN_SERVICE' });

    // What stayed is still looked after, and so is what came.
    process.kill(stays, 'SIGKILL');
    process.kill(s.pid('comes'), 'SIGKILL');
    await s.nth('ready', 'stays', 2);
    await s.nth('ready', 'comes', 2);
    const left = Object.values(s.it.status().services).map(({ pid }) => pid as number);
    await within('the stop', s.it.stop());
    expect(left.filter(alive)).toEqual([]);
  });

  test('that says the same changes nothing', async () => {
    const options = { services: { a: { ...sleeper, env: { A: '1' } }, g: { services: { b: sleeper } } } };
    const s = new Overseen(options);
    await within('the start', s.it.start());
    const pids = [s.pid('a'), s.pid('b')];
    expect(await follow(s, options)).toEqual({ added: [], removed: [], changed: [], unchanged: ['a', 'b'] });
    expect([s.pid('a'), s.pid('b')]).toEqual(pids);
    expect(s.of('started').length).toBe(2);
    expect(s.it.status().state).toBe('running');
  });

  test('that cannot be is refused, and nothing is touched', async () => {
    const s = new Overseen({ services: { a: sleeper } });
    await within('the start', s.it.start());
    const pid = s.pid('a');
    const code = 'ERR_FORKBEARD_INVALID_OPTION';
    await expect(follow(s, { services: { a: { ...other, dependsOn: ['b'] } } })).rejects.toMatchObject({
      code,
    });
    await expect(s.it.reconfigure({ services: { b: sleeper }, stateDir: folder() })).rejects.toMatchObject({
      code,
      message: expect.stringContaining('stateDir is for the whole life of a supervisor'),
    });
    await expect(follow(s, { services: { a: { ...sleeper, mode: 'distributed' } } })).rejects.toMatchObject({
      code,
      message: expect.stringContaining('no service has mode distributed'),
    });
    expect(s.pid('a')).toBe(pid);
    expect(s.of('reconfigured')).toEqual([]);
  });

  test('leaves down what was stopped by hand, and starts in the order of dependencies', async () => {
    const go = join(folder(), 'go');
    const s = new Overseen({ services: { a: sleeper, b: sleeper } });
    await within('the start', s.it.start());
    await within('the stop', s.it.stopService('a'));
    const changing = follow(s, {
      services: {
        a: other,
        b: { ...sleeper, dependsOn: ['c'] },
        c: { ...sleeper, ready: { exec: ['test', '-e', go] } },
      },
    });
    await s.nth('started', 'c');
    expect(s.it.status().state).toBe('starting');
    expect(s.it.status().services).toMatchObject({ a: { state: 'down' }, b: { state: 'gated' } });
    writeFileSync(go, '');
    await changing;
    await s.nth('group-state', undefined, 4);
    expect(s.it.status().state).toBe('running');
    expect(s.order('ready').slice(-2)).toEqual(['c', 'b']);
    expect(s.it.status().services['a']).toMatchObject({ state: 'down', command: ['sleep', '2000'] });
    await within('its start', s.it.startService('a'));
    expect(s.it.status().services['a']).toMatchObject({ state: 'running' });
  });

  test('of a group restarts the group that is another, and no other group', async () => {
    const s = new Overseen({
      services: {
        one: { services: { a: sleeper, b: sleeper } },
        two: { services: { c: sleeper } },
      },
    });
    await within('the start', s.it.start());
    const [a, b, c] = ['a', 'b', 'c'].map((name) => s.pid(name)) as [number, number, number];
    const two = { services: { c: sleeper, d: sleeper } };
    const one = { strategy: 'one_for_all', services: { a: sleeper, b: sleeper } } as const;
    expect(await follow(s, { services: { one, two } })).toEqual({
      added: ['d'],
      removed: [],
      changed: ['a', 'b'],
      unchanged: ['c'],
    });
    expect([alive(a), alive(b), s.pid('c') === c]).toEqual([false, false, true]);
    // Its strategy is the new one.
    const second = s.pid('b');
    process.kill(s.pid('a'), 'SIGKILL');
    await s.nth('group-restart', undefined);
    await s.nth('ready', 'b', 3);
    expect(alive(second)).toBe(false);
    expect(s.pid('c')).toBe(c);
  });

  test('mends what was given up, and ten of them at once leave what the last one says', async () => {
    const s = new Overseen({ services: { bad: { command: ['/nonexistent'] }, a: sleeper } });
    await within('the start', s.it.start());
    expect(s.it.status().services['bad']).toMatchObject({ state: 'failed' });
    await follow(s, { services: { bad: sleeper, a: sleeper } });
    expect(s.it.status().services['bad']).toMatchObject({ state: 'running' });
    const a = s.pid('a');
    const all = Array.from({ length: 10 }, (_, i) =>
      follow(s, { services: { a: sleeper, [`s${i}`]: sleeper } }),
    );
    await Promise.all(all);
    expect(Object.keys(s.it.status().services)).toEqual(['a', 's9']);
    expect(s.it.status().services['s9']).toMatchObject({ state: 'running' });
    expect(s.pid('a')).toBe(a);
  });

  test('during a stop is refused; what asks for a start meanwhile waits, and has what is new', async () => {
    const s = new Overseen({
      services: { slow: { ...script('trap "sleep 0.2; exit 0" TERM; while :; do sleep 0.05; done') } },
    });
    await within('the start', s.it.start());
    const changing = follow(s, { services: { slow: other } });
    const started = s.it.startService('slow');
    await Promise.all([changing, started]);
    expect(s.it.status().services['slow']).toMatchObject({ state: 'running', command: ['sleep', '2000'] });
    const stopping = s.it.stop();
    await expect(follow(s, { services: { slow: sleeper } })).rejects.toMatchObject({
      code: 'ERR_FORKBEARD_STOPPED',
    });
    await within('the stop', stopping);
  });
});
