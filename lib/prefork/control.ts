/**
 * The control socket: a server's status and its reins as versioned JSON over HTTP on a unix socket that only its owner may
 * open. What a request may ask for is the table below. `forkbeard ctl` is one client of it; curl is another:
 *
 *     curl --unix-socket /run/app.ctl http://./v1/status
 *     curl --unix-socket /run/app.ctl -X POST -d '{"by":1}' http://./v1/scale
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import type { PreforkServer } from './contract.ts';
import { MOST_WORKERS } from './options/schema.ts';
import { type Claim, CONTROL_VERSION, claim } from './socket-file.ts';

const MOST_BODY = 64 * 1024;
/** What replies under way get when the server has ended. */
const LAST_WORDS_MS = 1000;

const nothing = z.strictObject({});
const scale = z.union([
  z.strictObject({ to: z.number().int().min(1).max(MOST_WORKERS) }),
  z.strictObject({ by: z.number().int().min(-MOST_WORKERS).max(MOST_WORKERS) }),
]);

interface Action {
  body: z.ZodType;
  run: (server: PreforkServer, body: never) => unknown;
}

/** What a POST does; its result is the reply, `{}` without one. */
const ACTIONS: Readonly<Record<string, Action>> = {
  reload: { body: nothing, run: (server) => server.reload() },
  drain: { body: nothing, run: (server) => server.drain() },
  upgrade: { body: nothing, run: (server) => server.upgrade() },
  'reopen-logs': { body: nothing, run: (server) => server.reopenLogs() },
  scale: {
    body: scale,
    run: async (server, body: z.infer<typeof scale>) => {
      const { target } = server.status();
      const to = 'to' in body ? body.to : Math.min(MOST_WORKERS, Math.max(1, target + body.by));
      await server.scale(to);
      return { from: target, to };
    },
  },
  stop: {
    body: z.strictObject({ quick: z.boolean().optional() }),
    run: async (server, { quick = false }: { quick?: boolean }) => ({ code: await server.stop({ quick }) }),
  },
  kill: {
    body: z.strictObject({ worker: z.number().int().min(1) }),
    run: (server, { worker }: { worker: number }) => {
      if (!server.status().workers.some(({ id }) => id === worker))
        throw new Refusal(404, `There is no worker ${worker}`);
      server.kill(worker);
    },
  },
};

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class ControlSocket {
  readonly #claim: Claim;
  readonly #replies = new Set<Promise<void>>();
  #http: Server | undefined;
  #server: PreforkServer | undefined;

  private constructor(claimed: Claim) {
    this.#claim = claimed;
  }

  /** Throws `ERR_FORKBEARD_INVALID_OPTION` when the path cannot be had: another server's, or no socket at all. */
  static async open(path: string): Promise<ControlSocket> {
    const control = new ControlSocket(await claim(path));
    // While the one that we are to follow serves, it keeps the socket.
    if (control.#claim.predecessor === undefined) await control.#publish();
    return control;
  }

  /** The server that is running already is the one which started this process, to hand over to it. */
  get succeeds(): boolean {
    return this.#claim.predecessor !== undefined;
  }

  attach(server: PreforkServer): void {
    this.#server = server;
    if (this.succeeds) server.ready.then(() => this.#publish()).catch(() => {});
    // The one that was to follow has perhaps taken the socket already.
    server.on('upgrade-failed', () => {
      if (!this.#claim.isOurs()) this.#publish().catch(() => {});
    });
  }

  /** Lets replies under way go out, and takes the socket away if it is still this one's. */
  async close(): Promise<void> {
    this.#claim.remove();
    const http = this.#http;
    if (http === undefined) return;
    http.close();
    const limit = new AbortController();
    await Promise.race([
      Promise.allSettled(this.#replies),
      new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LAST_WORDS_MS);
        limit.signal.addEventListener('abort', () => clearTimeout(timer));
      }),
    ]);
    limit.abort();
    http.closeAllConnections();
  }

  async #publish(): Promise<void> {
    this.#http?.close();
    this.#http = createServer((request, response) => {
      const reply = answer(this.#server, request, response).finally(() => this.#replies.delete(reply));
      this.#replies.add(reply);
    });
    // Once it listens, a connection that cannot be accepted is no reason to end.
    this.#http.on('error', () => {});
    await this.#claim.publish(this.#http);
  }
}

// ------------------------------------------------------------------------------------- requests

async function answer(
  server: PreforkServer | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let status = 200;
  let body: unknown;
  try {
    body = (await handle(server, request)) ?? {};
  } catch (error) {
    const { message, code, status: refused } = error as Error & { code?: string; status?: number };
    // Not a refusal of ours: the server could not, and says why.
    status = refused ?? 409;
    body = { version: CONTROL_VERSION, error: { message, ...(code !== undefined && { code }) } };
  }
  const bytes = Buffer.from(`${JSON.stringify(body)}\n`);
  await new Promise<void>((resolve) => {
    response.once('close', resolve);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': bytes.length });
    response.end(bytes, () => resolve());
  });
}

async function handle(server: PreforkServer | undefined, request: IncomingMessage): Promise<unknown> {
  const [, version, name = '', ...rest] = (request.url ?? '').split('?')[0]?.split('/') ?? [];
  if (version !== `v${CONTROL_VERSION}` || rest.length > 0)
    throw new Refusal(404, `This server speaks version ${CONTROL_VERSION}: /v${CONTROL_VERSION}/status`);
  if (server === undefined) throw new Refusal(503, 'The server is starting');
  if (name === 'status') {
    if (request.method !== 'GET') throw new Refusal(405, 'status is asked for with GET');
    return server.status();
  }
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
  if (action === undefined)
    throw new Refusal(404, `There is no ${name}: there are status, ${Object.keys(ACTIONS).join(', ')}`);
  if (request.method !== 'POST') throw new Refusal(405, `${name} is asked for with POST`);
  const result = await action.run(server, (await read(request, action)) as never);
  return { version: CONTROL_VERSION, ...(result as object | undefined) };
}

async function read(request: IncomingMessage, { body }: Action): Promise<unknown> {
  if (Number(request.headers['content-length'] ?? 0) > MOST_BODY) throw new Refusal(413, 'Too large');
  let length = 0;
  request.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > MOST_BODY) request.destroy();
  });
  const source = await text(request);
  let value: unknown;
  try {
    value = source === '' ? {} : JSON.parse(source);
  } catch {
    throw new Refusal(400, 'The body must be JSON');
  }
  const outcome = body.safeParse(value);
  if (!outcome.success) throw new Refusal(400, z.prettifyError(outcome.error).split('\n').join('; '));
  return outcome.data;
}
