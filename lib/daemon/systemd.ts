/**
 * systemd's two protocols, both datagrams and variables: `sd_notify` (how the service is doing, to NOTIFY_SOCKET) and
 * socket activation (listening sockets from descriptor 3 on, counted by LISTEN_FDS). Without systemd it does nothing.
 */
import { close, sendTo, socket } from '../sys/index.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const FIRST_LISTENER = 3;

export interface ActivatedSocket {
  readonly fd: number;
  /** FileDescriptorName= of its unit; null: it has none. */
  readonly name: string | null;
}

/** What systemd hands to this very process. */
export function activatedSockets(
  env: Environment = process.env,
  pid: number = process.pid,
): ActivatedSocket[] {
  if (Number(env['LISTEN_PID']) !== pid) return [];
  const count = Number(env['LISTEN_FDS']);
  if (!Number.isInteger(count) || count <= 0) return [];
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':');
  return Array.from({ length: count }, (_, index) => ({
    fd: FIRST_LISTENER + index,
    name: names[index] || null,
  }));
}

/** Their descriptors. */
export function activatedListeners(env: Environment = process.env, pid: number = process.pid): number[] {
  return activatedSockets(env, pid).map(({ fd }) => fd);
}

export class ServiceNotifier {
  readonly #path: string | undefined;
  readonly #watchdog: number;
  #fd: number | undefined;

  constructor(env: Environment = process.env, pid: number = process.pid) {
    const path = env['NOTIFY_SOCKET'];
    // '@' stands for the zero byte of an abstract name.
    this.#path = path === undefined || path === '' ? undefined : path.replace(/^@/, '\0');
    const isOurs = env['WATCHDOG_PID'] === undefined || Number(env['WATCHDOG_PID']) === pid;
    const microseconds = isOurs ? Number(env['WATCHDOG_USEC'] ?? 0) : 0;
    this.#watchdog = Number.isFinite(microseconds) ? microseconds / 1000 : 0;
  }

  /** How often it wants to hear that we live, twice a period, ms; 0: not at all. */
  get watchdogInterval(): number {
    return this.#path === undefined ? 0 : this.#watchdog / 2;
  }

  ready(status: string): void {
    this.#say('READY=1', `STATUS=${status}`);
  }

  reloading(): void {
    this.#say('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`, 'STATUS=Reloading');
  }

  stopping(): void {
    this.#say('STOPPING=1', 'STATUS=Stopping');
  }

  status(status: string): void {
    this.#say(`STATUS=${status}`);
  }

  alive(): void {
    this.#say('WATCHDOG=1');
  }

  /** What is under way goes on, and may take so many ms more from now on. */
  extend(ms: number): void {
    this.#say(`EXTEND_TIMEOUT_USEC=${ms * 1000}`);
  }

  /** Another process is the service from now on. */
  mainPid(pid: number): void {
    this.#say(`MAINPID=${pid}`);
  }

  close(): void {
    if (this.#fd !== undefined) close(this.#fd);
    this.#fd = undefined;
  }

  /** What systemd cannot be told now is not worth a failure of ours. */
  #say(...lines: string[]): void {
    if (this.#path === undefined) return;
    try {
      this.#fd ??= socket('unix', 'dgram');
      sendTo(this.#fd, Buffer.from(`${lines.join('\n')}\n`), { path: this.#path });
    } catch {
      // No descriptor left, or a path that is none.
    }
  }
}
