/**
 * `/metrics` in Prometheus' form, `/livez` (the program turns) and `/readyz` (it does its work) over HTTP. What they say is
 * the program's own; here it is served.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { systemError } from '../sys/errors.ts';
import { EXIT } from './exit-codes.ts';
import { formatListen, type ListenTarget } from './listen.ts';

export interface MetricsSource {
  /** The exposition format, of this moment. */
  text(): Promise<string>;
  readonly contentType: string;
  readiness(): { ready: boolean; text: string };
}

/** `source` gives undefined while the program is starting. */
export function metricsServer(source: () => MetricsSource | undefined): Server {
  const server = createServer((request, response) => {
    answer(source(), request, response).catch((error: unknown) => {
      if (!response.headersSent) reply(response, 500, `${String(error)}\n`);
    });
  });
  // A connection that cannot be accepted is no reason to end: whoever listens for its own errors hears of them as well.
  server.on('error', () => {});
  // A scraper that sends half a request is not waited for.
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  return server;
}

/** Rejected with the system's error, which has the exit code for it. */
export function listenAt(http: Server, target: ListenTarget): Promise<void> {
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

export async function closeNow(http: Server): Promise<void> {
  http.closeAllConnections();
  await new Promise((resolve) => http.close(resolve));
}

async function answer(
  source: MetricsSource | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return reply(response, 405, 'GET only\n');
  }
  const [path] = (request.url ?? '/').split('?');
  switch (path) {
    case '/livez':
      return reply(response, 200, 'alive\n');
    case '/readyz': {
      if (source === undefined) return reply(response, 503, 'starting\n');
      const { ready, text } = source.readiness();
      return reply(response, ready ? 200 : 503, `${text}\n`);
    }
    case '/metrics': {
      if (source === undefined) return reply(response, 503, 'starting\n');
      return reply(response, 200, await source.text(), source.contentType);
    }
    default:
      return reply(response, 404, 'There are /metrics, /livez and /readyz\n');
  }
}

function reply(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
