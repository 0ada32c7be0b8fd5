/** What a service is promised where the system does not give everything: less, said so, and refused where it is required. */
import { Loop } from 'forkbeard';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Shim } from '../../dist/supervisor/shim.js';
import { alive, coupled, environment, marked, Recorder } from './support.ts';
import { Watched } from './watched.ts';

describe('without a subreaper', () => {
  beforeEach(() => {
    process.env['FORKBEARD_PRETEND_MISSING'] = 'subreaper';
  });
  afterEach(() => {
    delete process.env['FORKBEARD_PRETEND_MISSING'];
  });

  test('the group is what is promised, and what was left in it is waited for all the same', async () => {
    const heard = new Recorder();
    // The first process ends before its group does; nobody tells the shim of the end of the rest.
    const shim = Shim.start(Loop.current(), coupled('sleep 1000 & echo $!; exit 3'), heard);
    await heard.until('exited');
    expect(heard.start?.adopts).toBe(false);
    expect(heard.exit).toMatchObject({ exitCode: 3 });
    const left = Number(heard.text);
    expect(heard.left).toEqual([left]);
    expect(heard.names).not.toContain('empty');
    shim.stop([{ signal: 'TERM', wait: 10_000 }]);
    await heard.until('empty');
    expect(alive(left)).toBe(false);
    await heard.until('gone');
  });

  test('a daemon gets away from a stop, and its run id finds it', async () => {
    const env = environment({ GUARANTEE: 'away' });
    const x = new Watched(`setsid sh -c 'echo up; exec sleep 1000' & exec sleep 1000`, { env });
    const { guarantee } = await x.it.start();
    expect(guarantee).toBe('group');
    await x.says('up');
    await x.it.stop();
    const away = marked('GUARANTEE=away');
    expect(away).toHaveLength(1);
    for (const pid of away) process.kill(pid, 'SIGKILL');
  });

  test('more is refused where it is required, and nothing of the service is left', async () => {
    const env = environment({ GUARANTEE: 'required' });
    const x = new Watched('exec sleep 1000', { env, require: 'tree' });
    await expect(x.it.start()).rejects.toThrow('It reaches "group", and "tree" is required');
    expect(x.of('failed')[0]).toMatchObject({ cause: 'guarantee' });
    expect(marked('GUARANTEE=required')).toEqual([]);
  });
});

test('with one, the whole tree is promised, which is what may be required', async () => {
  const x = new Watched('exec sleep 1000', { require: 'tree' });
  expect(await x.it.start()).toMatchObject({ state: 'running', guarantee: 'tree' });
});
