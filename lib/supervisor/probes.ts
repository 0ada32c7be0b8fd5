/**
 * Questions to a running service: does it answer on a port or a unix socket, over HTTP on either, or to a program that
 * asks it? Each is one try with one limit; what becomes of the answers is health.ts's. A probe never changes what it asks
 * about.
 */
import type { RequestOptions } from 'node:http';
import { connect, type NetConnectOpts } from 'node:net';
import { resolve as absolute } from 'node:path';
import { span } from '../daemon/words.ts';
import type { Loop } from '../process/loop.ts';
import { close, socket } from '../sys/index.ts';
import { isShortage } from './attempt.ts';
import { type Answer, NotAsked } from './health.ts';

export type Probe =
  /** Connects. `host`: 127.0.0.1 by default. */
  | { readonly tcp: number; readonly host?: string }
  /** GET. With `unix`, over that unix socket, and the URL may be a path alone. Good: 200 to 399, or `status`. */
  | { readonly http: string; readonly status?: readonly number[]; readonly unix?: string }
  /** Connects to a unix socket. */
  | { readonly unix: string }
  /** Good: exit code 0. */
  | { readonly exec: readonly [string, ...string[]] };

export interface ProbeAround {
  readonly loop: Loop;
  /** ms */
  readonly timeout: number;
  /** What a program that asks runs in. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string | undefined;
  /** Ends a program that asks, with all of its group. */
  readonly signal?: AbortSignal;
}

/** Null when the answer is good, else what is wrong with it. Never rejects, and is over when the time is. */
export async function ask(probe: Probe, around: ProbeAround): Promise<Answer> {
  const answer = await answerOf(probe, around);
  // What a look-up, or a program that asks, makes of our want of descriptors has many names: it is looked at here.
  return typeof answer === 'string' && !hasDescriptors() ? new NotAsked('EMFILE') : answer;
}

/** Two: what is asked takes one for its answer, and looks its name up in another. */
function hasDescriptors(): boolean {
  const taken: number[] = [];
  try {
    for (let i = 0; i < 2; i++) taken.push(socket('unix', 'stream'));
    return true;
  } catch (error) {
    return !isShortage(error);
  } finally {
    for (const fd of taken) close(fd);
  }
}

async function answerOf(probe: Probe, around: ProbeAround): Promise<Answer> {
  // A relative path is the service's.
  const place = (path: string) => absolute(around.cwd ?? '.', path);
  try {
    if ('exec' in probe) return await askProgram(probe.exec, around);
    if ('http' in probe) {
      const socket = probe.unix === undefined ? undefined : place(probe.unix);
      return await askHttp(new URL(probe.http, 'http://localhost'), socket, probe.status, around);
    }
    if ('unix' in probe) return await askListener({ path: place(probe.unix) }, around);
    return await askListener({ host: probe.host ?? '127.0.0.1', port: probe.tcp }, around);
  } catch (error) {
    return 'exec' in probe && isShortage(error) ? new NotAsked(reason(error)) : reason(error);
  }
}

/** Of a socket: what we lack. Not EAGAIN, by which a unix socket says that it has too many already. */
const OURS: readonly (string | undefined)[] = ['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS'];

function socketProblem(error: NodeJS.ErrnoException): Answer {
  return OURS.includes(error.code) ? new NotAsked(error.code as string) : reason(error);
}

const late = (timeout: number) => `no answer within ${span(timeout)}`;

function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code?.startsWith('E') === true && !code.startsWith('ERR_') ? code : message;
}

function askListener(address: NetConnectOpts, { timeout }: ProbeAround): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connect(address);
    const timer = setTimeout(() => settle(late(timeout)), timeout);
    const settle = (problem: Answer) => {
      clearTimeout(timer);
      // Not with a reset, which a server may log as an error.
      if (problem === null) socket.end();
      else socket.destroy();
      resolve(problem);
    };
    socket.once('connect', () => settle(null));
    socket.on('error', (error) => settle(socketProblem(error)));
    socket.unref();
  });
}

async function askHttp(
  url: URL,
  socket: string | undefined,
  good: readonly number[] | undefined,
  { timeout }: ProbeAround,
): Promise<Answer> {
  const { request } = url.protocol === 'https:' ? await import('node:https') : await import('node:http');
  const options: RequestOptions & { rejectUnauthorized: boolean } = {
    // A connection of its own: one that is kept would say that an old process lives.
    agent: false,
    headers: { connection: 'close' },
    // Whether it answers is asked, and not whether it is whom it says.
    rejectUnauthorized: false,
    ...(socket === undefined ? {} : { socketPath: socket }),
  };
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle(late(timeout)), timeout);
    const asking = request(url, options);
    const settle = (problem: Answer) => {
      clearTimeout(timer);
      asking.destroy();
      resolve(problem);
    };
    asking.once('response', ({ statusCode = 0 }) => {
      const fine = good === undefined ? statusCode >= 200 && statusCode < 400 : good.includes(statusCode);
      settle(fine ? null : `status ${statusCode}`);
    });
    asking.on('error', (error) => settle(socketProblem(error)));
    asking.end();
  });
}

async function askProgram(
  command: readonly [string, ...string[]],
  { loop, timeout, env, cwd, signal: unwanted }: ProbeAround,
): Promise<string | null> {
  try {
    const where = cwd === undefined ? {} : { cwd };
    // A group of its own, so that nothing of it is left when its time is over.
    const { exitCode, signal } = await loop.runProcess({
      command,
      env,
      group: 'new',
      timeout,
      cancelSignal: 'SIGKILL',
      ...where,
      ...(unwanted === undefined ? {} : { signal: unwanted }),
    });
    if (exitCode === 0) return null;
    return exitCode === null ? `the program was ended by ${signal}` : `the program ended with ${exitCode}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_FORKBEARD_TIMEOUT') return late(timeout);
    throw error;
  }
}
