/**
 * The figures of a server in Prometheus' form, and whether it is ready. Reads nothing but status and events. A registry of
 * its own: an application's metrics are the application's.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricsSource } from '../daemon/metrics-endpoint.ts';
import { memoryOf } from './board.ts';
import type { PreforkServer, PreforkStatus, WorkerState, WorkerStatus } from './contract.ts';

const STATES = ['starting', 'ready', 'draining'] as const satisfies readonly WorkerState[];

/** Serving: a reload keeps workers at work all the time. */
export function isReady({ state, ready }: PreforkStatus): boolean {
  return (state === 'ready' || state === 'reloading') && ready > 0;
}

export class Metrics implements MetricsSource {
  readonly registry = new Registry();
  readonly #server: PreforkServer;
  readonly #totals = new Totals();
  readonly #perWorker: { gauge: Gauge<'worker'>; of: (worker: WorkerStatus) => number }[];

  constructor(server: PreforkServer) {
    this.#server = server;
    this.#perWorker = [
      {
        gauge: this.#gauge('requests_in_flight', 'Requests that a worker is answering.', 'worker'),
        of: ({ inFlight }) => inFlight,
      },
      {
        gauge: this.#gauge('connections', 'Connections that a worker has open.', 'worker'),
        of: ({ connections }) => connections,
      },
      {
        gauge: this.#gauge('event_loop_lag_seconds', "How late a worker's event loop is.", 'worker'),
        of: ({ lag }) => lag / 1000,
      },
      {
        gauge: this.#gauge('worker_served', 'Requests that the worker in this place has served.', 'worker'),
        of: ({ requests }) => requests,
      },
      {
        gauge: this.#gauge('worker_paused', '1 while a worker accepts nothing.', 'worker'),
        of: ({ paused }) => (paused === '' ? 0 : 1),
      },
    ];
    this.#follow(server);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  readiness(): { ready: boolean; text: string } {
    const status = this.#server.status();
    return { ready: isReady(status), text: `${status.state}: ${status.ready} of ${status.target} ready` };
  }

  async text(): Promise<string> {
    this.#look(this.#server.status());
    return this.registry.metrics();
  }

  // ---------------------------------------------------------------------------------- from the status

  readonly #target = this.#gauge('workers_target', 'Workers that there should be.');
  readonly #workers = this.#gauge('workers', 'Workers by state.', 'state');
  readonly #up = this.#gauge('ready', '1 while requests are served.');
  readonly #generation = this.#gauge('generation', "Counts the application's loads.");
  readonly #memory = this.#gauge(
    'worker_memory_bytes',
    'Memory of a worker: resident, proportional and private.',
    'worker',
    'kind',
  );
  readonly #share = this.#gauge(
    'memory_shared_ratio',
    'Part of the resident memory of all workers that is shared.',
  );
  readonly #requests = this.#counter(
    'requests_total',
    'Requests served, by workers that have ended as well.',
  );
  readonly #info = this.#gauge('info', 'Always 1.', 'node', 'method', 'application');

  #look(status: PreforkStatus): void {
    const workers = status.workers.filter(({ state }) => state !== 'ended');
    this.#target.set(status.target);
    for (const state of STATES)
      this.#workers.set({ state }, workers.filter((worker) => worker.state === state).length);
    this.#up.set(isReady(status) ? 1 : 0);
    this.#generation.set(status.generation);
    this.#info.reset();
    this.#info.set({ node: process.version, method: status.method, application: status.application }, 1);
    this.#memory.reset();
    this.#share.set(memoryOf(workers).share);
    this.#requests.reset();
    this.#requests.inc(this.#totals.requests(workers));
    for (const { gauge } of this.#perWorker) gauge.reset();
    for (const worker of workers) {
      const labels = { worker: String(worker.id) };
      // Two share a place while one replaces the other.
      for (const { gauge, of } of this.#perWorker) gauge.inc(labels, of(worker));
      if (worker.memory === null) continue;
      for (const kind of ['rss', 'pss', 'uss'] as const)
        this.#memory.inc({ ...labels, kind }, worker.memory[kind]);
    }
  }

  // ---------------------------------------------------------------------------------- from events

  #follow(server: PreforkServer): void {
    const exits = this.#counter('worker_exits_total', 'Ends of workers by cause.', 'cause');
    const starts = this.#counter('worker_starts_total', 'Workers started.', 'method');
    const restarts = this.#counter(
      'worker_restarts_total',
      'Workers started after the first that were ready.',
    );
    const reloads = this.#counter('reloads_total', 'Reloads by outcome.', 'outcome');
    const upgrades = this.#counter('upgrades_total', 'Hot upgrades by outcome.', 'outcome');
    const reforks = this.#counter('reforks_total', 'Warm workers that became the mold.');
    const slow = this.#counter(
      'worker_slow_total',
      'Loops that stood still, requests that took too long.',
      'reason',
    );
    const backoffs = this.#counter(
      'backoffs_total',
      'Workers that had to wait before they came back.',
      'cause',
    );
    const boot = new Histogram({
      name: 'forkbeard_worker_boot_seconds',
      help: "From a worker's start until it is ready.",
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers: [this.registry],
    });
    const load = this.#gauge('load_seconds', 'How long the application took to load the last time.');
    for (const outcome of ['done', 'failed']) {
      reloads.inc({ outcome }, 0);
      upgrades.inc({ outcome }, 0);
    }

    let pool = server.status().ready;
    server.on('worker-started', ({ method }) => {
      starts.inc({ method });
      if (pool > 0) restarts.inc();
    });
    server.on('ready', ({ workers }) => {
      pool = workers;
    });
    server.on('worker-ready', ({ ms }) => boot.observe(ms / 1000));
    server.on('worker-exit', ({ cause, pid, requests }) => {
      exits.inc({ cause });
      this.#totals.ended(pid, requests);
    });
    server.on('worker-slow', ({ reason }) => slow.inc({ reason }));
    server.on('backoff', ({ cause }) => backoffs.inc({ cause }));
    server.on('mold-ready', ({ ms }) => load.set(ms / 1000));
    server.on('refork', () => reforks.inc());
    server.on('reload-done', () => reloads.inc({ outcome: 'done' }));
    server.on('reload-failed', () => reloads.inc({ outcome: 'failed' }));
    server.on('upgrade-done', () => upgrades.inc({ outcome: 'done' }));
    server.on('upgrade-failed', () => upgrades.inc({ outcome: 'failed' }));
  }

  #gauge<L extends string>(name: string, help: string, ...labelNames: L[]): Gauge<L> {
    return new Gauge({ name: `forkbeard_${name}`, help, labelNames, registers: [this.registry] });
  }

  #counter<L extends string>(name: string, help: string, ...labelNames: L[]): Counter<L> {
    return new Counter({ name: `forkbeard_${name}`, help, labelNames, registers: [this.registry] });
  }
}

/** A sum that never falls, over workers that come and go. */
class Totals {
  #gone = 0;
  #highest = 0;
  readonly #ended = new Set<number>();

  ended(pid: number, requests: number): void {
    this.#gone += requests;
    this.#ended.add(pid);
  }

  requests(workers: readonly WorkerStatus[]): number {
    const pids = new Set(workers.map(({ pid }) => pid));
    // A number that is not there any more may be given to another worker.
    for (const pid of this.#ended) if (!pids.has(pid)) this.#ended.delete(pid);
    const living = workers.filter(({ pid }) => !this.#ended.has(pid));
    this.#highest = Math.max(
      this.#highest,
      living.reduce((sum, { requests }) => sum + requests, this.#gone),
    );
    return this.#highest;
  }
}
