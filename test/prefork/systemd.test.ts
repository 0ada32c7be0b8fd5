import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { afterEach, describe, expect, test } from 'vitest';
import { activatedListeners } from '../../dist/daemon/systemd.js';
import { application, folder, get, HELLO, PATIENCE, serve } from './served.ts';

/** What systemd hears. */
class Notifications {
  readonly path = join(folder(), 'notify.sock');
  readonly messages: Record<string, string>[] = [];
  readonly #fd = sys.socket('unix', 'dgram');
  readonly #watcher;
  #check: () => void = () => {};

  constructor() {
    sys.bind(this.#fd, { path: this.path });
    const buffer = new Uint8Array(4096);
    this.#watcher = Loop.current().watchIo(this.#fd, {
      onReadReady: () => {
        for (let bytes = sys.recv(this.#fd, buffer); bytes > 0; bytes = sys.recv(this.#fd, buffer)) {
          const lines = Buffer.from(buffer.subarray(0, bytes)).toString().trim().split('\n');
          this.messages.push(Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2))));
          this.#check();
        }
      },
    });
  }

  hears(variable: string, value?: string): Promise<Record<string, string>> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`No ${variable} in ${JSON.stringify(this.messages)}`)),
        PATIENCE,
      );
      this.#check = () => {
        const found = this.messages.find(
          (message) =>
            message[variable] !== undefined && (value === undefined || message[variable] === value),
        );
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(found);
      };
      this.#check();
    });
  }

  close(): void {
    this.#watcher.stop();
    sys.close(this.#fd);
  }
}

let notifications: Notifications | undefined;
afterEach(() => {
  notifications?.close();
  notifications = undefined;
});

describe('systemd', () => {
  test('hears that the service is ready when its workers are, of reloads, of life, and of its end', async () => {
    notifications = new Notifications();
    const app = application(`await new Promise((resolve) => setTimeout(resolve, 500));${HELLO}`);
    const server = serve(app.url, {
      plan: { workers: 2 },
      env: { NOTIFY_SOCKET: notifications.path, WATCHDOG_USEC: '400000' },
    });
    await server.hears('listening');
    await notifications.hears('WATCHDOG', '1');
    // It lives, and is not ready: nothing is loaded yet.
    expect(notifications.messages.some((message) => 'READY' in message)).toBe(false);
    await server.hears('ready');
    expect((await notifications.hears('READY'))['STATUS']).toBe('2 of 2 workers, generation 1');
    server.kill('SIGHUP');
    expect(Number((await notifications.hears('RELOADING'))['MONOTONIC_USEC'])).toBeGreaterThan(0);
    await notifications.hears('STATUS', '2 of 2 workers, generation 2');
    server.kill('SIGTERM');
    await notifications.hears('STOPPING');
    expect(await server.exited).toEqual([0, null]);
  });

  test('hears of the new process after an upgrade, and from it', async () => {
    notifications = new Notifications();
    const server = serve(application(HELLO).url, {
      plan: { workers: 1 },
      env: { NOTIFY_SOCKET: notifications.path },
    });
    await notifications.hears('READY');
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    await notifications.hears('MAINPID', String(pid));
    await server.exited;
    // The service has not stopped: the old process has.
    expect(notifications.messages.some((message) => 'STOPPING' in message)).toBe(false);
    process.kill(pid, 'SIGTERM');
    await notifications.hears('STOPPING');
    await server.hears('stopped', ({ from }) => from === pid);
  });

  test('hands over listening sockets, which outlive reloads and upgrades, and applications see nothing of it', async () => {
    const fd = sys.listen({ host: '127.0.0.1', port: 0 });
    const { port } = sys.localAddress(fd) as { port: number };
    const app = application(`export default (req, res) => res.end(JSON.stringify([
      process.env.LISTEN_FDS, process.env.LISTEN_PID, process.env.NOTIFY_SOCKET, process.env.FORKBEARD_UPGRADE]));`);
    const server = serve(app.path, {
      before: 'LISTEN_PID=$$; export LISTEN_PID; exec',
      env: { LISTEN_FDS: '1', LISTEN_FDNAMES: 'http', NOTIFY_SOCKET: '/nowhere/at/all' },
      descriptors: [fd],
      command: ['--workers', '1', '--log-format', 'json', '--control', join(folder(), 'ctl.sock')],
    });
    sys.close(fd);
    await server.hears('ready');
    expect(await get(port)).toEqual({ status: 200, body: '[null,null,null,null]' });
    server.kill('SIGHUP');
    await server.hears('reload-done');
    expect((await get(port)).status).toBe(200);
    server.kill('SIGUSR2');
    const { pid } = await server.hears('upgrade-done');
    await server.exited;
    expect((await get(port)).status).toBe(200);
    process.kill(pid, 'SIGTERM');
    await server.until(
      () => server.told.filter(({ event }) => event === 'stopped').length === 2,
      'both ends',
    );
  });

  test('means another process when the pid is not ours', () => {
    expect(activatedListeners({ LISTEN_PID: '7', LISTEN_FDS: '2' }, 7)).toEqual([3, 4]);
    expect(activatedListeners({ LISTEN_PID: '8', LISTEN_FDS: '2' }, 7)).toEqual([]);
    expect(activatedListeners({ LISTEN_PID: '7', LISTEN_FDS: 'x' }, 7)).toEqual([]);
    expect(activatedListeners({}, 7)).toEqual([]);
  });
});
