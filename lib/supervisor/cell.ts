/** A service in its supervisor: its starter, its place in the tree, what is counted of it and what it has said. */
import type { Clock } from './clock.ts';
import type { LogLine, ServiceCounters, SupervisedStatus } from './contract.ts';
import type { Group } from './group.ts';
import type { ServiceAround } from './life.ts';
import { Lines } from './lines.ts';
import type { ServicePlan } from './plan.ts';
import { Service } from './service.ts';
import type { Cause, ServiceEvent } from './service-options.ts';

export class Cell {
  readonly name: string;
  readonly plan: ServicePlan;
  readonly group: Group;
  readonly service: Service;
  readonly lines: Lines;
  /** It is to run, as far as it can. */
  wanted = false;
  /** It was ready at some time in its last run. */
  wasReady = false;
  /** Why it was given up, if it is. */
  failedFor: Cause | null = null;
  readonly #clock: Clock;
  #readySince: number | null = null;
  #restarts: Partial<Record<Cause, number>> = {};
  #counts = {
    starts: 0,
    adoptions: 0,
    exits: 0,
    forcedKills: 0,
    orphans: 0,
    floods: 0,
    gateWaits: 0,
    gateWaited: 0,
  };

  constructor(
    plan: ServicePlan,
    group: Group,
    around: ServiceAround & { clock: Clock },
    onLine: (line: LogLine) => void,
  ) {
    this.name = plan.name;
    this.plan = plan;
    this.group = group;
    this.#clock = around.clock;
    this.lines = new Lines(plan.name, onLine);
    const { lease, mode } = plan;
    this.service = new Service(
      { ...plan, independent: mode === 'independent' ? { lease } : null },
      {
        ...around,
        onOutput: (stream, data) => this.lines.take(stream, data),
        onEvent: (event) => {
          this.#note(event);
          around.onEvent(event);
        },
      },
    );
  }

  status(): SupervisedStatus {
    const { plan } = this;
    return {
      ...this.service.status(),
      kind: 'service',
      mode: plan.mode,
      command: plan.command,
      dependsOn: plan.dependsOn.map(({ name }) => name),
      uptime: this.#readySince === null ? null : this.#clock.now() - this.#readySince,
      counters: this.#counters(),
    };
  }

  #counters(): ServiceCounters {
    return { ...this.#counts, restarts: { ...this.#restarts } };
  }

  #note(event: ServiceEvent): void {
    const counts = this.#counts;
    switch (event.event) {
      case 'started':
        counts.starts++;
        this.wasReady = false;
        break;
      case 'adopted':
        counts.adoptions++;
        this.wasReady = false;
        break;
      case 'ready':
        this.#readySince = this.#clock.now();
        this.wasReady = true;
        break;
      case 'exit':
        counts.exits++;
        this.#readySince = null;
        this.lines.end();
        break;
      case 'failed':
        this.failedFor = event.cause;
        break;
      case 'state':
        if (event.from === 'failed') this.failedFor = null;
        if (event.to === 'backoff' || event.to === 'down' || event.to === 'elsewhere')
          this.#readySince = null;
        break;
      case 'backoff':
        this.#restarts[event.cause] = (this.#restarts[event.cause] ?? 0) + 1;
        break;
      case 'gates-passed':
        counts.gateWaits++;
        counts.gateWaited += event.waited;
        break;
      case 'stopped':
        if (event.steps.some(({ signal }) => signal === 'SIGKILL')) counts.forcedKills++;
        break;
      case 'flood':
        if (event.held === null) counts.floods++;
        break;
      case 'orphans':
        counts.orphans += event.orphans.length;
        break;
    }
  }
}
