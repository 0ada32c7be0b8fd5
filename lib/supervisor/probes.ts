/**
 * Questions to a running service: does it answer on a port, over HTTP, or to a program that asks it? Each is one try with
 * one limit; what becomes of the answers is health.ts's. A probe never changes what it asks about.
 */
import { request } from 'node:http';
import { connect } from 'node:net';
import type { Loop } from '../process/loop.ts';

export type Probe =
  | { readonly tcp: number; readonly host?: string }
  | { readonly http: string; readonly status?: readonly number[] }
  | { readonly exec: readonly [string, ...string[]] };

export interface ProbeAround {
  readonly loop: Loop;
  /** ms */
  readonly timeout: number;
  /** What a program that asks runs in. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string | undefined;
}

/** Null when the answer is good, else what is wrong with it. Never rejects, and is over when the time is. */
export function ask(probe: Probe, around: ProbeAround): Promise<string | null> {
  if ('tcp' in probe) return askPort(probe.host ?? '127.0.0.1', probe.tcp, around);
  if ('http' in probe) return askHttp(probe.http, probe.status, around);
  return askProgram(probe.exec, around);
}

const late = (timeout: number) => `no answer within ${timeout} ms`;

function askPort(host: string, port: number, { timeout }: ProbeAround): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const timer = setTimeout(() => settle(late(timeout)), timeout);
    const settle = (problem: string | null) => {
      clearTimeout(timer);
      // Not with a reset, which a server may log as an error.
      if (problem === null) socket.end();
      else socket.destroy();
      resolve(problem);
    };
    socket.once('connect', () => settle(null));
    socket.on('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
    socket.unref();
  });
}

function askHttp(
  url: string,
  good: readonly number[] | undefined,
  { timeout }: ProbeAround,
): Promise<string | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => settle(late(timeout)), timeout);
    // A connection of its own: one that is kept would say that an old process lives.
    const asking = request(url, { agent: false, headers: { connection: 'close' } });
    const settle = (problem: string | null) => {
      clearTimeout(timer);
      asking.destroy();
      resolve(problem);
    };
    asking.once('response', ({ statusCode = 0 }) => {
      const fine = good === undefined ? statusCode >= 200 && statusCode < 400 : good.includes(statusCode);
      settle(fine ? null : `status ${statusCode}`);
    });
    asking.on('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message));
    asking.end();
  });
}

async function askProgram(
  command: readonly [string, ...string[]],
  { loop, timeout, env, cwd }: ProbeAround,
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
    });
    if (exitCode === 0) return null;
    return exitCode === null ? `the program was ended by ${signal}` : `the program ended with ${exitCode}`;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ERR_FORKBEARD_TIMEOUT') return late(timeout);
    return message;
  }
}
