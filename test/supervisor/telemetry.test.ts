/** OpenTelemetry over the real API: what a provider hears of a supervisor with real processes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { metrics, type ObservableCallback, SpanStatusCode, trace } from '@opentelemetry/api';
import { Supervisor } from 'forkbeard/supervisor';
import { afterAll, expect, it } from 'vitest';
import { openTelemetry } from '../../dist/supervisor/telemetry.js';

const stateDir = mkdtempSync(join(tmpdir(), 'forkbeard-telemetry-'));
afterAll(() => {
  metrics.disable();
  trace.disable();
  rmSync(stateDir, { recursive: true, force: true });
});

it('counts starts and restarts, and has a span from an end to being ready again', async () => {
  const counted: [name: string, value: number, attributes: Record<string, unknown>][] = [];
  const observers: ObservableCallback[] = [];
  const noop = metrics.getMeterProvider().getMeter('none');
  metrics.setGlobalMeterProvider({
    getMeter: () =>
      Object.assign(Object.create(noop), {
        createCounter: (name: string) => ({
          add: (value: number, attributes: Record<string, unknown>) =>
            counted.push([name, value, attributes]),
        }),
        createObservableGauge: () => ({
          addCallback: (callback: ObservableCallback) => observers.push(callback),
          removeCallback: (callback: ObservableCallback) => observers.splice(observers.indexOf(callback), 1),
        }),
      }),
  });
  const spans: { name: string; events: string[]; status?: number; ended: boolean }[] = [];
  const noopTracer = trace.getTracer('none');
  trace.setGlobalTracerProvider({
    getTracer: () =>
      Object.assign(Object.create(noopTracer), {
        startSpan: (name: string) => {
          const span: (typeof spans)[number] = { name, events: [], ended: false };
          spans.push(span);
          return {
            addEvent: (event: string) => span.events.push(event),
            setStatus: ({ code }: { code: number }) => {
              span.status = code;
            },
            end: () => {
              span.ended = true;
            },
          };
        },
      }),
  });

  await using supervisor = new Supervisor({ stateDir, services: { web: { command: ['sleep', '1000'] } } });
  const telemetry = await openTelemetry(supervisor);
  await supervisor.start();
  const again = new Promise<void>((resolve) => {
    supervisor.once('backoff', () => supervisor.once('ready', () => setImmediate(resolve)));
  });
  await supervisor.signal('web', 'KILL');
  await again;
  expect(spans).toEqual([
    { name: 'restart web', events: ['started'], status: SpanStatusCode.OK, ended: true },
  ]);
  const total = (name: string) =>
    counted
      .filter(([counter]) => counter === `forkbeard.service.${name}`)
      .map(([, value, attributes]) => [value, attributes]);
  expect(total('starts')).toEqual([
    [1, { service: 'web' }],
    [1, { service: 'web' }],
  ]);
  expect(total('restarts')).toEqual([[1, { service: 'web', cause: 'exit' }]]);
  expect(total('exits')).toEqual([[1, { service: 'web', how: 'SIGKILL', asked: false }]]);
  const observed: unknown[] = [];
  for (const observer of observers)
    await observer({
      observe: (value: number, attributes: unknown) => observed.push([value, attributes]),
    } as never);
  expect(observed).toEqual([[1, { service: 'web', state: 'running' }]]);
  telemetry[Symbol.dispose]();
  expect(observers).toEqual([]);
});
