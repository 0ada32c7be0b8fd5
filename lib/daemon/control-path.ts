/**
 * Where control sockets are when nobody says: in a folder of the user's, one socket a program, so that `forkbeard ctl`
 * finds the one that runs. Called by programs that make one and by the command `ctl`; makes nothing.
 */
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

export function controlFolder(): string {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  if (runtime?.startsWith('/')) return join(runtime, 'forkbeard');
  const uid = process.getuid?.() ?? 0;
  // Debian, Alpine and macOS agree on nothing better for somebody without a session.
  return uid === 0 && process.platform === 'linux' ? '/run/forkbeard' : join(tmpdir(), `forkbeard-${uid}`);
}

let servers = 0;

/** What is called so in that folder is a control socket, and nothing else is. */
export const CONTROL_NAME = /^\d+(-\d+)?\.ctl$/;

/** Whether a path is one that `defaultControlPath` gives, to whomever. */
export function isDefaultControlPath(path: string): boolean {
  return dirname(path) === controlFolder() && CONTROL_NAME.test(basename(path));
}

/** Another one for each server of a process. */
export function defaultControlPath(): string {
  const suffix = servers++ === 0 ? '' : `-${servers}`;
  return join(controlFolder(), `${process.pid}${suffix}.ctl`);
}
