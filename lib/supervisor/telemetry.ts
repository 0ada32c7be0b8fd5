/**
 * OpenTelemetry: counters, a gauge, and a span for each restart, over `@opentelemetry/api`, which is loaded only when it
 * is asked for. Where they go is the business of the SDK that the process was started with. Reads nothing but status and
 * events.
 */
import type { Counter, Span } from '@opentelemetry/api';
import { invalidOption } from '../sys/errors.ts';
import type { SupervisorFace } from './contract.ts';

/** Throws `ERR_FORKBEARD_INVALID_OPTION` where the package is not installed. Disposed, it is heard no more. */
export async function openTelemetry(supervisor: SupervisorFace): Promise<Disposable> {
  const { metrics, trace, SpanStatusCode } = await import('@opentelemetry/api').catch((error: unknown) => {
    throw Object.assign(
      invalidOption('opentelemetry', 'OpenTelemetry needs a package: npm install @opentelemetry/api'),
      { cause: error },
    );
  });
  const meter = metrics.getMeter('forkbeard');
  const tracer = trace.getTracer('forkbeard');
  const counter = (name: string, description: string): Counter =>
    meter.createCounter(`forkbeard.service.${name}`, { description });
  const starts = counter('starts', 'Starts of a service');
  const restarts = counter('restarts', 'Starts that nobody asked for, by cause');
  const exits = counter('exits', 'Ends of the first process of a service, by code or signal');
  const forced = counter('forced_kills', 'Stops that needed SIGKILL');
  const orphans = counter('orphans', 'Processes left behind by a run');
  const gates = counter('gate_waits', 'Gates found closed');
  const failures = counter('failed', 'Services given up, by cause');
  const health = counter('probe_changes', 'Answers that were another than before');
  const up = meter.createObservableGauge('forkbeard.service.ready', {
    description: '1 while a service may be used',
  });
  const observe: Parameters<typeof up.addCallback>[0] = (result) => {
    for (const { name, ready, state } of Object.values(supervisor.status().services))
      result.observe(ready ? 1 : 0, { service: name, state });
  };
  up.addCallback(observe);

  /** Restarts under way, by service. */
  const spans = new Map<string, Span>();
  const end = (service: string, problem: string | null) => {
    const span = spans.get(service);
    if (span === undefined) return;
    spans.delete(service);
    span.setStatus(
      problem === null ? { code: SpanStatusCode.OK } : { code: SpanStatusCode.ERROR, message: problem },
    );
    span.end();
  };
  const undo: (() => void)[] = [];
  const listen: SupervisorFace['on'] = (event, listener) => {
    supervisor.on(event, listener);
    undo.push(() => supervisor.off(event, listener));
    return supervisor;
  };

  listen('started', ({ service, pid, runId }) => {
    starts.add(1, { service });
    spans.get(service)?.addEvent('started', { 'process.pid': pid, 'forkbeard.run_id': runId });
  });
  listen('exit', ({ service, exit: { exitCode, signal }, asked }) =>
    exits.add(1, { service, how: signal ?? String(exitCode), asked }),
  );
  listen('backoff', ({ service, cause, delay, failures: inRow, message }) => {
    restarts.add(1, { service, cause });
    const attributes = { 'forkbeard.cause': cause, 'forkbeard.delay_ms': delay, 'forkbeard.failures': inRow };
    const span = spans.get(service);
    if (span !== undefined) span.addEvent('failed again', { ...attributes, message });
    else
      spans.set(
        service,
        tracer.startSpan(`restart ${service}`, {
          attributes: { ...attributes, 'forkbeard.service': service, message },
        }),
      );
  });
  listen('gate-blocked', ({ service, gate, reason }) => {
    gates.add(1, { service, gate });
    spans.get(service)?.addEvent('gate blocked', { gate, reason });
  });
  listen('ready', ({ service }) => end(service, null));
  listen('failed', ({ service, cause, message }) => {
    failures.add(1, { service, cause });
    end(service, message);
  });
  listen('stopped', ({ service, steps }) => {
    if (steps.some(({ signal }) => signal === 'SIGKILL')) forced.add(1, { service });
    end(service, 'It was stopped');
  });
  listen('orphans', ({ service, orphans: found }) => orphans.add(found.length, { service }));
  listen('health', ({ service, problem }) =>
    health.add(1, { service, probe: 'live', result: problem === null ? 'good' : 'bad' }),
  );
  listen('readiness', ({ service, problem }) =>
    health.add(1, { service, probe: 'ready', result: problem === null ? 'good' : 'bad' }),
  );
  return {
    [Symbol.dispose]: () => {
      up.removeCallback(observe);
      for (const off of undo) off();
      for (const service of [...spans.keys()]) end(service, 'The supervisor ends');
    },
  };
}
