/** Modes under those who look after a supervisor: sd_notify, systemd's own tools, runit and s6, an orchestrator, PID 1. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { SupervisorOptions } from '../../dist/supervisor/index.js';
import { PATIENCE } from '../process/support.ts';
import { Overseen } from './overseen.ts';
import { alive, eventually, fixture, folder, marked, shell, within } from './support.ts';

type Line = { event: string } & Record<string, unknown>;

type Plan = Pick<SupervisorOptions, 'mode' | 'supervised' | 'distributed' | 'services'>;

const planOf = (plan: Plan, stateDir: string) => ({
  FORKBEARD_TEST_PLAN: JSON.stringify({ ...plan, stateDir }),
});

const PROGRAM = [process.execPath, fixture('supervises.mjs')];

/** The supervisor of the fixture, under whatever `before` is, and what it says. */
class Outer {
  readonly lines: Line[] = [];
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  #changed = new Set<() => void>();

  constructor(
    plan: Plan,
    { before = [] as string[], env = {} as Record<string, string>, state = folder() } = {},
  ) {
    const [program, ...args] = [...before, ...PROGRAM];
    this.child = spawn(program as string, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...planOf(plan, state), ...env },
    });
    this.exited = new Promise((resolve) => this.child.on('exit', resolve));
    let rest = '';
    this.child.stdout?.on('data', (chunk) => {
      const parts = (rest + chunk).split('\n');
      rest = parts.pop() as string;
      this.lines.push(...parts.map((line) => JSON.parse(line) as Line));
      for (const changed of this.#changed) changed();
    });
    onTestFinished(async () => {
      this.child.kill('SIGKILL');
      await this.exited;
      this.child.stdout?.destroy();
    });
  }

  async hears(event: string, matching: (line: Line) => boolean = () => true): Promise<Line> {
    const find = () => this.lines.find((line) => line.event === event && matching(line));
    let changed = () => {};
    const met = new Promise<void>((resolve) => {
      changed = () => {
        if (find() !== undefined) resolve();
      };
      this.#changed.add(changed);
      changed();
    });
    await within(`${event}; so far ${JSON.stringify(this.lines)}`, met);
    this.#changed.delete(changed);
    return find() as Line;
  }
}

/** What systemd hears. */
class Notifications {
  readonly path = join(folder(), 'notify.sock');
  readonly said: string[] = [];
  #changed: () => void = () => {};

  constructor() {
    const fd = sys.socket('unix', 'dgram');
    sys.bind(fd, { path: this.path });
    const buffer = new Uint8Array(4096);
    const watcher = Loop.current().watchIo(fd, {
      onReadReady: () => {
        for (let bytes = sys.recv(fd, buffer); bytes > 0; bytes = sys.recv(fd, buffer))
          this.said.push(...Buffer.from(buffer.subarray(0, bytes)).toString().trim().split('\n'));
        this.#changed();
      },
    });
    onTestFinished(() => {
      watcher.stop();
      sys.close(fd);
    });
  }

  async hears(line: string | RegExp): Promise<void> {
    const heard = () =>
      this.said.some((said) => (typeof line === 'string' ? said === line : line.test(said)));
    const met = new Promise<void>((resolve) => {
      this.#changed = () => {
        if (heard()) resolve();
      };
      this.#changed();
    });
    await within(`${line} in ${JSON.stringify(this.said)}`, met);
  }
}

const has = (program: string) => spawnSync(program, ['--version']).error === undefined;
const sleeper = { command: shell('exec sleep 1000') };

/** Ready as long as there is a file. */
const there = (state: string) => ({
  exec: shell(`test -e ${state}/go`),
  within: PATIENCE,
  timeout: PATIENCE,
  every: 20,
  failures: 1,
});

/** A port that nobody had a moment ago. */
function freePort(): number {
  const fd = sys.listen({ host: '127.0.0.1', port: 0 });
  const { port } = sys.localAddress(fd) as { port: number };
  sys.close(fd);
  return port;
}

/** Answers each connection on its first socket with its pid. */
const ANSWERS = shell(
  `exec perl -e 'open(my $s, "+<&=", 3) or die; while (accept(my $c, $s)) { syswrite $c, $$; close $c }'`,
);

const asked = (port: number) =>
  new Promise<string>((resolve) => {
    let said = '';
    const client = connect(port, '127.0.0.1');
    client.on('data', (data) => {
      said += data;
    });
    client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code as string));
    client.on('close', () => resolve(said));
  });

describe('supervised', () => {
  test('it says READY=1 when all services are ready and not before, that it lives, how it is, and that it stops', async () => {
    const notifications = new Notifications();
    const state = folder();
    const outer = new Outer(
      {
        mode: 'supervised',
        services: { quick: sleeper, slow: { ...sleeper, ready: there(state) } },
      },
      { state, env: { NOTIFY_SOCKET: notifications.path, WATCHDOG_USEC: '200000' } },
    );
    await outer.hears('ready', ({ service }) => service === 'quick');
    await notifications.hears('STATUS=2 services, 1 ready; slow: starting');
    await notifications.hears('WATCHDOG=1');
    expect(notifications.said).not.toContain('READY=1');
    writeFileSync(join(state, 'go'), '');
    await notifications.hears('READY=1');
    await notifications.hears('STATUS=2 services, 2 ready');
    rmSync(join(state, 'go'));
    await notifications.hears(/^STATUS=2 services, 1 ready; slow: running: .*ended with 1$/);
    outer.child.kill('SIGTERM');
    await notifications.hears('STOPPING=1');
    expect(await outer.exited).toBe(0);
    // More time, while services start and while they stop.
    const extended = notifications.said.flatMap((line, at) =>
      line === 'EXTEND_TIMEOUT_USEC=30000000' ? [at] : [],
    );
    expect(extended).toHaveLength(2);
    expect(extended[0]).toBeLessThan(notifications.said.indexOf('READY=1'));
    expect(extended[1]).toBeGreaterThan(notifications.said.indexOf('STOPPING=1'));
    expect(notifications.said.filter((line) => line === 'READY=1')).toHaveLength(1);
  });

  test.skipIf(!has('systemd-socket-activate'))(
    'sockets of systemd are handed on to the services that name them (needs systemd-socket-activate)',
    async () => {
      const port = freePort();
      const outer = new Outer(
        {
          mode: 'supervised',
          services: {
            web: { command: ANSWERS, listen: 'fd://web' },
            bare: { command: shell('ls /proc/self/fd | wc -l; echo "$LISTEN_FDS."; exec sleep 1000') },
          },
        },
        // It starts its program with the first connection, and has it accept that.
        {
          before: [
            ...['systemd-socket-activate', '-l', `127.0.0.1:${port}`, '--fdname=web'],
            // It hands on nothing else.
            ...['FORKBEARD_TEST_PLAN', 'FORKBEARD_TEST_FILE', 'FORKBEARD_NATIVE'].flatMap((name) => [
              '-E',
              name,
            ]),
          ],
        },
      );
      await eventually('a listener', () => listens(port));
      const first = asked(port);
      const { pid } = await outer.hears('started', ({ service }) => service === 'web');
      expect(await first).toBe(String(pid));
      process.kill(pid as number, 'SIGKILL');
      // The dying one may still take somebody along; nobody is refused.
      let said = '';
      while (said === '' || said === 'ECONNRESET' || said === String(pid)) said = await asked(port);
      expect(said).toMatch(/^\d+$/);
      // 0, 1, 2 and the folder that ls reads.
      await outer.hears('log', ({ service, text }) => service === 'bare' && text === '4');
      await outer.hears('log', ({ service, text }) => service === 'bare' && text === '.');
    },
  );

  test.skipIf(!has('systemd-notify'))(
    'a service may say that it is ready by systemd-notify (needs systemd-notify)',
    async () => {
      const outer = new Outer({
        mode: 'supervised',
        services: {
          x: {
            command: shell('systemd-notify --ready --status="all is well"; exec sleep 1000'),
            ready: { notify: true, within: PATIENCE },
          },
        },
      });
      await outer.hears('ready');
    },
  );
});

/** Something listens on the port, without a connection to it. */
function listens(port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  return new RegExp(`:${hex} 00000000:0000 0A`).test(readFileSync('/proc/net/tcp', 'latin1'));
}

/** A service directory whose program is the fixture with one service. */
function serviceDirectory(state: string, more: Partial<Plan> = {}): string {
  const path = join(folder(), 'svc');
  mkdirSync(path);
  const plan: Plan = {
    mode: 'supervised',
    services: { x: { ...sleeper, env: { OUTER_STATE: state } } },
    ...more,
  };
  const run = `#!/bin/sh\nFORKBEARD_TEST_PLAN='${planOf(plan, state).FORKBEARD_TEST_PLAN}'\nexport FORKBEARD_TEST_PLAN\nexec '${PROGRAM.join("' '")}' >>'${path}/log'\n`;
  writeFileSync(join(path, 'run'), run);
  chmodSync(join(path, 'run'), 0o755);
  return path;
}

describe.each([
  ['runit', 'runsv'],
  ['s6', 's6-supervise'],
])('under %s', (name, program) => {
  test.skipIf(!has(program))(
    `a supervisor that is killed comes back, with one instance of its service (needs ${program})`,
    async () => {
      const state = folder();
      const path = serviceDirectory(state, name === 's6' ? { supervised: { notifyFd: 3 } } : {});
      if (name === 's6') writeFileSync(join(path, 'notification-fd'), '3\n');
      const outer = spawn(program, [path], { stdio: 'ignore' });
      const ended = new Promise((resolve) => outer.on('exit', resolve));
      onTestFinished(async () => {
        // Its own end is its service's as well.
        outer.kill('SIGTERM');
        await within(`the end of ${program}`, ended);
        expect(marked(`OUTER_STATE=${state}`).filter(alive)).toEqual([]);
      });
      const lines = () => {
        try {
          const text = readFileSync(join(path, 'log'), 'utf8').split('\n').slice(0, -1);
          return text.map((line) => JSON.parse(line) as Line);
        } catch {
          return [];
        }
      };
      const all = (event: string) => lines().filter((line) => line.event === event);
      await eventually('the first start', () => all('ready').length === 1);
      if (name === 's6') {
        const wait = spawnSync('s6-svwait', ['-U', '-t', '20000', path]);
        expect([wait.status, String(wait.stderr)]).toEqual([0, '']);
      }
      const [first] = all('begun');
      process.kill(first?.['pid'] as number, 'SIGKILL');
      await eventually('the second start', () => all('ready').length === 2);
      const [before, after] = all('started').map(({ pid }) => pid as number);
      expect(after).not.toBe(before);
      expect(alive(before as number)).toBe(false);
      expect(
        marked(`OUTER_STATE=${state}`).filter(
          (pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n',
        ),
      ).toEqual([after]);
    },
    60_000,
  );
});

describe('distributed', () => {
  const get = async (port: number, path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, text: (await response.text()).trim() };
  };
  test('it answers for itself and for its services, and is not ready before they stop', async () => {
    const state = folder();
    const port = freePort();
    const outer = new Outer(
      {
        mode: 'distributed',
        distributed: { probes: `tcp://127.0.0.1:${port}`, drain: 3000 },
        services: { x: { ...sleeper, ready: there(state) } },
      },
      { state },
    );
    const { pid } = await outer.hears('started');
    expect(await get(port, '/healthz')).toEqual({ status: 200, text: 'alive' });
    expect(await get(port, '/readyz')).toEqual({ status: 503, text: '1 service, 0 ready; x: starting' });
    expect((await get(port, '/startupz')).status).toBe(503);
    writeFileSync(join(state, 'go'), '');
    await outer.hears('ready');
    expect(await get(port, '/readyz')).toEqual({ status: 200, text: '1 service, 1 ready' });
    rmSync(join(state, 'go'));
    await outer.hears('readiness');
    expect((await get(port, '/readyz')).status).toBe(503);
    expect((await get(port, '/startupz')).status).toBe(200);
    writeFileSync(join(state, 'go'), '');
    await outer.hears('readiness', ({ problem }) => problem === null);
    const began = performance.now();
    outer.child.kill('SIGTERM');
    await outer.hears('end');
    expect(await get(port, '/readyz')).toEqual({ status: 503, text: 'stopping; 1 service, 1 ready' });
    expect(await get(port, '/livez')).toEqual({ status: 200, text: 'alive' });
    expect(alive(pid as number)).toBe(true);
    expect(await outer.exited).toBe(0);
    expect(performance.now() - began).toBeGreaterThanOrEqual(2990);
    expect(alive(pid as number)).toBe(false);
  });

  const namespaces = spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true']).status === 0;

  test.skipIf(!namespaces)(
    'as PID 1 it reaps who is nobody’s, hands signals on, and ends with SIGTERM (needs unshare)',
    async () => {
      const state = folder();
      const outer = new Outer(
        {
          mode: 'distributed',
          distributed: { forward: ['USR2'], drain: 0 },
          services: {
            x: { command: shell('trap "echo heard" USR2; echo up; while :; do sleep 0.05; done') },
          },
        },
        { state, before: ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'] },
      );
      expect((await outer.hears('begun'))['pid']).toBe(1);
      await outer.hears('log', ({ text }) => text === 'up');
      const [init = 0] = childrenOf(outer.child.pid as number);
      process.kill(init, 'SIGUSR2');
      await outer.hears('log', ({ text }) => text === 'heard');
      // What comes from outside and leaves its children here, as an exec probe does.
      const script = `(sleep 0.05; touch ${state}/left; exit 3) >/dev/null 2>&1 &`;
      spawnSync('nsenter', ['-t', String(init), '-p', '/bin/sh', '-c', script]);
      await eventually('the orphan to be there', () => existsSync(join(state, 'left')));
      await eventually('nobody but shims', () =>
        childrenOf(init).every((pid) =>
          readFileSync(`/proc/${pid}/comm`, 'latin1').startsWith('forkbeard-shim'),
        ),
      );
      expect(await outer.hears('reaped')).toMatchObject({ exit: { exitCode: 3 } });
      process.kill(init, 'SIGTERM');
      expect(await outer.exited).toBe(0);
    },
  );

  test('who does not want to wait for a drain does not', async () => {
    const s = new Overseen({ mode: 'distributed', distributed: { drain: '1h' }, services: { x: sleeper } });
    await s.it.start();
    const stopped = s.it.stop();
    expect(s.state('x')).toBe('running');
    await s.it.stop({ quick: true });
    expect((await stopped).services['x']?.steps.at(-1)).toMatchObject({ signal: 'SIGKILL' });
  });
});

/** Those that are not reaped among them. */
function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ').map(Number);
}
