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
import { willBeFree } from './monitor/upgrade.ts';
import type { Plan } from './plan.ts';

export interface Running {
  server: PreforkServer;
  /** The exit code, when nothing of the server is left, what is around it included. */
  finished: Promise<number>;
}

/** How often a successor asks for an address that its predecessor is about to leave. */
const RETRY_MS = 50;
/** How long the address may be taken after the predecessor has left it, before that is told. */
const TOLD_AFTER_MS = 2000;

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
      let turn: ((server: PreforkServer) => Promise<void>) | undefined;
      around.push(async () => {
        handover.abort();
        await closeNow(http);
      });
      const { metrics } = plan;
      // A predecessor answers there until this one is ready. Whoever else does, there is no going on.
      const inTurn = willBeFree(process.env, metrics);
      await listenAt(http, metrics).catch((error: NodeJS.ErrnoException) => {
        if (!inTurn || error.code !== 'EADDRINUSE') throw error;
        turn = (server) => listenInTurn(http, metrics, handover.signal, server);
      });
      follow = (server) => {
        running = new Metrics(server);
        void turn?.(server);
        server.on('upgrade-done', () => http.close());
      };
    }
    const server = await startServer(plan, { signals, beforeHandover: async () => control?.succeed() });
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

async function listenInTurn(
  http: Server,
  target: ListenTarget,
  signal: AbortSignal,
  server: PreforkServer,
): Promise<void> {
  let readyAt = Number.POSITIVE_INFINITY;
  server.ready.then(
    () => {
      readyAt = performance.now();
    },
    () => {},
  );
  while (!signal.aborted) {
    const error = await listenAt(http, target).catch((refused: NodeJS.ErrnoException) => refused);
    if (error === undefined) return;
    if (performance.now() - readyAt > TOLD_AFTER_MS) {
      readyAt = Number.POSITIVE_INFINITY;
      server.emit('warning', { message: `${error.message}; trying on`, code: String(error.code) });
    }
    await delay(RETRY_MS, undefined, { signal }).catch(() => {});
  }
}
