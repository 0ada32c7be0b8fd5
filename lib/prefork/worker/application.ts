/**
 * The application's module: what its default export is, and its hooks. Loaded once in a process, by the mold or by a
 * spawned worker; `serve` is called in each worker and gives the server that the worker attaches.
 *
 * | default export | taken for |
 * |---|---|
 * | a `http.Server` (or https, http2, net) | the server |
 * | an object with `ready()` and a `server` (Fastify) | its server, once it is ready |
 * | an object with `callback()` (Koa) | the listener that `callback()` makes |
 * | a function of two or more parameters (Express, plain http) | a listener |
 * | any other function | a factory `(worker) => one of the above` |
 */
import { spawnSync } from 'node:child_process';
import { createServer, type RequestListener } from 'node:http';
import { Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import type { ApplicationHooks, WorkerInfo } from '../contract.ts';
import { LISTENS_ITSELF } from './endings.ts';
import { Traces } from './traces.ts';

interface FastifyLike {
  server: Server;
  ready(): PromiseLike<unknown>;
  close?(): PromiseLike<unknown>;
}

interface KoaLike {
  callback(): RequestListener;
}

/** What a worker serves with. */
export interface Serving {
  server: Server;
  /** To be called when the last request is answered. */
  close?: () => PromiseLike<unknown>;
}

/** What Node gets to find a syntax error. ms */
const CHECK = 5000;

type Factory = (worker: WorkerInfo) => unknown;

const HOOKS = ['beforeFork', 'afterFork', 'onReady', 'onStop', 'onRequestTimeout'] as const;

export class Application {
  readonly hooks: ApplicationHooks;
  readonly #exported: unknown;
  readonly #traces: Traces;

  private constructor(exported: unknown, hooks: ApplicationHooks, traces: Traces) {
    this.#exported = exported;
    this.hooks = hooks;
    this.#traces = traces;
  }

  static async load(url: string): Promise<Application> {
    let namespace: Record<string, unknown> = {};
    const traces = await Traces.of(async () => {
      namespace = (await imported(url)) as Record<string, unknown>;
    });
    // An error of what was begun, of a listen() for one, comes with the next turn, and is one of loading.
    await new Promise(setImmediate);
    const exported = defaultExport(namespace);
    if (kindOf(exported) === undefined) throw notAccepted('The default export', exported);
    refuseListening(exported);
    return new Application(exported, hooksOf(namespace, exported), traces);
  }

  /** One that is no module's: without hooks. */
  static of(listener: RequestListener): Application {
    return new Application(listener, {}, Traces.none);
  }

  /** In a process that was forked: what a fork forgets of what the module has started. */
  settleIn(): void {
    this.#traces.comeBack();
  }

  async serve(worker: WorkerInfo): Promise<Serving> {
    if (kindOf(this.#exported) !== 'factory') return serving(this.#exported);
    const made = await (this.#exported as Factory)(worker);
    if (kindOf(made) === undefined) throw notAccepted('What the factory returned', made);
    refuseListening(made);
    return serving(made);
  }
}

async function imported(url: string): Promise<unknown> {
  try {
    return await import(url);
  } catch (error) {
    throw error instanceof SyntaxError ? withPlace(error, url) : error;
  }
}

/** Node keeps to itself in which file an ES module has a syntax error, unless nobody catches it. */
function withPlace(error: SyntaxError, url: string): SyntaxError {
  if (/^(?:file:\/\/)?\//.test(error.stack ?? '')) return error;
  const path = fileURLToPath(url);
  const { stderr } = spawnSync(process.execPath, ['--check', path], { encoding: 'utf8', timeout: CHECK });
  const place = stderr?.includes(error.message) ? /^.*:\d+\n.*\n[ ^]+\n/.exec(stderr)?.[0] : undefined;
  if (place === undefined) error.message += ` (in ${path}, or in a module that it loads)`;
  else error.stack = `${place}${error.stack}`;
  return error;
}

async function serving(exported: unknown): Promise<Serving> {
  switch (kindOf(exported)) {
    case 'server':
      return { server: exported as Server };
    case 'fastify': {
      const application = exported as FastifyLike;
      await application.ready();
      return { server: application.server, close: async () => application.close?.() };
    }
    case 'koa':
      return { server: createServer((exported as KoaLike).callback()) };
    default:
      return { server: createServer(exported as RequestListener) };
  }
}

type Kind = 'server' | 'fastify' | 'koa' | 'listener' | 'factory';

function kindOf(value: unknown): Kind | undefined {
  if (value instanceof Server) return 'server';
  if (isMade(value) && typeof value['ready'] === 'function' && value['server'] instanceof Server)
    return 'fastify';
  if (isMade(value) && typeof value['callback'] === 'function' && Array.isArray(value['middleware']))
    return 'koa';
  if (typeof value !== 'function') return undefined;
  return value.length >= 2 ? 'listener' : 'factory';
}

function isMade(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** A CommonJS module that a compiler made of an ES module has its default export one level down. */
function defaultExport(namespace: Record<string, unknown>): unknown {
  const exported = namespace['default'];
  if (isMade(exported) && exported['__esModule'] === true && 'default' in exported)
    return exported['default'];
  return exported;
}

function hooksOf(namespace: Record<string, unknown>, exported: unknown): ApplicationHooks {
  const places = [namespace, namespace['default'], exported] as (Record<string, unknown> | undefined)[];
  const hooks: Record<string, unknown> = {};
  for (const name of HOOKS) {
    const hook = places.map((place) => place?.[name]).find((found) => found !== undefined);
    if (hook === undefined) continue;
    if (typeof hook !== 'function')
      throw new TypeError(`The export ${name} must be a function, and is ${inspect(hook, { depth: 0 })}`);
    hooks[name] = hook;
  }
  return hooks as ApplicationHooks;
}

/** It would have an address of its own, in the mold, and none in the workers. */
function refuseListening(exported: unknown): void {
  const server = kindOf(exported) === 'fastify' ? (exported as FastifyLike).server : exported;
  if (!(server instanceof Server) || !server.listening) return;
  throw new Error(LISTENS_ITSELF);
}

function notAccepted(what: string, value: unknown): TypeError {
  const shown = value === undefined ? 'missing' : inspect(value, { depth: 0 });
  return new TypeError(
    `${what} must be a request listener, an http.Server, a Fastify or Koa application, or a function that makes one of them; it is ${shown}`,
  );
}
