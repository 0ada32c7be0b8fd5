/**
 * Finds processes that tests started and that are still there, by a mark in their environment (/proc/PID/environ), so
 * that a daemon with a session of its own is found as well. Used by the setup of every file and of the whole run.
 * Where there is no /proc it finds nothing.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

export interface Survivor {
  pid: number;
  command: string;
  /** The value of the mark that it carries. */
  mark: string;
}

/** Living processes whose environment has `variable` with a value that starts with `prefix`. */
export function marked(variable: string, prefix: string): Survivor[] {
  if (!existsSync('/proc/self/environ')) return [];
  const found: Survivor[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const environment = read(`/proc/${pid}/environ`).split('\0');
    const own = environment.find((setting) => setting.startsWith(`${variable}=${prefix}`));
    if (own === undefined) continue;
    const command = read(`/proc/${pid}/cmdline`).split('\0').join(' ').trim();
    // A process on its way out has lost its command line but not yet its environment.
    if (command !== '') found.push({ pid, command, mark: own.slice(variable.length + 1) });
  }
  return found;
}

/** As `marked`, after giving those that are just dying up to `patience` milliseconds to be gone. */
export async function survivors(variable: string, prefix: string, patience: number): Promise<Survivor[]> {
  const deadline = performance.now() + patience;
  for (;;) {
    const found = marked(variable, prefix);
    if (found.length === 0 || performance.now() >= deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Ends them, and says who they were. */
export function endAll(found: Survivor[]): string {
  for (const { pid } of found) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It went by itself.
    }
  }
  return found.map(({ pid, command, mark }) => `  ${pid} ${command} (started by ${mark})`).join('\n');
}

// Another user's process, or one that ended between readdir and here.
function read(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
