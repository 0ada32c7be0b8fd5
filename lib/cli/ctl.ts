/**
 * `forkbeard ctl`: asks the monitor that runs, over its control socket. Without a path it looks into this user's folder,
 * and clears away what killed monitors have left there.
 */
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { controlFolder } from '../daemon/control-path.ts';
import { ask, isPrivate } from '../daemon/socket-file.ts';
import { board } from '../prefork/board.ts';
import type { PreforkStatus } from '../prefork/contract.ts';
import { invalidOption } from '../sys/errors.ts';

/** Of `ctl` alone: done; refused or failed; wrong usage; no server there. */
export const CTL_EXIT = { done: 0, failed: 1, usage: 2, none: 3 } as const;

class Failed extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode: number = CTL_EXIT.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

const noServer = (message: string) => new Failed(message, CTL_EXIT.none);

export interface CtlFlags {
  control?: string;
  json?: boolean;
  quick?: boolean;
}

/** Gives the exit code; throws errors that have one. */
export async function ctl(name: string, [argument = '']: string[], flags: CtlFlags): Promise<number> {
  if (name === 'status') return status(flags);
  return carryOut((ORDERS[name] as (typeof ORDERS)[string])(argument, flags), flags);
}

async function status({ control, json = false }: CtlFlags): Promise<number> {
  const path = await findSocket(control);
  const said = (await request(path, 'GET', 'status')) as PreforkStatus;
  if (json) {
    process.stdout.write(`${JSON.stringify(said, null, 2)}\n`);
    return CTL_EXIT.done;
  }
  const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
  const rates = await ratesOf(path, said);
  process.stdout.write(`${board(said, rates, { colour }).join('\n')}\n`);
  return CTL_EXIT.done;
}

/** What each worker serves in a second: the difference of two looks. */
async function ratesOf(path: string, first: PreforkStatus): Promise<Map<number, number>> {
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 300));
  const second = (await request(path, 'GET', 'status')) as PreforkStatus;
  const seconds = (performance.now() - began) / 1000;
  const before = new Map(first.workers.map(({ pid, requests }) => [pid, requests]));
  return new Map(
    second.workers.map(({ pid, requests }) => [pid, (requests - (before.get(pid) ?? requests)) / seconds]),
  );
}

/** What a POST asks for, and how its result is told. */
interface Order {
  action: string;
  body: object;
  say: (result: Record<string, unknown>) => string;
}

const order = (action: string, told: string): Order => ({ action, body: {}, say: () => told });

const ORDERS: Readonly<Record<string, (argument: string, flags: CtlFlags) => Order>> = {
  reload: () => order('reload', 'reloaded'),
  drain: () => order('drain', 'drained: no worker is left, the listeners are kept'),
  upgrade: () => order('upgrade', 'upgraded: a new monitor serves'),
  'reopen-logs': () => order('reopen-logs', 'logs opened anew'),
  stop: (_, { quick = false }) => ({
    action: 'stop',
    body: { quick },
    say: ({ code }) => `stopped with exit code ${code}`,
  }),
  workers(wanted) {
    const [, sign, count] = /^([+-]?)(\d{1,4})$/.exec(wanted) ?? [];
    if (count === undefined || (sign === '' && Number(count) === 0))
      throw invalidOption('workers', `workers must be a number of 1 or more, +n or -n, not '${wanted}'`);
    const body = sign === '' ? { to: Number(count) } : { by: Number(`${sign}${count}`) };
    return { action: 'scale', body, say: ({ from, to }) => `${to} workers instead of ${from}` };
  },
  kill(slot) {
    if (!/^[1-9]\d{0,5}$/.test(slot))
      throw invalidOption('slot', `slot must be a worker's number, not '${slot}'`);
    const say = () => `worker ${slot} was killed; another one takes its place`;
    return { action: 'kill', body: { worker: Number(slot) }, say };
  },
};

async function carryOut({ action, body, say }: Order, { control, json = false }: CtlFlags): Promise<number> {
  const path = await findSocket(control);
  const result = (await request(path, 'POST', action, body)) as Record<string, unknown>;
  process.stdout.write(`${json ? JSON.stringify(result) : say(result)}\n`);
  return CTL_EXIT.done;
}

async function request(
  path: string,
  method: 'GET' | 'POST',
  action: string,
  body?: object,
): Promise<unknown> {
  // Reloads and stops take as long as they take.
  const timeout = method === 'GET' ? undefined : 0;
  const answer = await ask(path, method, action, body, timeout).catch((error: Error) => {
    throw noServer(`No server answers at ${path}: ${error.message}`);
  });
  if (answer.status === 200) return answer.body;
  const { error } = answer.body as { error?: { message: string } };
  throw new Failed(error?.message ?? `${path} answered with status ${answer.status}`);
}

// ------------------------------------------------------------------------------------- which one

async function findSocket(named: string | undefined): Promise<string> {
  if (named !== undefined) return resolve(named);
  const folder = controlFolder();
  const found: string[] = [];
  for (const name of isPrivate(folder) ? list(folder) : []) {
    const path = join(folder, name);
    if (await answers(path)) found.push(path);
  }
  if (found.length === 1) return found[0] as string;
  if (found.length === 0)
    throw noServer(`No server of this user's is running (none in ${folder}); --control names one`);
  throw invalidOption(
    'control',
    `${found.length} servers are running; --control says which: ${found.join(', ')}`,
  );
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith('.sock'));
  } catch {
    return [];
  }
}

async function answers(path: string): Promise<boolean> {
  const before = lstatSync(path, { throwIfNoEntry: false });
  if (!before?.isSocket()) return false;
  try {
    await ask(path, 'GET', 'status');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') return false;
    // A socket comes to its path with a listener, so this one had its time. Not if another has come meanwhile.
    if (lstatSync(path, { throwIfNoEntry: false })?.ino === before.ino) rmSync(path, { force: true });
    return false;
  }
}
