/**
 * A plan becomes a running server with everything around it: control socket, metrics, log. Called by the door and by the
 * command. What can be refused is refused before the first process is started.
 */
import type { Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { ListenTarget } from '../daemon/listen.ts';
import { closeNow, listenAt, metricsServer } from '../daemon/metrics-endpoint.ts';
import type { PreforkServer } from './contract.ts';
import { ControlSocket } from './control.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import { startServer } from './monitor/server.ts';
import { isSuccessor } from './monitor/upgrade.ts';
import type { Plan } from './plan.ts';

export interface Running {
  server: PreforkServer;
  /** The exit code, when nothing of the server is left, what is around it included. */
  finished: Promise<number>;
}

/** How often a successor asks for an address that its predecessor is about to leave. */
const RETRY_MS = 50;

export interface Surroundings {
  log?: Log | undefined;
  /** Whether this process's signals are the server's. */
  signals?: boolean;
}

export async function open(plan: Plan, { log, signals = false }: Surroundings = {}): Promise<Running> {
  const around: (() => Promise<void>)[] = [];
  const end = async () => {
    for (const close of around.splice(0).reverse()) await close().catch(() => {});
  };
  try {
    const control = plan.control === false ? undefined : await ControlSocket.open(plan.control);
    if (control !== undefined) around.push(() => control.close());
    let follow: ((server: PreforkServer) => void) | undefined;
    if (plan.metrics !== null) {
      // Loaded by those who want them.
      const { Metrics } = await import('./metrics.ts');
      let running: Metrics | undefined;
      const http = metricsServer(() => running);
      const handover = new AbortController();
      around.push(async () => {
        handover.abort();
        await closeNow(http);
      });
      // A predecessor answers there until this one is ready.
      if (isSuccessor(process.env)) void listenInTurn(http, plan.metrics, handover.signal);
      else await listenAt(http, plan.metrics);
      follow = (server) => {
        running = new Metrics(server);
        server.on('upgrade-done', () => http.close());
      };
    }
    const server = await startServer(plan, { signals });
    log?.follow(server);
    follow?.(server);
    control?.attach(server);
    const finished = server.closed.finally(end);
    return { server, finished };
  } catch (error) {
    await end();
    throw error;
  }
}

async function listenInTurn(http: Server, target: ListenTarget, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const error = await listenAt(http, target).catch((refused: Error) => refused);
    if (error === undefined) return;
    await delay(RETRY_MS, undefined, { signal }).catch(() => {});
  }
}
