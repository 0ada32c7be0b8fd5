/**
 * A control socket: a program's status and its reins as versioned JSON over HTTP on a unix socket that only its owner may
 * open. What a request may ask for is the program's own table, its face. `forkbeard ctl` is one client; curl is another:
 *
 *     curl --unix-socket /run/app.ctl http://./v1/status
 *     curl --unix-socket /run/app.ctl -X POST -d '{"by":1}' http://./v1/scale
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { peerCredentials } from '../sys/index.ts';
import { type Claim, CONTROL_VERSION, claim, PROGRAM_HEADER } from './socket-file.ts';

const MOST_BODY = 64 * 1024;
/** What replies under way get when the program has ended. */
const LAST_WORDS_MS = 1000;

/** The body of an action that needs none. */
export const nothing = z.strictObject({});

export interface Action<T> {
  body: z.ZodType;
  /** Its result is the reply, `{}` without one. */
  run: (target: T, body: never) => unknown;
}

/** What is read on and on: one object a line, until there is no more, or nobody reads. */
export interface Feed<T> {
  query: z.ZodType;
  open: (target: T, query: never, signal: AbortSignal) => AsyncIterable<object>;
}

export interface ControlFace<T> {
  /** Who answers: every answer says it. */
  program: 'server' | 'supervisor';
  status: (target: T) => unknown;
  /** By the name of a POST. */
  actions: Readonly<Record<string, Action<T>>>;
  /** By the name of a GET. */
  feeds?: Readonly<Record<string, Feed<T>>>;
}

/** What is not done, and why; `status` is HTTP's. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class ControlSocket<T> {
  readonly #claim: Claim;
  readonly #face: ControlFace<T>;
  readonly #replies = new Set<Promise<void>>();
  readonly #ended = new AbortController();
  #http: Server | undefined;
  #target: T | undefined;

  protected constructor(claimed: Claim, face: ControlFace<T>) {
    this.#claim = claimed;
    this.#face = face;
  }

  /** Throws `ERR_FORKBEARD_INVALID_OPTION` when the path cannot be had: somebody else's, or no socket at all. */
  static async openFor<T>(path: string, face: ControlFace<T>): Promise<ControlSocket<T>> {
    const control = new ControlSocket<T>(await claim(path), face);
    await control.begin();
    return control;
  }

  /** While the one that we are to follow answers, it keeps the socket. */
  protected async begin(): Promise<void> {
    if (!this.succeeds) await this.publish();
  }

  /** The program that is running already is the one which started this process, to hand over to it. */
  get succeeds(): boolean {
    return this.#claim.predecessor !== undefined;
  }

  get isOurs(): boolean {
    return this.#claim.isOurs();
  }

  /** Whom it is about from now on. */
  attach(target: T): void {
    this.#target = target;
  }

  /** Lets replies under way go out, and takes the socket away if it is still this one's. */
  async close(): Promise<void> {
    this.#claim.remove();
    this.#ended.abort();
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

  async publish(): Promise<void> {
    this.#http?.close();
    this.#http = createServer((request, response) => {
      const reply = this.#answer(request, response).finally(() => this.#replies.delete(reply));
      this.#replies.add(reply);
    });
    // Once it listens, a connection that cannot be accepted is no reason to end.
    this.#http.on('error', () => {});
    this.#http.on('connection', (socket) => {
      if (!isFriend(socket)) socket.destroy();
    });
    await this.#claim.publish(this.#http);
  }

  // ---------------------------------------------------------------------------------- requests

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader(PROGRAM_HEADER, this.#face.program);
    let status = 200;
    let body: unknown;
    try {
      const result = await this.#handle(request, response);
      if (isFeed(result)) {
        await this.#stream(result, response);
        return;
      }
      body = result ?? {};
    } catch (error) {
      const { message, code, status: refused } = error as Error & { code?: string; status?: number };
      // Not a refusal of ours: the program could not, and says why.
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

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const { program, status, actions, feeds = {} } = this.#face;
    const target = this.#target;
    const [path = '', query = ''] = (request.url ?? '').split('?');
    const [, version, name = '', ...rest] = path.split('/');
    if (version !== `v${CONTROL_VERSION}` || rest.length > 0)
      throw new Refusal(
        404,
        `This ${program} speaks version ${CONTROL_VERSION}: /v${CONTROL_VERSION}/status`,
      );
    if (target === undefined) throw new Refusal(503, `The ${program} is starting`);
    const isRead = name === 'status' || Object.hasOwn(feeds, name);
    const action = Object.hasOwn(actions, name) ? actions[name] : undefined;
    if (!isRead && action === undefined) {
      const known = ['status', ...Object.keys(feeds), ...Object.keys(actions)];
      throw new Refusal(404, `There is no ${name}: there are ${known.join(', ')}`);
    }
    const method = isRead ? 'GET' : 'POST';
    if (request.method !== method) throw new Refusal(405, `${name} is asked for with ${method}`);
    if (name === 'status') return status(target);
    if (action !== undefined) {
      const result = await action.run(target, checked(action.body, await read(request)) as never);
      return { version: CONTROL_VERSION, ...(result as object | undefined) };
    }
    const { query: schema, open } = feeds[name] as Feed<T>;
    const wanted = checked(schema, Object.fromEntries(new URLSearchParams(query)));
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    return open(target, wanted as never, AbortSignal.any([gone.signal, this.#ended.signal]));
  }

  async #stream(lines: AsyncIterable<object>, response: ServerResponse): Promise<void> {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.flushHeaders();
    for await (const line of lines) {
      if (response.destroyed) return;
      if (!response.write(`${JSON.stringify(line)}\n`)) {
        await new Promise<void>((resolve) => {
          const go = () => {
            response.off('drain', go);
            response.off('close', go);
            resolve();
          };
          response.on('drain', go);
          response.on('close', go);
        });
      }
    }
    response.end();
  }
}

/** The file's mode says it already; where somebody has changed that, this does not change. */
function isFriend(socket: Socket): boolean {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  try {
    const { uid } = peerCredentials(handle?.fd ?? -1);
    return uid === 0 || uid === process.geteuid?.();
  } catch {
    // Gone already.
    return false;
  }
}

function isFeed(result: unknown): result is AsyncIterable<object> {
  return typeof result === 'object' && result !== null && Symbol.asyncIterator in result;
}

async function read(request: IncomingMessage): Promise<unknown> {
  if (Number(request.headers['content-length'] ?? 0) > MOST_BODY) throw new Refusal(413, 'Too large');
  let length = 0;
  request.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length > MOST_BODY) request.destroy();
  });
  const source = await text(request);
  try {
    return source === '' ? {} : JSON.parse(source);
  } catch {
    throw new Refusal(400, 'The body must be JSON');
  }
}

function checked(schema: z.ZodType, value: unknown): unknown {
  const outcome = schema.safeParse(value);
  if (!outcome.success) throw new Refusal(400, z.prettifyError(outcome.error).split('\n').join('; '));
  return outcome.data;
}
