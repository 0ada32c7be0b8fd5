/** The control socket: who may open it, what it takes, and whose it is. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { ask } from '../../dist/daemon/socket-file.js';
import { ControlSocket } from '../../dist/prefork/control.js';
import { FakeServer } from './fake-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-control-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const open: ControlSocket[] = [];
afterEach(async () => {
  for (const control of open.splice(0)) await control.close();
});

async function serve(
  path = join(folder, `${count++}.sock`),
): Promise<{ path: string; server: FakeServer; control: ControlSocket }> {
  const control = await ControlSocket.open(path);
  open.push(control);
  const server = new FakeServer();
  control.attach(server);
  return { path, server, control };
}

const refusal = (path: string) =>
  ControlSocket.open(path).then(
    () => expect.unreachable(),
    (error: Error & { exitCode: number }) => error,
  );

describe('what is asked for', () => {
  it.each([
    ['reload', {}, 'reload', {}],
    ['drain', {}, 'drain', {}],
    ['upgrade', {}, 'upgrade', {}],
    ['reopen-logs', {}, 'reopenLogs', {}],
    ['scale', { to: 5 }, 'scale 5', { from: 2, to: 5 }],
    ['scale', { by: 1 }, 'scale 3', { from: 2, to: 3 }],
    ['scale', { by: -5 }, 'scale 1', { from: 2, to: 1 }],
    ['stop', {}, 'stop false', { code: 0 }],
    ['stop', { quick: true }, 'stop true', { code: 0 }],
    ['kill', { worker: 2 }, 'kill 2', {}],
  ])('%s %j', async (action, body, call, result) => {
    const { path, server } = await serve();
    expect(await ask(path, 'POST', action, body)).toEqual({
      program: 'server',
      status: 200,
      body: { version: 1, ...result },
    });
    expect(server.calls).toEqual([call]);
  });

  it('status is the server’s own', async () => {
    const { path, server } = await serve();
    expect(await ask(path, 'GET', 'status')).toEqual({
      program: 'server',
      status: 200,
      body: server.current,
    });
  });

  it.each([
    ['GET', 'reload', undefined, 405],
    ['POST', 'status', undefined, 405],
    ['POST', 'halt', undefined, 404],
    ['POST', 'toString', undefined, 404],
    ['POST', 'scale', {}, 400],
    ['POST', 'scale', { to: -1 }, 400],
    ['POST', 'scale', { to: 1e9 }, 400],
    ['POST', 'kill', { worker: 9 }, 404],
    ['POST', 'reload', { now: true }, 400],
  ] as const)('%s %s %j is refused', async (method, action, body, status) => {
    const { path, server } = await serve();
    const answer = await ask(path, method, action, body);
    expect(answer).toMatchObject({ status, body: { version: 1, error: { message: expect.any(String) } } });
    expect(server.calls).toEqual([]);
  });

  it('what the server cannot do is answered with its reason', async () => {
    const { path, server } = await serve();
    server.failure = Object.assign(new Error('no database'), { code: 'ECONNREFUSED' });
    expect(await ask(path, 'POST', 'reload')).toEqual({
      program: 'server',
      status: 409,
      body: { version: 1, error: { message: 'no database', code: 'ECONNREFUSED' } },
    });
  });

  it('another version, no JSON, a body without end: refused, and the socket goes on', async () => {
    const { path } = await serve();
    const raw = (text: string) =>
      new Promise<string>((resolve) => {
        let answer = '';
        const socket = connect(path, () => socket.end(text));
        socket.on('data', (chunk) => (answer += String(chunk)));
        socket.on('error', () => {});
        socket.on('close', () => resolve(answer));
      });
    expect(await raw('GET /v2/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')).toMatch(
      /404[\s\S]*version 1/,
    );
    expect(
      await raw('POST /v1/scale HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nconnection: close\r\n\r\n{'),
    ).toMatch(/^HTTP\/1.1 400/);
    expect(
      await raw(
        'POST /v1/scale HTTP/1.1\r\nhost: x\r\ncontent-length: 999999\r\nconnection: close\r\n\r\n{}',
      ),
    ).toMatch(/^HTTP\/1.1 413/);
    await raw('rubbish\r\n\r\n');
    expect((await ask(path, 'GET', 'status')).status).toBe(200);
  });

  it('is told that the server is starting until there is one', async () => {
    const path = join(folder, `${count++}.sock`);
    open.push(await ControlSocket.open(path));
    expect(await ask(path, 'GET', 'status')).toMatchObject({ status: 503 });
  });

  it('the reply to the last request goes out before the socket is gone', async () => {
    const { path, server, control } = await serve();
    server.stop = async () => {
      await Promise.resolve();
      queueMicrotask(() => void control.close());
      return 0;
    };
    expect(await ask(path, 'POST', 'stop')).toMatchObject({ status: 200, body: { code: 0 } });
    expect(existsSync(path)).toBe(false);
  });
});

describe('the file', () => {
  it('is for its owner alone, in a folder that is made for it', async () => {
    const { path } = await serve(join(folder, 'made', 'here', 'x.sock'));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700);
    expect(lstatSync(path).isSocket()).toBe(true);
  });

  it('is not taken from a server that runs: exit code 42', async () => {
    const { path, server } = await serve();
    const error = await refusal(path);
    expect(error.message).toContain(`pid ${server.pid}`);
    expect(error.exitCode).toBe(42);
    expect((await ask(path, 'GET', 'status')).status).toBe(200);
  });

  it('is not taken from another program, nor from what is no socket', async () => {
    const path = join(folder, `${count++}.sock`);
    const other = createServer((_, response) => response.end('{}')).listen(path);
    await once(other, 'listening');
    expect((await refusal(path)).message).toContain('another program');
    other.close();
    const file = join(folder, `${count++}.sock`);
    writeFileSync(file, 'precious');
    expect((await refusal(file)).message).toContain('no socket');
    const link = join(folder, `${count++}.sock`);
    symlinkSync(file, link);
    expect((await refusal(link)).message).toContain('no socket');
  });

  it('of a killed server is taken over', async () => {
    const path = join(folder, `${count++}.sock`);
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(existsSync(path)).toBe(true);
    await serve(path);
    expect((await ask(path, 'GET', 'status')).status).toBe(200);
  });

  it('is left alone at the end when somebody else has it by then', async () => {
    const { path, control } = await serve();
    const other = createServer((_, response) => response.end('{}')).listen(`${path}.other`);
    await once(other, 'listening');
    renameSync(`${path}.other`, path);
    await control.close();
    expect(existsSync(path)).toBe(true);
    other.close();
  });

  it('of the server that started this process stays with it until this one succeeds it', async () => {
    const path = join(folder, `${count++}.sock`);
    // What answers names our own parent.
    const before = createServer((_, response) =>
      response.end(JSON.stringify({ version: 1, pid: process.ppid })),
    ).listen(path);
    await once(before, 'listening');
    const control = await ControlSocket.open(path);
    open.push(control);
    expect(control.succeeds).toBe(true);
    const server = new FakeServer();
    control.attach(server);
    expect((await ask(path, 'GET', 'status')).body).toMatchObject({ pid: process.ppid });
    await control.succeed();
    expect((await ask(path, 'GET', 'status')).body).toMatchObject({ pid: server.pid });
    before.close();
  });

  it('comes back to a server whose successor took it and failed', async () => {
    const { path, server } = await serve();
    rmSync(path);
    server.emit('upgrade-failed', { message: 'it ended' });
    await expect
      .poll(() =>
        ask(path, 'GET', 'status').then(
          (answer) => answer.status,
          () => 0,
        ),
      )
      .toBe(200);
  });
});
