/** `forkbeard supervise` and `ctl` as commands: three services and everything that a person does to them. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { SupervisorStatus } from 'forkbeard/supervisor';
import { describe, expect, it } from 'vitest';
import { folder, forkbeard, main, Serving, slow } from './serving.ts';

const PATIENCE = 15_000 * slow;

let files = 0;
function configuration(services: object, more: object = {}): string {
  const path = join(folder, `services-${files++}.json`);
  writeFileSync(path, JSON.stringify({ ...more, services }));
  return path;
}

const sleeper = { command: ['sleep', '1000'] };
const talker = { command: ['sh', '-c', 'echo up; echo wrong >&2; sleep 1000'] };
/** Says that its trap is set, and does not end for being asked. */
const stubborn = { command: ['sh', '-c', 'trap "" TERM; echo ignoring; while :; do sleep 1; done'] };
const three = () => configuration({ db: sleeper, web: { ...talker, dependsOn: ['db'] }, mail: sleeper });

function supervise(file: string, ...args: string[]): Serving {
  return new Serving([file, ...args], { command: 'supervise' });
}

const ctl = (...args: string[]) => forkbeard(['ctl', ...args]);
const status = async () => JSON.parse((await ctl('status', '--json')).stdout) as SupervisorStatus;

function isThere(pid: number): boolean {
  try {
    // A zombie is nobody.
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

async function pids(): Promise<number[]> {
  const { services } = await status();
  return Object.values(services).map(({ pid }) => pid as number);
}

/** All are ready. */
const up = (supervisor: Serving, count: number) => supervisor.event('ready', count);

describe('what is wrong is one line and exit code 2', () => {
  it.each([
    [['supervise'], /missing required argument 'file'/],
    [['supervise', 'none.json'], /^forkbeard: there is no file .*none\.json$/],
    [['supervise', 'x.toml'], /^forkbeard: .*x\.toml: must be \.json, \.yaml, \.yml, \.ts or \.mjs$/],
    [
      ['supervise', 'wrong.json'],
      /^forkbeard: .*wrong\.json:2: services\.web: Unknown option "comand"; did you mean "command"\?$/,
    ],
    [
      ['supervise', 'wrong.yaml'],
      /^forkbeard: .*wrong\.yaml:3: services\.web\.dependsOn\[0\] must be a service/,
    ],
    [['supervise', 'good.json', '--metrics', 'fd://3'], /^forkbeard: --metrics must begin with tcp/],
    [
      ['supervise', 'good.json', '--log-format', 'xml'],
      /^forkbeard: --log-format must be one of pretty, json$/,
    ],
    [
      ['supervise', 'good.json', '--control', `/${'x'.repeat(200)}`],
      /^forkbeard: --control must have a path of at most/,
    ],
    [['supervise', 'good.json', '--contorl', 'x'], /Did you mean --control\?/],
    [
      ['supervise', 'good.json', '--state-dir', 'good.json'],
      /^forkbeard: The state directory .* is no directory$/,
    ],
    [
      ['supervise', 'good.json', '--state-dir', 'd'.repeat(100)],
      /^forkbeard: .*\/d{100}\/web\.sock is longer than the 103 bytes of a socket's address$/,
    ],
    [['ctl', 'signal', 'web', 'TRM'], /^forkbeard: Unknown signal 'TRM'; did you mean 'SIGTERM'\?$/],
    [['ctl', 'start'], /missing required argument 'service'/],
    [['ctl', 'start', ''], /^forkbeard: start needs the name of a service$/],
    [['ctl', 'foo'], /unknown command 'foo'\n+\(forkbeard ctl --help shows what there is\)$/],
    [['ctl', 'signal', 'web', 'FOO'], /^forkbeard: Unknown signal 'FOO'$/],
  ])('%j', async (args, words) => {
    writeFileSync(join(folder, 'x.toml'), '');
    writeFileSync(join(folder, 'good.json'), '{ "services": { "web": { "command": ["true"] } } }');
    writeFileSync(
      join(folder, 'wrong.json'),
      '{ "services": {\n  "web": { "comand": ["true"], "command": ["true"] } } }',
    );
    writeFileSync(join(folder, 'wrong.yaml'), 'services:\n  web:\n    dependsOn: [db]\n    command: [x]\n');
    const { code, stdout, stderr } = await forkbeard(args);
    expect(stderr.trimEnd()).toMatch(words);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  it('--check says what would be done, and starts nothing', async () => {
    const { code, stdout } = await forkbeard(['supervise', three(), '--check']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^web +permanent +coupled +– +– +db +sh -c/m);
    const file = configuration({ web: { command: ['true'], env: { KEY: 'secret' } } });
    const json = await forkbeard(['supervise', file, '--check', '--log-format', 'json']);
    expect(JSON.parse(json.stdout)).toMatchObject({ tree: { members: [{ name: 'web' }] } });
    expect(json.stdout).not.toContain('secret');
  });
});

describe('forkbeard supervise', { timeout: 60_000 * slow }, () => {
  it('runs its services, is steered by ctl, and leaves nothing when it is told to end', async () => {
    const supervisor = supervise(three());
    await up(supervisor, 3);
    const [socket = ''] = readdirSync(join(folder, 'forkbeard')).filter((name) => name.endsWith('.ctl'));
    expect(socket).toBe(`${supervisor.child.pid}.ctl`);
    expect(statSync(join(folder, 'forkbeard', socket)).mode & 0o777).toBe(0o600);
    expect(await status()).toMatchObject({
      version: 1,
      pid: supervisor.child.pid,
      services: { db: { state: 'running', ready: true }, web: { dependsOn: ['db'] } },
    });
    const table = (await ctl('status')).stdout;
    expect(table).toMatch(/^forkbeard supervise · running · 3 of 3 ready · pid \d+/);
    expect(table).toMatch(/^web +running +\d+ .* 0$/m);
    expect(table).not.toContain('\u001b');
    expect((await ctl('tree')).stdout).toMatch(/^├─ web running \d+ after db {2}sh -c/m);

    const before = (await status()).services['web']?.pid;
    expect(await ctl('stop', 'web')).toMatchObject({
      code: 0,
      stdout: 'web is stopped, by SIGTERM (SIGTERM)\n',
    });
    expect((await status()).services['web']).toMatchObject({ state: 'down', pid: null });
    expect(await ctl('start', 'web', 'db')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^web is running \(pid \d+\)\ndb is running \(pid \d+\)\n$/),
    });
    const between = (await status()).services['web']?.pid;
    expect(between).not.toBe(before);
    expect((await ctl('restart', 'web')).code).toBe(0);
    expect((await status()).services['web']?.pid).not.toBe(between);
    expect(await ctl('signal', 'mail', 'kill')).toMatchObject({ stdout: 'mail was sent SIGKILL\n' });
    // Nobody asked for that end: it is started again.
    await supervisor.event('backoff');
    await up(supervisor, 6);
    expect((await status()).services['mail']).toMatchObject({ state: 'running', restarts: 1 });

    expect(await ctl('start', 'wbe')).toMatchObject({
      code: 1,
      stderr: 'forkbeard: There is no service wbe; did you mean web?\n',
    });
    expect(await ctl('drain')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /^forkbeard: drain is for a server, and at .* there is a supervisor: it knows status, /,
      ),
    });
    expect(await ctl('stop')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('shutdown stops them all'),
    });

    const all = await pids();
    expect(await supervisor.stop()).toBe(0);
    for (const pid of all) expect(isThere(pid)).toBe(false);
    expect(readdirSync(join(folder, 'forkbeard')).filter((name) => !name.endsWith('.lock'))).toEqual([]);
    expect(supervisor.lines.at(-1)).toMatchObject({ event: 'shutdown', code: 0 });
    expect(supervisor.other + supervisor.stderr).toBe('');
    // What is no event for people is a sentence all the same.
    for (const { event, msg } of supervisor.lines) expect(msg).not.toBe(event);
    const said = supervisor.lines.map(({ msg }) => msg);
    expect(said).toContain('web is starting, and was gated');
    expect(said).toContain('nothing was left over at the start');
    expect(said).toContain('the supervisor is stopping, and was running');
    // Who depends on it goes first.
    const stopped = supervisor.lines.filter(({ event }) => event === 'stopped').map(({ service }) => service);
    expect(stopped.lastIndexOf('web')).toBeLessThan(stopped.lastIndexOf('db'));
  });

  it('has what its services say: in its log, and for who asks later or listens on', async () => {
    const supervisor = supervise(configuration({ web: talker }));
    await supervisor.event('output', 2);
    expect(supervisor.lines.filter(({ event }) => event === 'output')).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ level: 'info', service: 'web', stream: 'stdout', msg: 'up' }),
        expect.objectContaining({ service: 'web', stream: 'stderr', msg: 'wrong' }),
      ]),
    );
    expect((await ctl('logs', 'web')).stdout).toMatch(/^\d\d:\d\d:\d\d up$/m);
    expect((await ctl('logs')).stdout).toMatch(/^\d\d:\d\d:\d\d \[web\] wrong$/m);
    const [line = ''] = (await ctl('logs', 'web', '--json')).stdout.split('\n');
    expect(JSON.parse(line)).toMatchObject({ service: 'web', at: expect.any(Number) });
    expect(await ctl('logs', 'nobody')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('There is no service nobody'),
    });

    const follower = spawn(process.execPath, [main, 'ctl', 'logs', 'web', '-f'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, XDG_RUNTIME_DIR: folder },
    });
    const ended = once(follower, 'close');
    let heard = 0;
    const twice = new Promise<void>((resolve) => {
      createInterface(follower.stdout).on('line', (text) => {
        if (text.endsWith(' up') && ++heard === 1) void ctl('restart', 'web');
        if (heard === 2) resolve();
      });
    });
    await twice;
    expect(await ctl('shutdown')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1 service stopped in /),
    });
    // The feed ends with the supervisor.
    expect((await ended)[0]).toBe(0);
    expect(await supervisor.exited).toBe(0);
  });

  it.each(['SIGTERM', 'SIGHUP'] as const)('a %s before it is up is not lost', async (signal) => {
    const file = join(folder, `services-${files++}.mjs`);
    // Comes when the file has been read, and its control socket is about to be there.
    const told = `globalThis.told ??= setTimeout(() => process.kill(process.pid, ${JSON.stringify(signal)}), 0)`;
    writeFileSync(file, `${told};\nexport default { services: { web: { command: ['sleep', '1000'] } } };\n`);
    // Which takes longest to open.
    const supervisor = supervise(file, '--opentelemetry');
    if (signal === 'SIGHUP') {
      await supervisor.event('reconfigured');
      await up(supervisor, 1);
      expect(await supervisor.stop()).toBe(0);
    }
    expect(await supervisor.exited).toBe(0);
    expect(supervisor.lines.at(-1)).toMatchObject({ event: 'shutdown', code: 0 });
    expect(existsSync(join(folder, 'forkbeard', `${supervisor.child.pid}.ctl`))).toBe(false);
  });

  it('lets go of independent services where it shall, and the next one has them', async () => {
    const file = configuration({ kept: { ...sleeper, mode: 'independent', lease: '1h' }, gone: sleeper });
    const state = join(folder, 'left');
    const first = supervise(file, '--leave-independent', '--state-dir', state);
    await up(first, 2);
    const { services } = await status();
    expect(await first.stop()).toBe(0);
    expect(first.lines.at(-1)).toMatchObject({ event: 'shutdown', left: ['kept'] });
    expect(isThere(services['gone']?.pid as number)).toBe(false);
    expect(isThere(services['kept']?.pid as number)).toBe(true);
    const second = supervise(file, '--state-dir', state);
    expect(await second.event('adopted')).toMatchObject({ service: 'kept', pid: services['kept']?.pid });
    await up(second, 2);
    expect(await second.stop()).toBe(0);
    expect(isThere(services['kept']?.pid as number)).toBe(false);
  });

  it('gives its spans to who has registered with OpenTelemetry, where it is asked to', async () => {
    const file = join(folder, `services-${files++}.mjs`);
    const spans = `${file}.spans`;
    writeFileSync(
      file,
      `import { appendFileSync } from 'node:fs';
import { trace } from ${JSON.stringify(import.meta.resolve('@opentelemetry/api'))};
const span = { setStatus: () => span, setAttributes: () => span, setAttribute: () => span, addEvent: () => span, end() {} };
const startSpan = (name) => (appendFileSync(${JSON.stringify(spans)}, name + '\\n'), span);
trace.setGlobalTracerProvider({ getTracer: () => ({ startSpan }) });
export default { services: { web: { command: ['sleep', '1000'] } } };
`,
    );
    for (const flags of [[], ['--opentelemetry']]) {
      const supervisor = supervise(file, ...flags);
      await up(supervisor, 1);
      const [pid = 0] = await pids();
      process.kill(pid, 'SIGKILL');
      await up(supervisor, 2);
      expect(await supervisor.stop()).toBe(0);
      expect(existsSync(spans)).toBe(flags.length > 0);
    }
    expect(readFileSync(spans, 'utf8')).toContain('\n');
  });

  it('when it is killed, nothing of its services is left', async () => {
    const supervisor = supervise(configuration({ a: sleeper, b: sleeper, c: stubborn }));
    await up(supervisor, 3);
    await supervisor.event('output');
    const all = await pids();
    await supervisor.kill();
    await expect.poll(() => all.filter(isThere), { timeout: PATIENCE }).toEqual([]);
  });

  it('does not wait any longer when it is interrupted twice', async () => {
    const supervisor = supervise(
      configuration({ stubborn: { ...stubborn, stop: [{ signal: 'TERM', wait: '1h' }] } }),
    );
    await supervisor.event('output');
    const [pid = 0] = await pids();
    supervisor.child.kill('SIGINT');
    await supervisor.event('stopping');
    expect(isThere(pid)).toBe(true);
    supervisor.child.kill('SIGINT');
    expect(await supervisor.exited).toBe(0);
    expect(isThere(pid)).toBe(false);
    expect(supervisor.lines.filter(({ event }) => event === 'stopping')).toMatchObject([
      { quick: false },
      { quick: true },
    ]);
  });

  it('a service that cannot be executed fails alone, and says at which step; a job that ends well has not failed', async () => {
    const file = configuration({
      web: sleeper,
      broken: { command: ['/nowhere/program'] },
      job: { command: ['true'], restart: 'temporary' },
    });
    const supervisor = supervise(file);
    expect(await supervisor.event('failed')).toMatchObject({
      level: 'error',
      service: 'broken',
      cause: 'refused',
      error: { code: 'ENOENT', step: 'exec' },
    });
    await expect
      .poll(async () => (await status()).services, { timeout: PATIENCE })
      .toMatchObject({
        web: { state: 'running' },
        broken: { state: 'failed' },
        job: { state: 'done', problem: 'it ended with code 0' },
      });
    expect((await ctl('start', 'broken')).code).toBe(1);
    // Whether it was seen running before it ended is a matter of luck.
    expect(await ctl('restart', 'job')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^job is (done: it ended with code 0|running \(pid \d+\))\n$/),
    });
    expect(await supervisor.stop()).toBe(0);
  });

  it('writes its log to a file, to a new one when it is told with USR1, and goes on after HUP', async () => {
    const log = join(folder, 'supervisor.log');
    const supervisor = supervise(configuration({ web: sleeper }), '--log-file', log);
    const events = (file: string) =>
      existsSync(file)
        ? readFileSync(file, 'utf8')
            .trimEnd()
            .split('\n')
            .map((line) => JSON.parse(line).event)
        : [];
    await expect.poll(() => events(log), { timeout: PATIENCE }).toContain('ready');
    renameSync(log, `${log}.1`);
    supervisor.child.kill('SIGUSR1');
    await expect.poll(() => events(log), { timeout: PATIENCE }).toContain('logs-reopened');
    supervisor.child.kill('SIGHUP');
    await expect.poll(() => events(log), { timeout: PATIENCE }).toContain('reconfigured');
    expect(await supervisor.stop()).toBe(0);
    expect(events(log).at(-1)).toBe('shutdown');
    expect(events(`${log}.1`)).not.toContain('shutdown');
  });

  it('reads its file anew, after HUP and for ctl; what is wrong in it is told, and changes nothing', async () => {
    const file = configuration({ stays: sleeper, goes: sleeper });
    const supervisor = supervise(file);
    await up(supervisor, 2);
    const { stays, goes } = (await status()).services;
    writeFileSync(file, '{\n"services": {\n"stays": { "comand": "sleep" } } }');
    const wrong = /services-\d+\.json:3: services\.stays: Unknown option "comand"; did you mean "command"\?/;
    expect(await ctl('reload')).toMatchObject({ code: 1, stderr: expect.stringMatching(wrong) });
    supervisor.child.kill('SIGHUP');
    expect(await supervisor.event('reload-failed')).toMatchObject({ msg: expect.stringMatching(wrong) });
    expect((await status()).services).toMatchObject({
      stays: { pid: stays?.pid },
      goes: { pid: goes?.pid },
    });

    writeFileSync(file, JSON.stringify({ services: { stays: sleeper, comes: sleeper } }));
    supervisor.child.kill('SIGHUP');
    expect(await supervisor.event('reconfigured')).toMatchObject({
      msg: 'configuration read anew; added: comes; removed: goes; untouched: 1',
    });
    await up(supervisor, 3);
    expect((await status()).services['stays']?.pid).toBe(stays?.pid);
    expect(isThere(goes?.pid as number)).toBe(false);

    writeFileSync(file, JSON.stringify({ services: { stays: sleeper, comes: talker } }));
    expect(await ctl('reload')).toMatchObject({
      code: 0,
      stdout: 'reloaded; changed: comes; untouched: 1\n',
    });
    expect((await status()).services).toMatchObject({
      stays: { pid: stays?.pid, state: 'running' },
      comes: { command: talker.command, state: 'running' },
    });
    expect(await supervisor.stop()).toBe(0);
  });

  it('counts, and says that it is alive and ready, over HTTP', async () => {
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as { port: number };
    probe.close();
    await once(probe, 'close');
    const file = configuration({
      web: sleeper,
      once: { command: ['sh', '-c', 'exit 7'], restart: 'temporary', ready: { exec: 'false' } },
    });
    const supervisor = supervise(file, '--metrics', `tcp://127.0.0.1:${port}`);
    await up(supervisor, 1);
    await supervisor.event('exit');
    const at = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
    await expect.poll(async () => (await at('/readyz')).status, { timeout: PATIENCE }).toBe(200);
    expect((await at('/livez')).status).toBe(200);
    await ctl('signal', 'web', 'KILL');
    await supervisor.event('ready', 2);
    const text = await (await at('/metrics')).text();
    expect(text).toMatch(/^forkbeard_service_starts_total\{service="web"\} 2$/m);
    expect(text).toMatch(/^forkbeard_service_restarts_total\{service="web",cause="exit"\} 1$/m);
    expect(text).toMatch(/^forkbeard_service_exits_total\{service="web",how="SIGKILL",asked="false"\} 1$/m);
    expect(text).toMatch(/^forkbeard_service_exits_total\{service="once",how="7",asked="false"\} 1$/m);
    expect(text).toMatch(/^forkbeard_service_state\{service="web",state="running"\} 1$/m);
    expect(text).toMatch(/^forkbeard_service_orphans_total\{service="web"\} 0$/m);
    expect(text).toMatch(/^forkbeard_service_ready\{service="once"\} 0$/m);
    // Somebody else cannot have the address: nothing is started then.
    const other = supervise(file, '--metrics', `tcp://127.0.0.1:${port}`);
    expect(await other.exited).toBe(42);
    expect(other.lines).toEqual([]);
    expect(await supervisor.stop()).toBe(0);
  });

  it('ends when nobody could ask it how it is', async () => {
    const squatter = createServer().listen(0, '127.0.0.1');
    await once(squatter, 'listening');
    const { port } = squatter.address() as { port: number };
    const file = configuration(
      { web: { ...sleeper, mode: 'distributed' } },
      { distributed: { probes: `tcp://127.0.0.1:${port}` } },
    );
    const supervisor = supervise(file);
    expect(await supervisor.exited).toBe(42);
    expect(await supervisor.event('start-failed')).toMatchObject({ level: 'error', code: 'EADDRINUSE' });
    expect(supervisor.lines.some(({ event }) => event === 'started')).toBe(false);
    squatter.close();
  });

  it.skipIf(spawnSync('script', ['--version']).error !== undefined)(
    'shows a live board on a terminal, and ends with Ctrl-C (needs script)',
    async () => {
      const command = [process.execPath, main, 'supervise', three()].join(' ');
      const terminal = spawn('script', ['-qec', `exec ${command}`, '/dev/null'], {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: { ...process.env, XDG_RUNTIME_DIR: folder, TERM: 'xterm' },
      });
      let shown = '';
      const exited = once(terminal, 'close');
      await new Promise<void>((resolve) => {
        terminal.stdout.setEncoding('utf8').on('data', (text) => {
          shown += text;
          if (/3 of 3 ready/.test(shown) && shown.includes('\u001b[J')) resolve();
        });
      });
      expect(shown).toMatch(/service +state +pid +age +restarts/);
      expect(shown).toContain('db started');
      terminal.stdin.write('\u0003');
      expect((await exited)[0]).toBe(0);
      expect(shown).toContain('3 services stopped in');
    },
  );
});
