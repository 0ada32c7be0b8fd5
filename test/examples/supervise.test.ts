/** examples/supervise: real servers under `forkbeard supervise`, and the library below somebody else's supervisor. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { main, slow } from '../cli/serving.ts';
import { alive, within } from '../supervisor/support.ts';

const example = (name: string) =>
  fileURLToPath(new URL(`../../examples/supervise/${name}.mjs`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'forkbeard-supervise-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const children = new Set<ChildProcess>();
afterEach(async () => {
  for (const child of children) {
    const ended = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : null;
    child.kill('SIGTERM');
    await ended;
  }
  children.clear();
});

interface Line {
  event: string;
  service?: string;
  pid?: number;
}

/** A program that says what happens in lines of JSON. */
class Told {
  readonly child: ChildProcess;
  readonly #lines: Line[] = [];
  #look = () => {};

  constructor(args: readonly string[], env: Record<string, string> = {}) {
    this.child = spawn(process.execPath, args, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    children.add(this.child);
    createInterface(this.child.stdout as NodeJS.ReadableStream).on('line', (line) => {
      this.#lines.push(JSON.parse(line));
      this.#look();
    });
  }

  /** The nth line of that event and service. */
  async line(event: string, service: string, nth = 1): Promise<Line> {
    const find = () =>
      this.#lines.filter((line) => line.event === event && line.service === service)[nth - 1];
    return within(
      `${nth}. ${event} of ${service}`,
      new Promise<Line>((resolve) => {
        this.#look = () => {
          const found = find();
          if (found !== undefined) resolve(found);
        };
        this.#look();
      }),
    );
  }
}

/** One of three that lie side by side. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const servers = [port, port + 1, port + 2].map((each) => createServer().listen(each, '127.0.0.1'));
    const all = servers.map((server) =>
      Promise.race([once(server, 'listening').then(() => true), once(server, 'error').then(() => false)]),
    );
    const free = (await Promise.all(all)).every(Boolean);
    await Promise.all(
      servers.filter((server) => server.listening).map((server) => once(server.close(), 'close')),
    );
    if (free) return port;
  }
}

const has = (name: string, flag: string) => spawnSync(name, [flag]).error === undefined;
const missing = ['redis-server', 'nginx'].filter((name) => !has(name, '-v'));

describe('examples/supervise/servers.mjs', { timeout: 60_000 * slow }, () => {
  it.skipIf(missing.length > 0)(
    `keeps nginx, an application and Redis running${missing.length > 0 ? ` (not installed: ${missing.join(', ')})` : ''}`,
    async () => {
      const port = await freePort();
      const supervisor = new Told(
        [main, 'supervise', example('servers'), '--log-format', 'json', '--control', join(folder, 'ctl')],
        { PORT: String(port), EXAMPLE_FOLDER: join(folder, 'servers') },
      );
      const visit = async () => (await fetch(`http://127.0.0.1:${port}/`)).text();
      await supervisor.line('ready', 'nginx');
      expect(await visit()).toMatch(/^visitor 1, served by \d+\n$/);

      // Nobody is refused while the application is away: its socket is not its own.
      const first = await supervisor.line('started', 'application');
      process.kill(first.pid as number, 'SIGKILL');
      const [, count, pid] = /^visitor (\d), served by (\d+)\n$/.exec(await visit()) ?? [];
      expect(count).toBe('2');
      const second = await supervisor.line('started', 'application', 2);
      expect(Number(pid)).toBe(second.pid);

      // The leader of a group goes, its workers stay for a while and hold the port.
      const nginx = await supervisor.line('started', 'nginx');
      process.kill(nginx.pid as number, 'SIGKILL');
      await supervisor.line('ready', 'nginx', 2);
      expect(await visit()).toMatch(/^visitor 3/);

      const ended = once(supervisor.child, 'exit');
      supervisor.child.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
      for (const name of ['redis', 'application', 'nginx'])
        expect(existsSync(join(folder, 'servers', 'state', `${name}.pid`)), name).toBe(false);
    },
  );
});

describe('examples/supervise/process-layer.mjs', { timeout: 60_000 * slow }, () => {
  const foreman = (state: string, script: string) =>
    new Told([
      '--input-type=module',
      '-e',
      `import { ForkbeardLayer, Foreman } from ${JSON.stringify(example('process-layer'))};
       const tell = (event, more) => console.log(JSON.stringify({ event, service: 'job', ...more }));
       const layer = new ForkbeardLayer(${JSON.stringify(join(folder, state))});
       const foreman = new Foreman(layer);
       const heard = layer.onExit;
       layer.onExit = (name, code, signal) => { tell('exit', { code, signal }); heard(name, code, signal); };
       foreman.onGivenUp = () => tell('given-up');
       ${script}`,
    ]);

  it('tells each end once, and the foreman decides what follows', async () => {
    const told = foreman(
      'decides',
      `tell('started', { pid: await foreman.run('job', ['sh', '-c', 'exit 3']) });`,
    );
    expect(await told.line('exit', 'job', 4)).toMatchObject({ code: 3, signal: null });
    await told.line('given-up', 'job');
  });

  it('does not start a second instance, and ends with a stop all that there is', async () => {
    const long = `await foreman.run('job', ['sh', '-c', 'sleep 1000 & sleep 1000'])`;
    const one = foreman(
      'once',
      `tell('started', { pid: ${long} });
       process.on('SIGTERM', async () => { await foreman.dismiss('job'); tell('dismissed'); process.exit(); });`,
    );
    const { pid } = await one.line('started', 'job');
    const other = foreman(
      'once',
      `await foreman.run('job', ['sh', '-c', 'sleep 1000 & sleep 1000']).catch(({ message }) => tell('refused', { message }));`,
    );
    expect(await other.line('refused', 'job')).toMatchObject({
      message: `job runs already, as process ${pid} of another supervisor`,
    });
    const group = spawnSync('pgrep', ['-g', String(pid)], { encoding: 'utf8' })
      .stdout.trim()
      .split('\n')
      .map(Number);
    expect(group).toHaveLength(3);
    one.child.kill('SIGTERM');
    await one.line('dismissed', 'job');
    expect(group.filter(alive)).toEqual([]);
  });

  it('leaves nothing when who uses it is killed', async () => {
    const told = foreman(
      'killed',
      `tell('started', { pid: await foreman.run('job', ['sh', '-c', 'setsid sleep 1000 & exec sleep 1000']) });`,
    );
    const { pid } = await told.line('started', 'job');
    const record = JSON.parse(readFileSync(join(folder, 'killed', 'job.pid'), 'utf8'));
    const lookAfter = spawn('tail', [`--pid=${record.shim.pid}`, '-f', '/dev/null']);
    const gone = once(lookAfter, 'exit');
    told.child.kill('SIGKILL');
    await within('the end of the shim', gone);
    expect(alive(pid as number)).toBe(false);
    expect(existsSync(join(folder, 'killed', 'job.pid'))).toBe(false);
  });
});
