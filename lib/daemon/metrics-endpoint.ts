/**
 * `/metrics` in Prometheus' form, `/livez` or `/healthz` (the program turns), `/startupz` (it has begun) and `/readyz` (it
 * does its work) over HTTP. What they say is the program's own; here it is served.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { systemError } from '../sys/errors.ts';
import { EXIT } from './exit-codes.ts';
import { formatListen, type ListenTarget } from './listen.ts';

export interface Answer {
  readonly ready: boolean;
  readonly text: string;
}

export interface MetricsSource {
  /** The exposition format, of this moment. None: there is no /metrics. */
  text?(): Promise<string>;
  readonly contentType?: string;
  readiness(): Answer;
  /** Whether it should be let live. Default: it answers, so it does. */
  liveness?(): Answer;
  /** Whether it has begun. Default: as `readiness`. */
  startup?(): Answer;
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
  const say = ({ ready, text }: Answer) => reply(response, ready ? 200 : 503, `${text}\n`);
  switch (path) {
    case '/livez':
    case '/healthz':
      return say(source?.liveness?.() ?? { ready: true, text: 'alive' });
    case '/startupz':
      return say(source === undefined ? STARTING : (source.startup?.() ?? source.readiness()));
    case '/readyz':
      return say(source === undefined ? STARTING : source.readiness());
    case '/metrics':
      if (source === undefined) return say(STARTING);
      if (source.text !== undefined) return reply(response, 200, await source.text(), source.contentType);
      return reply(response, 404, 'There are no metrics here\n');
    default:
      return reply(response, 404, 'There are /metrics, /livez, /startupz and /readyz\n');
  }
}

const STARTING: Answer = { ready: false, text: 'starting' };

function reply(
  response: ServerResponse,
  status: number,
  body: string,
  type = 'text/plain; charset=utf-8',
): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}
