/** `forkbeard ctl` against a server that runs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PreforkStatus } from 'forkbeard/prefork';
import { describe, expect, it } from 'vitest';
import { folder, forkbeard, serve, slow } from './serving.ts';

const app = join(folder, 'app.mjs');
writeFileSync(app, 'export default (req, res) => res.end("hello from " + process.pid);');

const status = async (...args: string[]) =>
  JSON.parse((await forkbeard(['ctl', 'status', '--json', ...args])).stdout) as PreforkStatus;

/** The status of /readyz; 0 while nobody answers. */
const readiness = (socketPath: string) =>
  new Promise<number>((resolve) => {
    get({ socketPath, path: '/readyz' }, (response) => resolve(response.resume().statusCode ?? 0)).on(
      'error',
      () => resolve(0),
    );
  });

describe('forkbeard ctl', { timeout: 60_000 * slow }, () => {
  it('finds the server that runs, and tells what it is told', async () => {
    const server = serve(app);
    await server.url();
    const [socket] = readdirSync(join(folder, 'forkbeard'));
    expect(socket).toBe(`${server.child.pid}.ctl`);
    expect(statSync(join(folder, 'forkbeard', socket as string)).mode & 0o777).toBe(0o600);
    expect(await status()).toMatchObject({
      version: 1,
      pid: server.child.pid,
      state: 'ready',
      ready: 2,
      target: 2,
    });
    const table = await forkbeard(['ctl', 'status']);
    expect(table.stdout).toMatch(/^worker +pid +gen +state/m);
    expect(table.stdout).toMatch(/^ +1 +\d+ +1 +ready /m);
    expect(table.stdout).not.toContain('\u001b');
    expect(await server.stop()).toBe(0);
    expect(readdirSync(join(folder, 'forkbeard'))).toEqual([]);
  });

  it('scales, kills, reloads, drains, stops', async () => {
    const server = serve(app);
    const url = await server.url();
    expect(await forkbeard(['ctl', 'workers', '+1'])).toMatchObject({
      code: 0,
      stdout: '3 workers instead of 2\n',
    });
    expect(await forkbeard(['ctl', 'workers', '-1'])).toMatchObject({
      code: 0,
      stdout: '2 workers instead of 3\n',
    });
    expect(await forkbeard(['ctl', 'workers', '3', '--json'])).toMatchObject({
      stdout: '{"version":1,"from":2,"to":3}\n',
    });
    const before = (await status()).workers.find(({ id }) => id === 2)?.pid;
    expect((await forkbeard(['ctl', 'kill', '2'])).code).toBe(0);
    expect(await server.event('worker-exit', 2)).toMatchObject({ worker: 2, pid: before, cause: 'operator' });
    expect(await forkbeard(['ctl', 'kill', '9'])).toMatchObject({
      code: 1,
      stderr: 'forkbeard: There is no worker 9\n',
    });
    expect(await forkbeard(['ctl', 'reload'])).toMatchObject({ code: 0, stdout: 'reloaded\n' });
    expect(await status()).toMatchObject({ generation: 2, ready: 3, exits: { operator: 1 } });
    expect((await forkbeard(['ctl', 'drain'])).code).toBe(0);
    expect(await status()).toMatchObject({ state: 'draining', ready: 0 });
    expect((await forkbeard(['ctl', 'workers', '1'])).code).toBe(0);
    expect((await fetch(url)).status).toBe(200);
    expect(await forkbeard(['ctl', 'stop'])).toMatchObject({ code: 0, stdout: 'stopped with exit code 0\n' });
    expect(await server.exited).toBe(0);
  });

  it('tells why an application that does not load any more was not loaded; the old workers serve on', async () => {
    const path = join(folder, 'changing.mjs');
    writeFileSync(path, 'export default (req, res) => res.end("old")');
    const server = serve(path);
    const url = await server.url();
    writeFileSync(path, 'export default (req, res) => res.end("ne');
    const { code, stderr } = await forkbeard(['ctl', 'reload']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^forkbeard: .*(Invalid|Unexpected|Unterminated)/);
    expect(await (await fetch(url)).text()).toBe('old');
    expect(await server.stop()).toBe(0);
  });

  it.each([
    ['named', ['--control', join(folder, 'upgrade.ctl')]],
    ['usual', []],
  ])('hands over to a new monitor, which has the %s socket, the metrics and the address', async (_, at) => {
    const metrics = join(folder, 'metrics.sock');
    const server = serve(app, [...at, '--metrics', `unix://${metrics}`]);
    const url = await server.url();
    const upgraded = await forkbeard(['ctl', ...at, 'upgrade']);
    expect(upgraded).toMatchObject({ code: 0, stdout: 'upgraded: a new monitor serves\n' });
    expect(await server.ended).toBe(0);
    const after = await status(...at);
    expect(after).toMatchObject({ state: 'ready', ready: 2 });
    expect(after.pid).not.toBe(server.child.pid);
    expect((await fetch(url)).status).toBe(200);
    await expect.poll(() => readiness(metrics), { timeout: 15_000 * slow }).toBe(200);
    expect((await forkbeard(['ctl', 'stop', ...at])).code).toBe(0);
    await server.closed;
    expect(readdirSync(folder, { recursive: true }).filter((name) => String(name).endsWith('.ctl'))).toEqual(
      [],
    );
  });

  it('stays with the old monitor when a stranger has the metrics of the new one', async () => {
    const stranger = createServer().listen(0, '127.0.0.1');
    await once(stranger, 'listening');
    const { port } = stranger.address() as AddressInfo;
    const config = join(folder, 'metrics.json');
    const metrics = join(folder, 'stays.sock');
    writeFileSync(config, JSON.stringify({ metrics: `unix://${metrics}` }));
    const server = serve(app, ['--config', config]);
    await server.url();
    writeFileSync(config, JSON.stringify({ metrics: `tcp://127.0.0.1:${port}` }));
    const { code, stderr } = await forkbeard(['ctl', 'upgrade']);
    expect(code).toBe(1);
    expect(stderr).toContain('exit code 42');
    expect(server.stderr).toContain(`tcp://127.0.0.1:${port} (metrics)`);
    expect(await status()).toMatchObject({ pid: server.child.pid, state: 'ready' });
    expect(await readiness(metrics)).toBe(200);
    expect(await server.stop()).toBe(0);
    stranger.close();
  });

  it('stays with the old monitor when the new one cannot have the control socket', async () => {
    const [path, control, gate] = ['gated.mjs', 'gated.ctl', 'gate'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(
      path,
      `import { existsSync } from 'node:fs';
       while (existsSync(${JSON.stringify(gate)})) await new Promise((resolve) => setTimeout(resolve, 10));
       export default (req, res) => res.end('hello');`,
    );
    const server = serve(path, ['--control', control]);
    const url = await server.url();
    writeFileSync(gate, '');
    server.child.kill('SIGUSR2');
    // The new one has asked who has the socket, and loads.
    await server.event('listening', 2);
    rmSync(control);
    mkdirSync(control);
    rmSync(gate);
    expect(await server.event('upgrade-failed')).toMatchObject({ level: 'error' });
    expect(server.lines.filter(({ event }) => event === 'upgrade-done')).toEqual([]);
    expect((await fetch(url)).status).toBe(200);
    expect(await server.stop()).toBe(0);
    rmSync(control, { recursive: true });
  });

  it('asks which one when there are two', async () => {
    const servers = [serve(app), serve(app)];
    for (const server of servers) await server.url();
    const { code, stderr } = await forkbeard(['ctl', 'status']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^forkbeard: 2 are running; --control says which: .*\(server\), .*\(server\)$/m);
    for (const server of servers) expect(await server.stop()).toBe(0);
  });

  it('trusts no folder that others may write to, and neither does a server', async () => {
    const home = mkdtempSync(join(tmpdir(), 'forkbeard-ctl-'));
    mkdirSync(join(home, 'forkbeard'));
    chmodSync(join(home, 'forkbeard'), 0o777);
    const env = { XDG_RUNTIME_DIR: home };
    expect(await forkbeard(['ctl', 'status'], { env })).toMatchObject({ code: 3 });
    const server = serve(app, [], { env });
    expect(await server.exited).toBe(42);
    expect(server.stderr).toMatch(/^forkbeard: The control socket cannot be at .*not this user’s alone/);
    rmSync(home, { recursive: true });
  });

  it('says that there is none with exit code 3, and clears away what a killed one has left', async () => {
    const home = mkdtempSync(join(tmpdir(), 'forkbeard-ctl-'));
    const env = { XDG_RUNTIME_DIR: home };
    mkdirSync(join(home, 'forkbeard'), { mode: 0o700 });
    const left = join(home, 'forkbeard', '99999999.ctl');
    const script = `require('net').createServer().listen(${JSON.stringify(left)}, () => console.log('up'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    writeFileSync(join(home, 'forkbeard', 'precious.ctl'), 'no socket');
    const { code, stderr } = await forkbeard(['ctl', 'status'], { env });
    expect(code).toBe(3);
    expect(stderr).toMatch(/^forkbeard: No server or supervisor of this user's is running/);
    expect(readdirSync(join(home, 'forkbeard'))).toEqual(['precious.ctl']);
    const named = await forkbeard(['ctl', 'status', '--control', join(home, 'none')]);
    expect(named).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^forkbeard: Nobody answers at/),
    });
    rmSync(home, { recursive: true });
  });
});
