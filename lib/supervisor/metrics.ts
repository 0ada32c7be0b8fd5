/**
 * The figures of a supervisor in Prometheus' form, and whether it is ready. Reads nothing but status and events. Labels
 * are names of services and groups, causes and states: as many as the configuration has, never pids.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricsSource } from '../daemon/metrics-endpoint.ts';
import type { GroupState, GroupStatus, ServiceState, SupervisedStatus, SupervisorFace } from './contract.ts';
import { standingOf } from './modes/standing.ts';

/** Complete by their types. */
const STATES = Object.keys({
  down: 0,
  gated: 0,
  starting: 0,
  running: 0,
  unhealthy: 0,
  stopping: 0,
  settling: 0,
  stuck: 0,
  elsewhere: 0,
  backoff: 0,
  done: 0,
  failed: 0,
} satisfies Record<ServiceState, 0>);
const GROUP_STATES = Object.keys({
  down: 0,
  starting: 0,
  running: 0,
  restarting: 0,
  stopping: 0,
  failed: 0,
} satisfies Record<GroupState, 0>);
/** From the first look at a port to a minute of patience. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export class Metrics implements MetricsSource {
  readonly registry = new Registry();
  readonly #supervisor: SupervisorFace;
  readonly #totals: { counter: Counter<'service'>; of: (service: SupervisedStatus) => number }[];

  constructor(supervisor: SupervisorFace) {
    this.#supervisor = supervisor;
    this.#totals = [
      {
        counter: this.#counter('service_starts_total', 'Starts of a service.', 'service'),
        of: ({ counters }) => counters.starts,
      },
      {
        counter: this.#counter('service_adoptions_total', 'Running services taken over.', 'service'),
        of: ({ counters }) => counters.adoptions,
      },
      {
        counter: this.#counter('service_forced_kills_total', 'Stops that needed SIGKILL.', 'service'),
        of: ({ counters }) => counters.forcedKills,
      },
      {
        counter: this.#counter(
          'service_orphans_total',
          'Processes left behind by a run. Normal is 0.',
          'service',
        ),
        of: ({ counters }) => counters.orphans,
      },
      {
        counter: this.#counter('service_floods_total', 'Times that it said more than it may.', 'service'),
        of: ({ counters }) => counters.floods,
      },
      {
        counter: this.#counter('service_gate_waits_total', 'Starts that had to wait at a gate.', 'service'),
        of: ({ counters }) => counters.gateWaits,
      },
      {
        counter: this.#counter('service_gate_wait_seconds_total', 'Time spent waiting at gates.', 'service'),
        of: ({ counters }) => counters.gateWaited / 1000,
      },
    ];
    this.#follow(supervisor);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  readiness(): { ready: boolean; text: string } {
    return standingOf(this.#supervisor.status());
  }

  async text(): Promise<string> {
    this.#look();
    return this.registry.metrics();
  }

  // ---------------------------------------------------------------------------------- from the status

  readonly #states = this.#gauge(
    'service_state',
    '1 for the state that a service is in.',
    'service',
    'state',
  );
  readonly #ready = this.#gauge('service_ready', '1 while a service may be used.', 'service');
  readonly #uptime = this.#gauge(
    'service_uptime_seconds',
    'Since it became ready; 0 when it is not.',
    'service',
  );
  readonly #failures = this.#gauge('service_failures', 'Failures in a row.', 'service');
  readonly #groups = this.#gauge('group_state', '1 for the state that a group is in.', 'group', 'state');
  readonly #groupRestarts = this.#counter('group_restarts_total', 'Restarts of a group as a whole.', 'group');
  readonly #restarts = this.#counter(
    'service_restarts_total',
    'Starts that nobody asked for, by what was the matter.',
    'service',
    'cause',
  );
  readonly #up = this.#gauge('supervisor_uptime_seconds', 'Since it was started.');
  readonly #info = this.#gauge('supervisor_info', 'Always 1.', 'node');

  #look(): void {
    const { services, tree, uptime } = this.#supervisor.status();
    this.#up.set((uptime ?? 0) / 1000);
    this.#info.set({ node: process.version }, 1);
    for (const gauge of [this.#states, this.#ready, this.#uptime, this.#failures, this.#groups])
      gauge.reset();
    for (const counter of [this.#restarts, this.#groupRestarts, ...this.#totals.map((one) => one.counter)])
      counter.reset();
    for (const status of Object.values(services)) {
      const service = status.name;
      for (const state of STATES) this.#states.set({ service, state }, status.state === state ? 1 : 0);
      this.#ready.set({ service }, status.ready ? 1 : 0);
      this.#uptime.set({ service }, (status.uptime ?? 0) / 1000);
      this.#failures.set({ service }, status.failures);
      for (const { counter, of } of this.#totals) counter.inc({ service }, of(status));
      for (const [cause, count] of Object.entries(status.counters.restarts))
        this.#restarts.inc({ service, cause }, count);
    }
    this.#lookAt(tree);
  }

  #lookAt({ name: group, state: is, restarts, members }: GroupStatus): void {
    for (const state of GROUP_STATES) this.#groups.set({ group, state }, is === state ? 1 : 0);
    this.#groupRestarts.inc({ group }, restarts);
    for (const member of members) if (member.kind === 'group') this.#lookAt(member);
  }

  // ---------------------------------------------------------------------------------- from events

  #follow(supervisor: SupervisorFace): void {
    const exits = this.#counter(
      'service_exits_total',
      'Ends of the first process of a service, by code or signal.',
      'service',
      'how',
      'asked',
    );
    const failures = this.#counter(
      'service_failed_total',
      'Services given up, by cause.',
      'service',
      'cause',
    );
    const probes = this.#counter(
      'service_probe_changes_total',
      'Answers that were another than before, by question and answer.',
      'service',
      'probe',
      'result',
    );
    const blocked = this.#counter('service_gate_blocked_total', 'Gates found closed.', 'service', 'gate');
    const stuck = this.#counter('service_stuck_total', 'Stops that no signal brought to an end.', 'service');
    const reaped = this.#counter('supervisor_reaped_total', 'Orphans of others that PID 1 has reaped.');
    supervisor.on('reaped', () => reaped.inc());
    const ready = this.#histogram('service_ready_seconds', 'From a start until it was ready.');
    const gates = this.#histogram('service_gates_seconds', 'Waits at gates before a start.');
    supervisor.on('exit', ({ service, exit: { exitCode, signal }, asked }) =>
      exits.inc({ service, how: signal ?? String(exitCode), asked: String(asked) }),
    );
    supervisor.on('failed', ({ service, cause }) => failures.inc({ service, cause }));
    supervisor.on('health', ({ service, problem }) =>
      probes.inc({ service, probe: 'live', result: problem === null ? 'good' : 'bad' }),
    );
    supervisor.on('readiness', ({ service, problem }) =>
      probes.inc({ service, probe: 'ready', result: problem === null ? 'good' : 'bad' }),
    );
    supervisor.on('gate-blocked', ({ service, gate }) => blocked.inc({ service, gate }));
    supervisor.on('gates-passed', ({ service, waited }) => gates.observe({ service }, waited / 1000));
    supervisor.on('ready', ({ service, ms }) => ready.observe({ service }, ms / 1000));
    supervisor.on('stuck', ({ service }) => stuck.inc({ service }));
  }

  #gauge<L extends string>(name: string, help: string, ...labelNames: L[]): Gauge<L> {
    return new Gauge({ name: `forkbeard_${name}`, help, labelNames, registers: [this.registry] });
  }

  #counter<L extends string>(name: string, help: string, ...labelNames: L[]): Counter<L> {
    return new Counter({ name: `forkbeard_${name}`, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string): Histogram<'service'> {
    return new Histogram({
      name: `forkbeard_${name}`,
      help,
      labelNames: ['service'],
      buckets: SECONDS,
      registers: [this.registry],
    });
  }
}
