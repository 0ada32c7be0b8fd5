/** kill -9 of a supervisor, and of a shim, wherever they are: the next one has one instance, and nothing is left. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SupervisorEvent, SupervisorOptions } from 'forkbeard/supervisor';
import { describe, expect, onTestFinished, test } from 'vitest';
import { lockHolders, readRecord } from '../../dist/supervisor/state.js';
import { Overseen, script, sleeper } from './overseen.ts';
import { alive, eventually, fixture, folder, marked, type Running, run, within } from './support.ts';

type ServicesOf = SupervisorOptions['services'];

/** A supervisor that tells all, in a process of its own. */
class Far {
  readonly it: Running;
  readonly stateDir: string;

  constructor(stateDir: string, services: ServicesOf, env: Record<string, string> = {}) {
    this.stateDir = stateDir;
    this.it = run('tells-all.mjs', [JSON.stringify({ stateDir, services })], env);
    onTestFinished(() => this.it.kill('SIGKILL'));
  }

  async until(holds: (event: SupervisorEvent) => boolean): Promise<SupervisorEvent> {
    for (;;) {
      const event = (await this.it.next()) as SupervisorEvent;
      if (holds(event)) return event;
    }
  }

  event = (name: SupervisorEvent['event']) => this.until(({ event }) => event === name);
  enters = (state: string) => this.until((event) => event.event === 'state' && event.to === state);
}

const holder = (stateDir: string): number | undefined => lockHolders(join(stateDir, 'a.lock'))?.[0];
const isStopped = (pid: number) => /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
const children = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);

interface Stage {
  readonly name: string;
  readonly victims: readonly ('supervisor' | 'shim')[];
  /** `go`: a file that is not there until it is all over. */
  services(go: string): ServicesOf;
  env?(stateDir: string): Record<string, string>;
  /** To where it is killed. */
  reach(far: Far): Promise<unknown>;
  /** What a supervisor that has lost its shim there is to be told. */
  readonly say?: string;
}

const quiet = { ...sleeper, stdout: 'ignore', stderr: 'ignore' } as const;
const independent = { mode: 'independent', lease: '1h' } as const;
const BOTH = ['supervisor', 'shim'] as const;

/** Its shim stops on the way. */
const halted = (name: string, at: string, record: 'none' | 'record'): Stage => ({
  name,
  victims: ['supervisor'],
  services: () => ({ a: quiet }),
  env: (stateDir) => {
    const library = join(folder(), 'halts.so');
    execFileSync('cc', ['-O1', '-shared', '-fPIC', '-o', library, fixture('halts.c')]);
    const flag = join(folder(), 'halt');
    writeFileSync(flag, stateDir);
    const before = process.env['LD_PRELOAD'];
    const preload = before ? `${before}:${library}` : library;
    return { LD_PRELOAD: preload, FORKBEARD_TEST_HALT: flag, FORKBEARD_TEST_HALT_AT: at };
  },
  reach: async ({ stateDir }) => {
    await eventually('a shim that has stopped', () => {
      const shim = holder(stateDir);
      return shim !== undefined && isStopped(shim);
    });
    expect(readRecord(join(stateDir, 'a.pid')).kind).toBe(record);
  },
});

const stages: readonly Stage[] = [
  {
    name: 'waits at a gate',
    victims: ['supervisor'],
    services: (go) => ({ a: { ...quiet, gates: [{ exec: ['test', '-e', go] }], gateTimeout: '1h' } }),
    reach: (far) => far.event('gate-blocked'),
  },
  // What becomes of the shim's end there: half-started.test.ts.
  halted('has the lock and has not written its record', 'record', 'none'),
  halted('has written its record and has not let it go', 'recorded', 'record'),
  {
    name: 'waits for it to be ready',
    victims: BOTH,
    services: (go) => ({ a: { ...quiet, ready: { exec: ['test', '-e', go], within: '1h' } } }),
    reach: (far) => far.event('started'),
  },
  { name: 'runs it', victims: BOTH, services: () => ({ a: quiet }), reach: (far) => far.event('ready') },
  {
    name: 'runs it, with a daemon that has left its group',
    victims: BOTH,
    services: (go) => ({
      a: {
        ...quiet,
        command: ['/bin/sh', '-c', `setsid -f sleep 1000; touch ${go}.up; exec sleep 1000`],
        ready: { exec: ['test', '-e', `${go}.up`] },
      },
    }),
    reach: (far) => far.event('ready'),
  },
  {
    name: 'stops it',
    victims: BOTH,
    services: (go) => ({
      a: {
        ...quiet,
        command: ['/bin/sh', '-c', `trap '' TERM; touch ${go}.up; while :; do sleep 0.05; done`],
        ready: { exec: ['test', '-e', `${go}.up`] },
        stop: [{ signal: 'TERM', wait: '1s' }, { signal: 'KILL' }],
      },
    }),
    reach: async (far) => {
      await far.event('ready');
      far.it.say('stop');
      await far.enters('stopping');
    },
    say: 'start',
  },
  {
    name: 'waits before it starts it again',
    victims: ['supervisor'],
    services: (go) => ({
      a: {
        ...quiet,
        command: ['/bin/sh', '-c', `[ -e ${go} ] && exec sleep 1000; exit 1`],
        backoff: { min: '1h', max: '1h' },
      },
    }),
    reach: (far) => far.event('backoff'),
  },
  {
    name: 'runs it, and it is independent',
    victims: BOTH,
    services: () => ({ a: { ...quiet, ...independent } }),
    reach: (far) => far.event('ready'),
  },
];

/** One instance, and after a stop of the next supervisor nothing at all. */
async function inheritedBy(stateDir: string, services: ServicesOf): Promise<void> {
  const mark = `FORKBEARD_STATE_DIR=${stateDir}`;
  const next = new Overseen({ stateDir, services });
  await within('a start', next.it.start());
  await next.nth('ready', 'a');
  expect(next.it.status().services['a']).toMatchObject({ state: 'running', owned: true });
  const pid = next.pid('a');
  const shim = holder(stateDir) as number;
  const isOfIt = (one: number) => one === pid || children(shim).includes(one) || children(pid).includes(one);
  // One that is just becoming its program shows no mark.
  await eventually('one instance', () => marked(mark).includes(pid) && marked(mark).every(isOfIt));
  expect((await next.it.stop()).survivors).toEqual({});
  expect(marked(mark)).toEqual([]);
  expect(readdirSync(stateDir).filter((name) => !name.endsWith('.lock'))).toEqual([]);
}

describe.runIf(process.platform === 'linux')('killed where it', () => {
  for (const stage of stages) {
    for (const victim of stage.victims) {
      test(`${stage.name}: ${victim}`, async () => {
        const stateDir = folder();
        const go = join(folder(), 'go');
        const services = stage.services(go);
        const far = new Far(stateDir, services, stage.env?.(stateDir));
        await within(stage.name, stage.reach(far));
        const shim = holder(stateDir);
        const before = shim === undefined ? [] : children(shim);
        if (victim === 'shim') {
          process.kill(shim as number, 'SIGKILL');
          writeFileSync(go, '');
          if (stage.say !== undefined) {
            await far.event('stopped');
            far.it.say(stage.say);
          }
          await far.event('ready');
          await eventually('the end of what there was', () => !before.some(alive));
        } else {
          writeFileSync(go, '');
        }
        await far.it.kill('SIGKILL');
        if (victim === 'supervisor' && shim !== undefined && alive(shim)) process.kill(shim, 'SIGCONT');
        await inheritedBy(stateDir, services);
        expect(before.filter(alive)).toEqual([]);
      });
    }
  }

  test.each(BOTH)('adopts it: %s', async (victim) => {
    const stateDir = folder();
    const services = { a: { ...quiet, ...independent } };
    const first = new Far(stateDir, services);
    await first.event('ready');
    const shim = holder(stateDir) as number;
    // It hears that somebody wants it, and cannot answer.
    process.kill(shim, 'SIGSTOP');
    await eventually('a stop', () => isStopped(shim));
    await first.it.kill('SIGKILL');
    const second = new Far(stateDir, services);
    await second.enters('gated');
    if (victim === 'supervisor') {
      await second.it.kill('SIGKILL');
      process.kill(shim, 'SIGCONT');
    } else {
      process.kill(shim, 'SIGKILL');
      await second.event('ready');
      await second.it.kill('SIGKILL');
    }
    await inheritedBy(stateDir, services);
  });
});

test('a supervisor that is killed and started again has its service back by itself, and says nothing untrue meanwhile', async () => {
  const stateDir = folder();
  const up = join(folder(), 'up');
  const services = {
    a: {
      ...script(`trap '' TERM; touch ${up}; while :; do sleep 0.05; done`),
      ready: { exec: ['test', '-e', up] as [string, ...string[]] },
      stop: [{ signal: 'TERM', wait: 500 }, { signal: 'KILL' }],
    },
  };
  const first = new Far(stateDir, services);
  const { pid } = (await first.event('ready')) as { pid: number };
  await first.it.kill('SIGKILL');
  const next = new Overseen({ stateDir, services });
  const { services: told } = await next.it.start();
  expect(told['a']).toMatchObject({ state: 'running', owned: true, ready: true, restarts: 0 });
  expect(told['a']?.pid).not.toBe(pid);
  expect(alive(pid)).toBe(false);
  expect(next.of('elsewhere')).toEqual([]);
  expect(next.of('gate-blocked', 'a')).toMatchObject([{ gate: expect.stringContaining('lock') }]);
});

test('a supervisor that was stopped sees what has ended meanwhile, and blames nobody for what it has missed', async () => {
  const probe = { exec: ['/bin/true'] as [string, ...string[]], every: 50, timeout: 400, failures: 1 };
  const far = new Far(folder(), { a: quiet, b: { ...quiet, live: probe } });
  const pids = new Map<string, number>();
  while (pids.size < 2) {
    const { service, pid } = (await far.event('ready')) as { service: string; pid: number };
    pids.set(service, pid);
  }
  process.kill(far.it.pid, 'SIGSTOP');
  await eventually('a stop', () => isStopped(far.it.pid));
  process.kill(pids.get('a') as number, 'SIGKILL');
  // Longer than the probe has for an answer, with one under way or not.
  await new Promise((resolve) => setTimeout(resolve, 600));
  process.kill(far.it.pid, 'SIGCONT');
  const told: string[] = [];
  const again = await far.until((event) => {
    if ('service' in event) told.push(`${event.service} ${event.event}`);
    return event.event === 'ready';
  });
  expect(again).toMatchObject({ service: 'a' });
  expect(told).toEqual(expect.arrayContaining(['a exit', 'a started', 'a ready']));
  expect(told.filter((one) => one.startsWith('b'))).toEqual([]);
  expect(alive(pids.get('b') as number)).toBe(true);
});

describe('a supervisor that stood still longer than a lease', () => {
  const services = { a: { ...quiet, mode: 'independent', lease: 300 } } as const;

  test('is told so when it goes on, and starts its service again', async () => {
    const stateDir = folder();
    const far = new Far(stateDir, services);
    const { pid } = (await far.event('ready')) as { pid: number };
    process.kill(far.it.pid, 'SIGSTOP');
    await eventually('the end of the lease', () => !alive(pid));
    process.kill(far.it.pid, 'SIGCONT');
    expect(await far.event('backoff')).toMatchObject({ cause: 'lease' });
    const again = (await far.event('ready')) as { pid: number };
    expect(marked(`FORKBEARD_STATE_DIR=${stateDir}`)).toEqual([again.pid]);
  });

  test('leaves it to who has taken its place', async () => {
    const stateDir = folder();
    const far = new Far(stateDir, services);
    const { pid } = (await far.event('ready')) as { pid: number };
    process.kill(far.it.pid, 'SIGSTOP');
    await eventually('the end of the lease', () => !alive(pid) && !existsSync(join(stateDir, 'a.pid')));
    const next = new Overseen({ stateDir, services });
    await next.it.start();
    process.kill(far.it.pid, 'SIGCONT');
    expect(await far.event('elsewhere')).toMatchObject({ pid: next.pid('a') });
    expect(next.state('a')).toBe('running');
    expect(marked(`FORKBEARD_STATE_DIR=${stateDir}`)).toEqual([next.pid('a')]);
  });
});
