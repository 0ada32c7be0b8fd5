/**
 * The file of a unix socket that a program listens at for itself: who has it, taking it without a moment in which others
 * could open it, and giving up nothing but one's own. Used by the control socket and its client.
 */
import { chmodSync, lstatSync, renameSync, rmSync, type Stats } from 'node:fs';
import { request as httpRequest, type IncomingMessage, type Server } from 'node:http';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { invalidOption } from '../sys/errors.ts';
import { makeFolders } from '../sys/make-folders.ts';
import { controlFolder } from './control-path.ts';
import { EXIT } from './exit-codes.ts';

/** In every path: a client of another version is told so. */
export const CONTROL_VERSION = 1;
/** In every answer: who it is. */
export const PROGRAM_HEADER = 'x-forkbeard-program';
const ASK_TIMEOUT_MS = 5000;

export interface Claim {
  /** The pid of whoever has it, when that is the one which started this process. */
  predecessor: number | undefined;
  /** Binds beside the path, closes it to others, and then puts it in its place: whoever opens the path finds a listener. */
  publish(server: Server): Promise<void>;
  isOurs(): boolean;
  /** Nothing when somebody else has taken the path over. */
  remove(): void;
}

export async function claim(path: string): Promise<Claim> {
  const predecessor = await occupant(path);
  makeFolder(dirname(path));
  let own: Stats | undefined;
  const isOurs = () => {
    const there = stat(path);
    return own !== undefined && there !== undefined && there.ino === own.ino && there.dev === own.dev;
  };
  return {
    predecessor,
    isOurs,
    async publish(server) {
      const beside = `${path}.${process.pid}`;
      rmSync(beside, { force: true });
      // Bound with no right for others: there is no moment before the chmod.
      const before = process.umask(0o177);
      try {
        await new Promise<void>((resolve, reject) => {
          server.once('error', reject);
          server.listen(beside, () => {
            server.off('error', reject);
            resolve();
          });
          process.umask(before);
        });
        chmodSync(beside, 0o600);
        own = lstatSync(beside);
        renameSync(beside, path);
      } catch (error) {
        process.umask(before);
        throw refused(path, (error as Error).message, error);
      }
    },
    remove() {
      if (isOurs()) rmSync(path, { force: true });
    },
  };
}

/** Throws when the path is taken; gives the pid of a predecessor; undefined when it is free or its owner is gone. */
async function occupant(path: string): Promise<number | undefined> {
  const there = stat(path);
  if (there === undefined) return undefined;
  if (!there.isSocket()) throw refused(path, 'it exists and is no socket');
  const answer = await ask(path, 'GET', 'status').catch((error: NodeJS.ErrnoException) => error);
  if (answer instanceof Error) {
    // Nobody listens any more: its server was killed.
    if ('code' in answer && (answer.code === 'ECONNREFUSED' || answer.code === 'ENOENT')) return undefined;
    throw refused(path, answer.message);
  }
  const { pid } = answer.body as { pid?: number };
  // It may be starting still and not know its status: it is there.
  if (pid === process.ppid) return pid;
  throw refused(
    path,
    `${pid === undefined ? 'another program' : `the ${answer.program} with pid ${pid}`} listens there`,
  );
}

function makeFolder(folder: string): void {
  if (stat(folder) !== undefined) {
    // Its name can be guessed, and in /tmp anybody may have made it.
    if (folder === controlFolder() && !isPrivate(folder))
      throw refused(folder, 'the folder is not this user’s alone; --control names another place');
    return;
  }
  try {
    // The usual one is a supervisor's as well, whose services of other users find their sockets by name.
    makeFolders(folder, folder === controlFolder() ? 0o711 : 0o700);
  } catch (error) {
    throw refused(folder, (error as Error).message, error);
  }
}

/** Nobody else can put anything there, or take it away. */
export function isPrivate(folder: string): boolean {
  try {
    const there = lstatSync(folder);
    return there.isDirectory() && there.uid === process.getuid?.() && (there.mode & 0o022) === 0;
  } catch {
    return false;
  }
}

function refused(path: string, why: string, cause?: unknown): Error {
  const { code } = (cause ?? {}) as NodeJS.ErrnoException;
  const exitCode = code === 'EACCES' || code === 'EPERM' ? EXIT.noPermission : EXIT.addressInUse;
  const error = invalidOption('control', `The control socket cannot be at ${path}: ${why}`, exitCode);
  if (cause !== undefined) error.cause = cause;
  return error;
}

/** Undefined when there is nothing. Throws when that is not to be known: in another user's folder, say. */
function stat(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw refused(path, `${(error as Error).message}; --control names another place`, error);
  }
}

// ------------------------------------------------------------------------------------- the other side

export interface Answer {
  /** Who answers: `server` or `supervisor`. */
  program: string;
  status: number;
  body: unknown;
}

/** One request to the control socket at a path. Without `timeout`, as long as it takes. */
export function ask(
  path: string,
  method: 'GET' | 'POST',
  action: string,
  body?: object,
  timeout = ASK_TIMEOUT_MS,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        socketPath: path,
        path: `/v${CONTROL_VERSION}/${action}`,
        method,
        headers: { host: 'localhost' },
        agent: false,
        timeout,
      },
      (response) => {
        text(response)
          .then(
            (said) =>
              resolve({
                program: programOf(response),
                status: response.statusCode ?? 0,
                body: JSON.parse(said),
              }),
            reject,
          )
          .catch(reject);
      },
    );
    request.on('timeout', () => request.destroy(new Error('it does not answer')));
    request.on('error', reject);
    request.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** The name of whoever answered, if it is one of ours. */
export function programOf({ headers }: IncomingMessage): string {
  return String(headers[PROGRAM_HEADER] ?? 'program');
}

/** Lines of a feed, until it ends. Null then, or what was answered in its place. */
export function feed(path: string, action: string, onLine: (line: string) => void): Promise<Answer | null> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        socketPath: path,
        path: `/v${CONTROL_VERSION}/${action}`,
        headers: { host: 'localhost' },
        agent: false,
      },
      (response) => {
        const { statusCode = 0 } = response;
        if (statusCode !== 200) {
          text(response)
            .then((said) =>
              resolve({ program: programOf(response), status: statusCode, body: JSON.parse(said) }),
            )
            .catch(reject);
          return;
        }
        response.on('error', reject);
        createInterface(response)
          .on('line', onLine)
          .once('close', () => resolve(null));
      },
    );
    request.on('error', reject);
    request.end();
  });
}
