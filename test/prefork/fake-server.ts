/** A server that does nothing and says what it is told to: for what only looks at servers. */
import { EventEmitter } from 'node:events';
import type {
  ExitRecord,
  PreforkEvents,
  PreforkServer,
  PreforkStatus,
  WorkerStatus,
} from 'forkbeard/prefork';

export class FakeServer extends EventEmitter<PreforkEvents> implements PreforkServer {
  readonly pid = 4711;
  readonly calls: string[] = [];
  /** What the next call is rejected with. */
  failure: Error | undefined;
  readonly ready: Promise<void>;
  readonly closed: Promise<number>;
  becomeReady: () => void = () => {};
  close: (code: number) => void = () => {};
  current: PreforkStatus;

  constructor(status: Partial<PreforkStatus> = {}) {
    super();
    this.ready = new Promise((resolve) => {
      this.becomeReady = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.close = resolve;
    });
    this.current = {
      version: 1,
      pid: this.pid,
      state: 'ready',
      application: 'file:///srv/app.js',
      method: 'fork',
      reason: '',
      generation: 1,
      listen: ['tcp://127.0.0.1:3000'],
      target: 2,
      ready: 2,
      workers: [worker({ id: 1, pid: 101 }), worker({ id: 2, pid: 102 })],
      exits: {},
      ...status,
    };
  }

  status(): PreforkStatus {
    return this.current;
  }

  async #call(name: string): Promise<void> {
    this.calls.push(name);
    if (this.failure !== undefined) throw this.failure;
  }

  reload = () => this.#call('reload');
  drain = () => this.#call('drain');
  upgrade = () => this.#call('upgrade');
  scale = (workers: number) => this.#call(`scale ${workers}`);

  async stop({ quick = false } = {}): Promise<number> {
    await this.#call(`stop ${quick}`);
    return 0;
  }

  kill(slot: number): void {
    this.calls.push(`kill ${slot}`);
  }

  reopenLogs(): void {
    this.calls.push('reopenLogs');
    this.emit('logs-reopened', { cause: 'asked' });
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

export function worker(status: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    id: 1,
    pid: 101,
    generation: 1,
    method: 'fork',
    state: 'ready',
    age: 61_000,
    requests: 10,
    inFlight: 1,
    connections: 3,
    lag: 2,
    memory: { rss: 60 * 2 ** 20, pss: 20 * 2 ** 20, uss: 6 * 2 ** 20 },
    paused: '',
    ...status,
  };
}

export function exitRecord(record: Partial<ExitRecord> = {}): ExitRecord {
  return {
    worker: 1,
    pid: 101,
    generation: 1,
    method: 'fork',
    cause: 'blocked-loop',
    exitCode: 54,
    signal: null,
    age: 90_000,
    ready: true,
    requests: 12,
    inFlight: 1,
    memory: null,
    ...record,
  };
}
