/**
 * A supervisor with everything around it: control socket, metrics, OpenTelemetry, log. Called by the command. What can be
 * refused is refused before the first service is started.
 */
import type { ControlSocket } from '../daemon/control.ts';
import type { ListenTarget } from '../daemon/listen.ts';
import { closeNow, listenAt, metricsServer } from '../daemon/metrics-endpoint.ts';
import type { ShutdownReport, StopOptions, SupervisorFace } from './contract.ts';
import { type Controlled, openControl } from './control.ts';
import type { Log } from './log.ts';
import { Metrics } from './metrics.ts';
import { openTelemetry } from './telemetry.ts';

export interface Surroundings {
  log: Log;
  /** False: none. */
  control: string | false;
  metrics: ListenTarget | null;
  opentelemetry: boolean;
  /** What becomes of independent services at the end. */
  independent: NonNullable<StopOptions['independent']>;
  /** Reads the configuration anew. */
  reload: Controlled['reload'];
}

export interface Running {
  /** Stops all services in reverse order. Asked for twice it is done once; `quick`: it is not waited for any more. */
  shutdown: (options?: { quick?: boolean }) => Promise<ShutdownReport>;
  reopenLogs: () => void;
  reload: Controlled['reload'];
  /** When nothing of it is left, what is around it included. */
  finished: Promise<ShutdownReport>;
}

/** Nothing is started yet: `supervisor.start()` does that. */
export async function openSupervisor(supervisor: SupervisorFace, around: Surroundings): Promise<Running> {
  const { log, independent } = around;
  const ends: (() => unknown)[] = [];
  const end = async () => {
    for (const close of ends.splice(0).reverse()) await Promise.resolve(close()).catch(() => {});
  };
  let finish: (report: ShutdownReport) => void = () => {};
  const finished = new Promise<ShutdownReport>((resolve) => {
    finish = resolve;
  });
  let stopping: Promise<ShutdownReport> | undefined;
  const shutdown = ({ quick = false } = {}) => {
    if (quick && stopping !== undefined) void supervisor.stop({ independent, quick });
    stopping ??= supervisor.stop({ independent, quick }).then((report) => {
      const code = exitCodeOf(report);
      log.note(code === 0 ? 'info' : 'error', 'shutdown', shutdownText(report), { ...report, code });
      // Whoever asked for it over the socket gets its answer before that is closed.
      setImmediate(() => end().then(() => finish(report)));
      return report;
    });
    return stopping;
  };
  const reopenLogs = () => {
    log.reopen();
    log.note('info', 'logs-reopened', 'logs opened anew');
  };
  try {
    let control: ControlSocket<Controlled> | undefined;
    if (around.control !== false) {
      control = await openControl(around.control);
      const opened = control;
      ends.push(() => opened.close());
    }
    if (around.metrics !== null) {
      const source = new Metrics(supervisor);
      const http = metricsServer(() => source);
      await listenAt(http, around.metrics);
      ends.push(() => closeNow(http));
    }
    if (around.opentelemetry) {
      const telemetry = await openTelemetry(supervisor);
      ends.push(() => telemetry[Symbol.dispose]());
    }
    log.follow(supervisor);
    control?.attach({ supervisor, shutdown, reopenLogs, reload: around.reload });
    return { shutdown, reopenLogs, reload: around.reload, finished };
  } catch (error) {
    await end();
    throw error;
  }
}

/** A survivor is nothing that a supervisor may end with in silence. */
export function exitCodeOf({ survivors }: ShutdownReport): number {
  return Object.keys(survivors).length === 0 ? 0 : 1;
}

function shutdownText({ services, survivors, left, took }: ShutdownReport): string {
  const stopped = Object.keys(services).length;
  const parts = [`${stopped} ${stopped === 1 ? 'service' : 'services'} stopped in ${Math.round(took)} ms`];
  if (left.length > 0) parts.push(`left to run on: ${left.join(', ')}`);
  for (const [name, pids] of Object.entries(survivors)) parts.push(`${name} did not end: ${pids.join(', ')}`);
  return parts.join('; ');
}
