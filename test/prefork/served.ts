/**
 * A server for tests: a monitor in a process of its own (fixtures/monitor.mjs) that tells its events and takes requests,
 * and clients that talk to its workers. Whatever a test leaves behind is killed at its end.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach } from 'vitest';
import type { PreforkEvents, PreforkStatus } from '../../dist/prefork/contract.js';
import type { ServerOptions } from '../../dist/prefork/monitor/server.js';
import type { Plan } from '../../dist/prefork/plan.js';
import { fixture, PATIENCE, plain } from './tiny-monitor.ts';

export { fixture, PATIENCE, type Plan, plain };

/** What was told, by whom, and how many workers served at that moment. */
export type Told = { event: string; at: number; from: number; serving: number } & Record<string, unknown>;
type Fields<Name extends keyof PreforkEvents> = PreforkEvents[Name][0];

const served: Served[] = [];
const folders: string[] = [];

afterEach(async () => {
  for (const one of served.splice(0)) await one.destroy();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A folder that is gone after the test. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'forkbeard-prefork-'));
  folders.push(path);
  return path;
}

/** An application of that text, in a file of its own that the test may write anew. */
export function application(text: string): { path: string; url: string; rewrite(text: string): void } {
  const path = join(folder(), 'app.mjs');
  writeFileSync(path, text);
  return { path, url: pathToFileURL(path).href, rewrite: (other) => writeFileSync(path, other) };
}

/** Answers with its worker, pid and generation. */
export const HELLO = `
let info = {};
export function afterFork(worker) { info = worker; }
export default (req, res) => {
  const { pathname, searchParams } = new URL(req.url, 'http://localhost');
  if (pathname === '/slow') setTimeout(() => res.end('slow'), Number(searchParams.get('ms')));
  else if (pathname === '/spin') for (;;);
  else if (pathname === '/exit') process.exit(Number(searchParams.get('code')));
  else if (pathname === '/throw') setImmediate(() => { throw new Error('thrown'); });
  else if (pathname === '/grow') { const hold = []; for (;;) hold.push(new Array(1000).fill(hold.length)); }
  else res.end(JSON.stringify({ ...info, pid: process.pid, version: VERSION }));
};
const VERSION = 1;
`;

interface Answer {
  value?: unknown;
  error?: { message: string; code?: string };
}

export class Served {
  readonly process: ChildProcess;
  readonly told: Told[] = [];
  readonly exited: Promise<[number | null, string | null]>;
  stderr = '';
  readonly #answers = new Map<number, Answer>();
  #checks = new Set<() => void>();
  #id = 0;
  #rest = '';

  constructor(process: ChildProcess) {
    this.process = process;
    served.push(this);
    process.stderr?.on('data', (chunk) => {
      this.stderr += chunk;
    });
    process.stdout?.on('data', (chunk) => this.#read(String(chunk)));
    this.exited = once(process, 'exit') as Promise<[number | null, string | null]>;
  }

  get pid(): number {
    return this.process.pid as number;
  }

  /** The first event of that name that fits, past or to come. */
  async hears<Name extends keyof PreforkEvents>(
    name: Name,
    fits: (fields: Fields<Name> & Told) => boolean = () => true,
  ): Promise<Fields<Name> & Told> {
    const found = () =>
      this.told.find((told) => told.event === name && fits(told as Fields<Name> & Told)) as
        | (Fields<Name> & Told)
        | undefined;
    await this.until(() => found() !== undefined, `event ${name}`);
    return found() as Fields<Name> & Told;
  }

  all<Name extends keyof PreforkEvents>(name: Name): (Fields<Name> & Told)[] {
    return this.told.filter(({ event }) => event === name) as (Fields<Name> & Told)[];
  }

  until(done: () => boolean, what: string, patience = PATIENCE): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (!done()) return;
        this.#checks.delete(check);
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#checks.delete(check);
        const told = this.told.map((one) => JSON.stringify(one)).join('\n');
        reject(new Error(`Still waiting for ${what} after\n${told}\n${this.stderr}`));
      }, patience);
      this.#checks.add(check);
      check();
    });
  }

  /** Calls a method of the server. */
  async ask(method: string, ...args: unknown[]): Promise<unknown> {
    const id = ++this.#id;
    this.process.stdin?.write(`${JSON.stringify({ id, method, args })}\n`);
    await this.until(() => this.#answers.has(id), `answer to ${method}`, 3 * PATIENCE);
    const { value, error } = this.#answers.get(id) as Answer;
    this.#answers.delete(id);
    if (error !== undefined) throw Object.assign(new Error(error.message), error);
    return value;
  }

  async status(): Promise<PreforkStatus> {
    return (await this.ask('status')) as PreforkStatus;
  }

  kill(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal);
  }

  /** Where it listens. */
  async port(): Promise<number> {
    const { listen } = await this.hears('listening');
    return Number(/:(\d+)$/.exec(listen[0] as string)?.[1]);
  }

  async get(path = '/', agent?: Agent): Promise<{ status: number; body: string }> {
    return get(await this.port(), path, agent);
  }

  async hello(): Promise<{ id: number; pid: number; generation: number; version: number; method: string }> {
    return JSON.parse((await this.get('/')).body);
  }

  /** Whatever is left of it is gone afterwards: the monitor, and with it everybody. */
  async destroy(): Promise<void> {
    const others = new Set(this.told.map(({ from }) => from).filter((pid) => pid > 1));
    for (const pid of others) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Gone by itself.
      }
    }
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill('SIGKILL');
      await this.exited;
    }
  }

  #answered(told: Told): void {
    const { id, value, error } = told as unknown as Answer & { id: number };
    this.#answers.set(id, error === undefined ? { value } : { error });
  }

  #read(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      if (line.startsWith('{"event":"answer"')) this.#answered(JSON.parse(line) as Told);
      else if (line.startsWith('{')) this.told.push(JSON.parse(line) as Told);
      else this.stderr += `${line}\n`;
    }
    for (const check of [...this.#checks]) check();
  }
}

export interface ServeOptions {
  plan?: Partial<Plan>;
  options?: ServerOptions;
  env?: Record<string, string>;
  /** A shell line's beginning: `ulimit -n 20; exec`. */
  before?: string;
  /** Descriptors that it finds from 3 on. */
  descriptors?: number[];
  /** Arguments of `forkbeard serve`, instead of a plan. */
  command?: string[];
  uid?: number;
}

export function serve(app: string, asked: ServeOptions = {}): Served {
  const { plan = {}, options = {}, env = {}, before, descriptors = [], command: flags, uid } = asked;
  const argument = JSON.stringify({ plan: { ...plain, application: app, ...plan }, options });
  const program =
    flags === undefined
      ? [fixture('monitor.mjs'), argument]
      : [fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url)), 'serve', app, ...flags];
  const words = [
    ...(before === undefined ? [] : ['sh', '-c', `${before} "$@"`, 'sh']),
    process.execPath,
    ...program,
  ];
  return new Served(
    spawn(words[0] as string, words.slice(1), {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe', ...descriptors],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    }),
  );
}

/** A request of a client of its own, unless it brings an agent. */
export async function get(
  port: number,
  path = '/',
  agent: Agent = new Agent({ keepAlive: false }),
): Promise<{ status: number; body: string }> {
  const call = request({ host: '127.0.0.1', port, path, agent });
  call.end();
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode ?? 0, body };
}

/** Asks for what ends a worker; nobody answers. */
export function provoke(port: number, path: string): void {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.on('close', () => socket.destroy());
  socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
}

/** Waits until so many workers serve. */
export async function poolIsBack(server: Served, workers: number): Promise<void> {
  for (;;) if ((await server.status()).ready === workers) return;
}

/** Load from wrk for some seconds, and what it says: how many requests there were and how many failed. */
export async function load(
  port: number,
  seconds: number,
  connections = 16,
): Promise<{ requests: number; failed: number; text: string }> {
  const wrk = spawn('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, `http://127.0.0.1:${port}/`]);
  let text = '';
  wrk.stdout.on('data', (chunk) => {
    text += chunk;
  });
  await once(wrk, 'close');
  const requests = Number(/(\d+) requests in/.exec(text)?.[1] ?? 0);
  const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  const answers = Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0);
  const failed =
    answers + (errors === null ? 0 : errors.slice(1).reduce((sum, part) => sum + Number(part), 0));
  return { requests, failed, text };
}

/** Whether there is such a process, and it is no zombie. */
export function lives(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2] !== 'Z';
  } catch {
    return false;
  }
}
