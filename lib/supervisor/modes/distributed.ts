/**
 * `distributed`: an orchestrator asks over HTTP how we are, sends traffic by the answer, and ends us with SIGTERM. So that
 * nobody is sent to a service that is being stopped, readiness ends first, and the services stop only when that has got
 * around. As PID 1 of a container we are the parent of every orphan in it, and reap them.
 */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ListenTarget } from '../../daemon/listen.ts';
import { closeNow, listenAt, type MetricsSource, metricsServer } from '../../daemon/metrics-endpoint.ts';
import type { Watcher } from '../../loop/contract.ts';
import type { ExitStatus } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { type Orphans, reapOrphans } from '../../process/orphans.ts';
import type { ModeObject, Standing } from './standing.ts';

export interface DistributedPlan {
  /** Where /livez, /startupz and /readyz are. Null: nowhere. */
  readonly probes: ListenTarget | null;
  /** ms between the end of readiness and the first stop. */
  readonly drain: number;
  /** Signals to us that are every service's. */
  readonly forward: readonly string[];
}

export interface DistributedAround {
  readonly loop: Loop;
  /** To the first process of each service that runs. */
  readonly signal: (signal: string) => void;
  readonly metrics?: Pick<MetricsSource, 'text' | 'contentType'>;
  /** Somebody else's child has ended, and was ours to reap. */
  readonly onReaped?: (exit: ExitStatus) => void;
}

export class Distributed implements ModeObject {
  readonly #loop: Loop;
  readonly #drain: number;
  readonly #http: Server | null;
  readonly #watchers: { stop(): void }[] = [];
  #standing: Standing = { ready: false, failed: false, text: 'starting', problems: {} };
  #begun = false;
  #stopping: Promise<void> | null = null;
  #draining: Watcher | null = null;
  #drained: () => void = () => {};

  /** Rejected when the address cannot be had: nobody could see that we are well. */
  static async open(
    { probes, drain, forward }: DistributedPlan,
    { loop, signal, metrics, onReaped }: DistributedAround,
  ): Promise<Distributed> {
    const http = probes === null ? null : metricsServer(() => mode.#source(metrics));
    const mode: Distributed = new Distributed(loop, drain, http);
    if (http !== null) await listenAt(http, probes as ListenTarget);
    if (process.pid === 1) mode.#watchers.push(reapOrphans(loop, onReaped) satisfies Orphans);
    for (const name of forward) mode.#watchers.push(loop.watchSignal(name, () => signal(name)).unref());
    return mode;
  }

  private constructor(loop: Loop, drain: number, http: Server | null) {
    this.#loop = loop;
    this.#drain = drain;
    this.#http = http;
  }

  /** Where it is asked, with the port that the kernel chose. */
  get address(): string | AddressInfo | null {
    return this.#http?.address() ?? null;
  }

  changed(standing: Standing): void {
    this.#standing = standing;
    this.#begun ||= standing.ready;
  }

  /** Takes the time of a drain, once. */
  stopping(): Promise<void> {
    // Nobody was ever sent to us.
    this.#stopping ??= this.#begun
      ? new Promise((resolve) => {
          this.#drained = resolve;
          this.#draining = this.#loop.watchTime({ after: this.#drain }, resolve);
        })
      : Promise.resolve();
    return this.#stopping;
  }

  hurry(): void {
    this.#draining?.stop();
    this.#drained();
  }

  close(): void {
    for (const watcher of this.#watchers.splice(0)) watcher.stop();
    if (this.#http !== null) void closeNow(this.#http);
  }

  #source(metrics: DistributedAround['metrics']): MetricsSource {
    const { ready, failed, text } = this.#standing;
    return {
      ...metrics,
      readiness: () =>
        this.#stopping === null ? { ready, text } : { ready: false, text: `stopping; ${text}` },
      // What starts and stops its services is alive; what has given up is best started anew.
      liveness: () => ({ ready: !failed, text: failed ? `given up; ${text}` : 'alive' }),
      startup: () => ({ ready: this.#begun, text }),
    };
  }
}
