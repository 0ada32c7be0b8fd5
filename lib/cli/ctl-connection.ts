/**
 * Who is there to be asked: finds the control socket, says which program answers there, and asks it. Without a path it
 * looks into this user's folder, and clears away what killed programs have left there. Used by ctl.ts and its tables.
 */
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { CONTROL_NAME, controlFolder } from '../daemon/control-path.ts';
import { ask, feed, isPrivate } from '../daemon/socket-file.ts';
import { invalidOption } from '../sys/errors.ts';

/** Of `ctl` alone: done; refused or failed; wrong usage; nobody there. */
export const CTL_EXIT = { done: 0, failed: 1, usage: 2, none: 3 } as const;

export class Failed extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode: number = CTL_EXIT.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

const nobody = (message: string) => new Failed(message, CTL_EXIT.none);

export class Connection {
  readonly path: string;
  /** `server` or `supervisor`. */
  readonly program: string;

  /** The one at that path, or the only one of this user's. */
  static async find(named: string | undefined): Promise<Connection> {
    if (named === undefined) return onlyOne();
    const path = resolve(named);
    return new Connection(path, await programAt(path));
  }

  constructor(path: string, program: string) {
    this.path = path;
    this.program = program;
  }

  get(action: string): Promise<unknown> {
    return request(this.path, 'GET', action);
  }

  post(action: string, body: object): Promise<unknown> {
    return request(this.path, 'POST', action, body);
  }

  /** Lines, until there are no more. */
  async follow(action: string, onLine: (line: string) => void): Promise<void> {
    const refusal = await feed(this.path, action, onLine).catch((error: Error) => {
      throw nobody(`The ${this.program} at ${this.path} has gone: ${error.message}`);
    });
    if (refusal !== null) throw refused(this.path, refusal.status, refusal.body);
  }
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
    throw nobody(`Nobody answers at ${path}: ${error.message}`);
  });
  if (answer.status === 200) return answer.body;
  throw refused(path, answer.status, answer.body);
}

function refused(path: string, status: number, body: unknown): Failed {
  const { error } = body as { error?: { message: string } };
  return new Failed(error?.message ?? `${path} answered with status ${status}`);
}

async function programAt(path: string): Promise<string> {
  const { program } = await ask(path, 'GET', 'status').catch((error: Error) => {
    throw nobody(`Nobody answers at ${path}: ${error.message}`);
  });
  return program;
}

// ------------------------------------------------------------------------------------- which one

async function onlyOne(): Promise<Connection> {
  const folder = controlFolder();
  const found: Connection[] = [];
  for (const name of isPrivate(folder) ? list(folder) : []) {
    const path = join(folder, name);
    const program = await whoAnswers(path);
    if (program !== null) found.push(new Connection(path, program));
  }
  const [first] = found;
  if (first === undefined)
    throw nobody(
      `No server or supervisor of this user's is running (none in ${folder}); --control names one`,
    );
  if (found.length === 1) return first;
  const several = found.map(({ path, program }) => `${path} (${program})`).join(', ');
  throw invalidOption('control', `${found.length} are running; --control says which: ${several}`);
}

function list(folder: string): string[] {
  try {
    // Sockets of services may lie beside them, and are none of ours.
    return readdirSync(folder).filter((name) => CONTROL_NAME.test(name));
  } catch {
    return [];
  }
}

async function whoAnswers(path: string): Promise<string | null> {
  const before = lstatSync(path, { throwIfNoEntry: false });
  if (!before?.isSocket()) return null;
  try {
    return (await ask(path, 'GET', 'status')).program;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') return null;
    // A socket comes to its path with a listener, so this one had its time. Not if another has come meanwhile.
    if (lstatSync(path, { throwIfNoEntry: false })?.ino === before.ino) rmSync(path, { force: true });
    return null;
  }
}
