/** Services whose processes are hard to end, to see or to count: what a stop comes to, and what is told of it. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Loop } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { factsOf, identify, match } from '../../dist/supervisor/identity.js';
import { pidsOfRun } from '../../dist/supervisor/orphans.js';
import { Shim, type ShimOptions } from '../../dist/supervisor/shim.js';
import { alive, coupled, environment, eventually, fixture, folder, marked, Recorder } from './support.ts';
import { pidOf, Watched } from './watched.ts';

const linux = process.platform === 'linux';
const KILL = [{ signal: 'KILL', wait: 10_000 }];
const TERM_KILL = [{ signal: 'TERM', wait: 50 }, ...KILL];

const built = folder();
const compiled = new Map<string, string>();

/** Of the fixture of that name; built once. */
function compile(name: string, ...flags: string[]): string {
  let path = compiled.get(name);
  if (path === undefined) {
    path = join(built, name);
    execFileSync('cc', ['-O1', '-pthread', ...flags, '-o', path, fixture(`${name}.c`)]);
    compiled.set(name, path);
  }
  return path;
}

const stubborn = (...what: string[]): Partial<ShimOptions> => ({ command: [compile('stubborn'), ...what] });

function start(script: string, more: Partial<ShimOptions> = {}): { shim: Shim; heard: Recorder } {
  const heard = new Recorder();
  const shim = Shim.start(Loop.current(), coupled(script, more), heard);
  onTestFinished(async () => {
    shim.stop(KILL);
    await heard.until('gone');
  });
  return { shim, heard };
}

/** All that came of it has this in its environment. */
let marks = 0;
function mark(): { readonly env: Record<string, string>; readonly left: () => number[] } {
  const value = `${process.pid}-${++marks}`;
  return {
    env: environment({ FORKBEARD_TEST_TREE: value }),
    left: () => marked(`FORKBEARD_TEST_TREE=${value}`),
  };
}

describe('a stop', () => {
  test.each([
    ['that is stopped and deaf, by KILL alone', "trap '' TERM; echo up; kill -STOP $$", KILL],
    [
      'that answers with what hangs',
      "trap 'sleep 1000' TERM; echo up; while :; do sleep 0.01; done",
      TERM_KILL,
    ],
    [
      'that answers with new processes, in sessions of their own',
      "trap 'setsid sleep 1000 & sleep 1000 &' TERM; echo up; while :; do sleep 0.01; done",
      TERM_KILL,
    ],
    [
      'that answers with a program that is not there',
      'trap /does/not/exist TERM; echo up; while :; do sleep 0.01; done',
      TERM_KILL,
    ],
  ])('ends one %s, and all of it', async (_, script, steps) => {
    const { env, left } = mark();
    const { shim, heard } = start(script, { env });
    await heard.says('up\n');
    shim.stop(steps);
    await heard.until('empty');
    expect(heard.exit).toMatchObject({ exitCode: null, signal: 'SIGKILL' });
    expect(left()).toEqual([]);
  });

  test('is over with the status that it chose, whatever it was asked to', async () => {
    const { shim, heard } = start("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done");
    await heard.says('up\n');
    shim.stop([{ signal: 'TERM', wait: 10_000 }, ...KILL]);
    await heard.until('empty');
    expect(heard.exit).toMatchObject({ exitCode: 7, signal: null });
  });

  test('does not wait for the end of an output that a daemon holds; who holds it is told', async () => {
    const { env, left } = mark();
    const { shim, heard } = start('setsid -f sleep 1000; exit 3', { env });
    await heard.until('exited');
    expect(heard.exit).toMatchObject({ exitCode: 3 });
    expect(heard.left).toEqual(left());
    expect(heard.left).toHaveLength(1);
    shim.stop(TERM_KILL);
    await heard.until('empty');
    expect(left()).toEqual([]);
  });

  test.runIf(linux)(
    'needs no program to be found: without any PATH, of a first process that has ended',
    async () => {
      const before = process.env['PATH'];
      process.env['PATH'] = '/does/not/exist';
      try {
        const { shim, heard } = start('/bin/sleep 1000 & exit 0', { env: { ...environment(), PATH: '' } });
        await heard.until('exited');
        expect(heard.left).toHaveLength(1);
        shim.stop(TERM_KILL);
        await heard.until('gone');
        expect(heard.left.filter(alive)).toEqual([]);
      } finally {
        process.env['PATH'] = before;
      }
    },
  );

  test.each([
    ['has left the group that it led', ['move']],
    ['has ended its first thread', ['behead']],
    ['makes ever more processes in its group', ['swarm', '6']],
    ['runs away, each process to a session of its own and to the next', ['run', '1']],
  ])('ends one that %s', async (_, what) => {
    const { env, left } = mark();
    const { shim, heard } = start('', { ...stubborn(...what), env });
    await heard.says('up\n');
    shim.stop(KILL);
    await heard.until('empty');
    expect(heard.exit).toMatchObject({ signal: 'SIGKILL' });
    expect(heard.names).not.toContain('stuck');
    expect(left()).toEqual([]);
  });

  test.runIf(linux)(
    'of what cannot be ended says so, and nothing is started beside it until it has',
    async (context) => {
      const x = new Watched('exec sleep 1000', { stop: [{ signal: 'KILL', wait: 50 }] });
      const { pid } = await x.it.start();
      // Its tracer hears of its end, and nobody else, as it is with one that the kernel is busy with.
      const tracer = spawn(compile('stubborn'), ['hold', String(pid)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      onTestFinished(() => void tracer.kill('SIGKILL'));
      const [said] = await Promise.race([once(tracer.stdout, 'data'), once(tracer, 'exit')]);
      if (String(said) !== 'up\n') context.skip('ptrace is not allowed here');
      expect(await x.it.stop()).toMatchObject({ survivors: [pid] });
      expect(x.it.state).toBe('stuck');
      expect(x.of('stuck')).toEqual([expect.objectContaining({ survivors: [pid] })]);
      await expect(x.it.start()).rejects.toMatchObject({ code: 'ERR_FORKBEARD_STUCK' });
      expect(x.of('started')).toHaveLength(1);
      tracer.kill('SIGKILL');
      await x.until('its end', () => x.it.state === 'down');
      expect((await x.it.start()).pid).not.toBe(pid);
    },
  );
});

test.runIf(linux)(
  'of hundreds of orphans that have ended, none stays a zombie while the service runs',
  async () => {
    const { heard } = start(
      'i=0; while [ $i -lt 200 ]; do (true &); i=$((i+1)); done; echo up; exec sleep 1000',
    );
    await heard.says('up\n');
    const shim = heard.start?.shim as number;
    const children = () => readFileSync(`/proc/${shim}/task/${shim}/children`, 'latin1').trim();
    await eventually('nobody but the service', () => children() === String(heard.pid));
  },
);

test.runIf(linux)(
  'one that has ended its first thread is no zombie: it is started, seen and found',
  async () => {
    const x = new Watched('', { command: [compile('stubborn'), 'behead'] });
    const { pid, runId } = (await x.it.start()) as { pid: number; runId: string };
    await x.says('up\n');
    await eventually('the end of its first thread', () =>
      readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z '),
    );
    expect(factsOf(pid)).toMatchObject({ state: 'Z', threads: 2 });
    expect(match(identify(pid) as NonNullable<ReturnType<typeof identify>>)).toBe('same');
    expect(pidsOfRun(runId)).toContain(pid);
    expect(x.state.find('x').verdict).toBe('running');
    // Its end is heard when it is one.
    expect(pidOf(x)).toBe(pid);
    await x.it.signal('KILL');
    expect((await x.nth('exit')).exit).toMatchObject({ pid, signal: 'SIGKILL' });
  },
);

test('one that says that it is ready and ends at once is told as ready and then as ended, or as ended alone', async () => {
  const say = `python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
os._exit(3)'`;
  const x = new Watched(`exec ${say}`, {
    ready: { notify: true, within: 60_000, timeout: 0 },
    restart: {
      type: 'permanent',
      backoff: { min: 0, max: 0, jitter: 0, resetAfter: 60_000 },
      intensity: { restarts: 5, within: 60_000 },
    },
  });
  x.it.start().catch(() => {});
  await x.nth('failed');
  const order = x.events
    .map(({ event }) => event)
    .filter((event) => ['started', 'ready', 'exit'].includes(event));
  expect(order.join(' ')).toMatch(/^(started( ready)? exit ?){6}$/);
  expect(x.of('exit').every(({ exit }) => exit.exitCode === 3)).toBe(true);
});
