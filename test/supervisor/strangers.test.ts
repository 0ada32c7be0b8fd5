/** Who is left alone: whatever a record says of him, whatever he is called, and whoever looks meanwhile. */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { Loop } from 'forkbeard';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { findRunning } from '../../dist/supervisor/adoption.js';
import { bootId, factsOf, identify, initialVariable, match } from '../../dist/supervisor/identity.js';
import { endRun } from '../../dist/supervisor/orphans.js';
import { StateDirectory } from '../../dist/supervisor/state.js';
import { sweep } from '../../dist/supervisor/sweep.js';
import { alive, environment, eventually, folder, marked, TITLED, titledOf } from './support.ts';
import { pidOf, Watched } from './watched.ts';

const NOBODY = { pid: 2 ** 22 + 1, startTime: 5 };
const nothing = () => {};
const hearing = {
  started: nothing,
  output: nothing,
  ended: nothing,
  halted: nothing,
  unseen: nothing,
  flood: nothing,
  stuck: nothing,
  restored: nothing,
  over: nothing,
};

const sleeper = (env: Record<string, string> = {}) => {
  const child = spawn('/bin/sleep', ['1000'], { stdio: 'ignore', env: environment(env) });
  return { child, pid: child.pid as number };
};

/** Reaped by this process: then he is gone, and not merely a zombie. */
async function end({ child }: { readonly child: ChildProcess }): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

describe.runIf(process.platform === 'linux')('a record of a first process and of a shim', () => {
  let first: ReturnType<typeof sleeper>;
  let shim: ReturnType<typeof sleeper>;
  let zombies: ChildProcessByStdio<null, Readable, null>;
  let zombie = 0;

  beforeAll(async () => {
    [first, shim] = [sleeper(), sleeper()];
    // The shell becomes a program that never waits for its child.
    zombies = spawn('sh', ['-c', 'sleep 1000 & echo $!; exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    zombie = Number(await new Promise((resolve) => zombies.stdout.once('data', resolve)));
    await eventually('a parent that does not wait', () =>
      readFileSync(`/proc/${zombies.pid}/comm`, 'latin1').startsWith('sleep'),
    );
    process.kill(zombie, 'SIGKILL');
    await eventually('a zombie', () => readFileSync(`/proc/${zombie}/stat`, 'latin1').includes(') Z '));
  });
  afterAll(async () => {
    zombies.kill('SIGKILL');
    await Promise.all([end(first), end(shim)]);
  });

  const startTime = (pid: number) => identify(pid)?.startTime as number;
  const kinds = {
    same: (pid: number) => ({ pid, startTime: startTime(pid) }),
    other: (pid: number) => ({ pid, startTime: startTime(pid) - 1 }),
    gone: () => NOBODY,
    zombie: () => ({
      pid: zombie,
      startTime: Number(readFileSync(`/proc/${zombie}/stat`, 'latin1').split(' ')[21]),
    }),
    unreadable: (pid: number) => ({ pid, startTime: null }),
  };
  type Kind = keyof typeof kinds;
  const verdicts: Record<Kind, Record<Kind, string>> = {
    same: { same: 'running', other: 'orphaned', gone: 'orphaned', zombie: 'orphaned', unreadable: 'running' },
    other: { same: 'settling', other: 'stale', gone: 'stale', zombie: 'stale', unreadable: 'unknown' },
    gone: { same: 'settling', other: 'stale', gone: 'stale', zombie: 'stale', unreadable: 'unknown' },
    zombie: { same: 'settling', other: 'stale', gone: 'stale', zombie: 'stale', unreadable: 'unknown' },
    unreadable: {
      same: 'running',
      other: 'unknown',
      gone: 'unknown',
      zombie: 'unknown',
      unreadable: 'unknown',
    },
  };
  const cells = (Object.keys(kinds) as Kind[]).flatMap((one) =>
    (Object.keys(kinds) as Kind[]).map((other) => [one, other, verdicts[one][other]] as const),
  );

  test.each(cells)('that are %s and %s is %s; only an orphan is ended', async (one, other, verdict) => {
    const state = new StateDirectory(folder());
    const record = {
      service: 'x',
      runId: 'nobody-has-this',
      bootId: bootId(),
      command: ['/bin/sleep', '1000'],
      ...kinds[one](first.pid),
      groupId: first.pid,
      shim: kinds[other](shim.pid),
    };
    writeFileSync(state.of('x').record, JSON.stringify(record));
    expect(state.find('x').verdict).toBe(verdict);
    const { signal } = new AbortController();
    const found = await findRunning('x', { loop: Loop.current(), state, events: hearing, signal });
    expect(found.kind).toBe({ orphaned: 'orphaned', running: 'elsewhere' }[verdict] ?? 'nothing');
    expect(alive(shim.pid)).toBe(true);
    if (verdict === 'orphaned') {
      expect(found).toMatchObject({ orphans: [{ pid: first.pid, spared: null }] });
      await eventually('its end', () => !alive(first.pid));
      await end(first);
      first = sleeper();
    }
    expect(alive(first.pid)).toBe(true);
  });

  test('of before the machine’s start is a left-over, whoever has the numbers now', async () => {
    const state = new StateDirectory(folder());
    const of = (pid: number) => ({ pid, startTime: startTime(pid) });
    const record = {
      service: 'x',
      runId: 'nobody-has-this',
      bootId: 'of another start',
      command: ['/bin/sleep', '1000'],
      ...of(first.pid),
      groupId: first.pid,
      shim: NOBODY,
    };
    writeFileSync(state.of('x').record, JSON.stringify(record));
    const { signal } = new AbortController();
    const found = await findRunning('x', { loop: Loop.current(), state, events: hearing, signal });
    expect([state.find('x').verdict, found.kind]).toEqual(['stale', 'nothing']);
    expect(alive(first.pid)).toBe(true);
  });

  test('ends who has no environment by his group, while its number is surely that group’s, and nobody else of it', async () => {
    const leader = spawn('/bin/sh', ['-c', `${TITLED} & sleep 1000 & echo $!; wait`], {
      detached: true,
      env: environment(),
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    onTestFinished(() => end({ child: leader }));
    const named = Number(String((await once(leader.stdout, 'data'))[0]));
    const titled = await titledOf(leader.pid as number);
    const it = identify(leader.pid as number) as NonNullable<ReturnType<typeof identify>>;
    const another = { ...it, startTime: (it.startTime as number) - 1 };
    expect(endRun('nobody-has-this', another)).toEqual([]);
    await end({ child: leader });
    for (const first of [
      null,
      { ...it, bootId: 'of another start' },
      { ...it, startTime: null },
      { ...it, startTime: 2 ** 40 },
    ])
      expect(endRun('nobody-has-this', first)).toEqual([]);
    expect(endRun('nobody-has-this', it)).toMatchObject([{ pid: titled, spared: null }]);
    await eventually('its end', () => !alive(titled));
    expect(alive(named)).toBe(true);
    process.kill(named, 'SIGKILL');
  });

  test('never ends who reads it, nor the run that he is of', () => {
    const self = identify(process.pid);
    expect(endRun('nobody-has-this', self)).toEqual([]);
    const before = process.env['FORKBEARD_RUN_ID'];
    process.env['FORKBEARD_RUN_ID'] = 'ours';
    const sibling = sleeper({ FORKBEARD_RUN_ID: 'ours' });
    onTestFinished(() => end(sibling));
    try {
      expect(endRun('ours')).toEqual([]);
    } finally {
      if (before === undefined) delete process.env['FORKBEARD_RUN_ID'];
      else process.env['FORKBEARD_RUN_ID'] = before;
    }
    expect(alive(sibling.pid)).toBe(true);
  });
});

test('a thousand numbers at random: none is taken for one that it is not, and none is too much to ask', () => {
  const largest = Number(readFileSync('/proc/sys/kernel/pid_max', 'latin1'));
  for (let i = 0; i < 1000; i++) {
    // As many of them small, where there are processes.
    const pid = Math.floor(Math.random() * (i % 2 === 0 ? largest : 2000));
    const facts = factsOf(pid);
    const startTime = typeof facts === 'string' ? 1 : facts.startTime + 1;
    expect({ pid, match: match({ pid, startTime, bootId: bootId() }) }).not.toEqual({ pid, match: 'same' });
    expect(initialVariable(pid, 'FORKBEARD_NO_SUCH')).not.toBeTypeOf('string');
  }
});

describe.runIf(process.platform === 'linux')('a sweep', () => {
  test('ends who says all of who he is and is nobody’s, and nobody for his name', async () => {
    const state = new StateDirectory(folder());
    writeFileSync(state.of('x').lock, '');
    const all = { FORKBEARD_STATE_DIR: state.path, FORKBEARD_SERVICE: 'x', FORKBEARD_RUN_ID: 'left-over' };
    const { FORKBEARD_RUN_ID, ...nameless } = all;
    const spared = [
      {},
      nameless,
      { FORKBEARD_RUN_ID },
      { ...all, FORKBEARD_STATE_DIR: folder(), FORKBEARD_RUN_ID: 'another' },
      { ...all, FORKBEARD_SERVICE: '../x', FORKBEARD_RUN_ID: 'third' },
    ].map(sleeper);
    const orphan = sleeper(all);
    onTestFinished(async () => {
      await Promise.all([...spared, orphan].map(end));
    });
    const found = sweep(state).get('x');
    // Whoever has the run's id is of the run, whatever else he says.
    expect(found?.map(({ pid }) => pid).sort()).toEqual(
      [orphan.pid, (spared[2] as typeof orphan).pid].sort(),
    );
    await eventually('its end', () => !alive(orphan.pid));
    spared.splice(2, 1);
    expect(spared.map(({ pid }) => alive(pid))).toEqual([true, true, true, true]);
    expect(sweep(state).size).toBe(0);
  });

  test('while a service is restarted again and again finds nobody', async () => {
    const x = new Watched('exec sleep 1000');
    await x.it.start();
    const found: unknown[] = [];
    const sweeper = setInterval(() => found.push(...sweep(x.state).values()), 1);
    try {
      for (let i = 0; i < 10; i++) {
        if (i % 2 === 0) {
          await x.it.restart();
        } else {
          process.kill(pidOf(x), 'SIGKILL');
          await x.nth('ready', i + 2);
        }
      }
    } finally {
      clearInterval(sweeper);
    }
    expect(found).toEqual([]);
    expect(x.of('orphans')).toEqual([]);
    expect(alive(pidOf(x))).toBe(true);
    expect(existsSync(x.state.of('x').record)).toBe(true);
  });
});

test.each([
  ['is removed', ''],
  ['is made anew', 'w'],
])('a service whose lock %s while it runs is left alone, and there is no second one', async (_, anew) => {
  const path = folder();
  const first = new Watched('exec sleep 1000', {}, path);
  const { pid } = await first.it.start();
  const { lock } = first.state.of('x');
  rmSync(lock);
  if (anew) writeFileSync(lock, '');
  const second = new Watched('exec sleep 1000', {}, path);
  expect(await second.it.start()).toMatchObject({ state: 'elsewhere', pid, owned: false });
  expect(sweep(second.state).size).toBe(0);
  expect(alive(pid as number)).toBe(true);
  // Whoever of them is faster then, the other one finds it.
  await first.it.restart();
  const isThere = ({ it }: Watched) => it.state === 'running' || it.state === 'elsewhere';
  await second.until('the same', () => isThere(second) && pidOf(second) === pidOf(first));
  expect([first, second].map(({ it }) => it.status().owned).sort()).toEqual([false, true]);
  expect(marked(`FORKBEARD_STATE_DIR=${path}`)).toEqual([pidOf(first)]);
});
