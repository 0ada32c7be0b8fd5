/**
 * A plan becomes a running server with everything around it: control socket, metrics, log. Called by the door and by the
 * command. What can be refused is refused before the first process is started.
 */
import type { Server } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { systemError } from '../sys/errors.ts';
import type { PreforkServer } from './contract.ts';
import { ControlSocket } from './control.ts';
import { EXIT } from './exit-codes.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import { startServer } from './monitor/server.ts';
import { formatListen } from './options/listen.ts';
import type { ListenTarget, Plan } from './plan.ts';

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
      const { Metrics, metricsServer } = await import('./metrics.ts');
      let running: { metrics: Metrics; server: PreforkServer } | undefined;
      const http = metricsServer(() => running);
      const handover = new AbortController();
      around.push(async () => {
        handover.abort();
        http.closeAllConnections();
        await new Promise((resolve) => http.close(resolve));
      });
      // A predecessor answers there until this one is ready.
      if (control?.succeeds) void listenInTurn(http, plan.metrics, handover.signal);
      else await listen(http, plan.metrics);
      follow = (server) => {
        running = { metrics: new Metrics(server), server };
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

function listen(http: Server, target: ListenTarget): Promise<void> {
  const address = target.kind === 'unix' ? { path: target.path } : (target as { host: string; port: number });
  return new Promise((resolve, reject) => {
    const fail = ({ errno, code }: NodeJS.ErrnoException) => {
      const error = systemError(errno ?? 0, 'listen', { address: `${formatListen(target)} (metrics)` });
      reject(Object.assign(error, { exitCode: code === 'EACCES' ? EXIT.noPermission : EXIT.addressInUse }));
    };
    http.once('error', fail);
    http.listen(address, () => {
      http.off('error', fail);
      resolve();
    });
  });
}

async function listenInTurn(http: Server, target: ListenTarget, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const error = await listen(http, target).catch((refused: Error) => refused);
    if (error === undefined) return;
    await delay(RETRY_MS, undefined, { signal }).catch(() => {});
  }
}
