/** What the supervisor's tests share: a shim's events in their order, folders of state, and eyes on processes. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExitStatus } from 'forkbeard';
import { afterAll } from 'vitest';
import type { ShimEvents, ShimOptions, Started } from '../../dist/supervisor/shim.js';
import { PATIENCE } from '../process/support.ts';

type Name = keyof ShimEvents;

/** A shim's events, and a way to wait for one. */
export class Recorder implements ShimEvents {
  readonly names: Name[] = [];
  start: Started | undefined;
  exit: ExitStatus | undefined;
  left: readonly number[] = [];
  error: Error | undefined;
  held: number | undefined;
  steps: { signal: string; to: readonly number[] }[] = [];
  text = '';
  #waiting: { name: Name; count: number; resolve: () => void }[] = [];

  started = (started: Started) => {
    this.start = started;
    this.#note('started');
  };
  refused = (error: Error) => {
    this.error = error;
    this.#note('refused');
  };
  output = (_stream: 'stdout' | 'stderr', data: Buffer) => {
    this.text += data;
    this.#note('output');
  };
  exited = (exit: ExitStatus, left: readonly number[]) => {
    this.exit = exit;
    this.left = left;
    this.#note('exited');
  };
  stopped = () => this.#note('stopped');
  continued = () => this.#note('continued');
  unseen = (error: Error | null) => {
    this.error = error ?? undefined;
    this.#note('unseen');
  };
  flooding = () => this.#note('flooding');
  calm = (held: number) => {
    this.held = held;
    this.#note('calm');
  };
  empty = () => this.#note('empty');
  signalled = (signal: string, to: readonly number[]) => {
    this.steps.push({ signal, to });
    this.#note('signalled');
  };
  stuck = () => this.#note('stuck');
  restored = (error: Error | null) => {
    this.error = error ?? undefined;
    this.#note('restored');
  };
  busy = () => this.#note('busy');
  leaseOver = () => this.#note('leaseOver');
  gone = () => this.#note('gone');

  get pid(): number {
    return (this.start as Started).pid;
  }

  async until(name: Name, count = 1): Promise<this> {
    const seen = () => this.names.filter((one) => one === name).length;
    if (seen() >= count) return this;
    await within(
      `${name} after ${this.names.join(', ')}`,
      new Promise<void>((resolve) => this.#waiting.push({ name, count, resolve })),
    );
    return this;
  }

  /** Until what was relayed holds `text`. */
  async says(text: string): Promise<void> {
    while (!this.text.includes(text)) {
      await this.until('output', this.names.filter((one) => one === 'output').length + 1);
    }
  }

  #note(name: Name): void {
    this.names.push(name);
    for (const one of [...this.#waiting]) {
      if (this.names.filter((other) => other === one.name).length < one.count || one.name !== name) continue;
      this.#waiting = this.#waiting.filter((other) => other !== one);
      one.resolve();
    }
  }
}

/** What takes longer than only a failure would is one. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`Still waiting for ${what}`)), PATIENCE);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}

/** A folder of this file's tests, removed with them. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'forkbeard-'));
  afterAll(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export const shell = (script: string): readonly [string, ...string[]] => ['/bin/sh', '-c', script];

export const environment = (extra: Record<string, string> = {}): Record<string, string> => ({
  PATH: process.env['PATH'] as string,
  FORKBEARD_TEST_FILE: process.env['FORKBEARD_TEST_FILE'] as string,
  ...extra,
});

/** How a service is started that goes with its supervisor. */
export const coupled = (script: string, more: Partial<ShimOptions> = {}): ShimOptions => ({
  command: shell(script),
  env: environment(),
  stdio: { stdout: 'relay', stderr: 'relay' },
  orphaned: [
    { signal: 'TERM', wait: 200 },
    { signal: 'KILL', wait: 1000 },
  ],
  ...more,
});

/** Whether there is such a process, zombies aside. */
export function alive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return !'ZXx'.includes(stat[stat.lastIndexOf(')') + 2] as string);
  } catch {
    return false;
  }
}

/** Living processes with this setting in their environment. */
export function marked(setting: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && alive(pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(setting);
      } catch {
        return false;
      }
    });
}

/** A command that writes a title over its environment, as nginx's workers do. Nobody finds it by that: it ends by itself. */
export const TITLED = `perl -e '$0 = "titled"; sleep 120'`;

/** The one of that process group that has done so. */
export async function titledOf(group: number): Promise<number> {
  let found: number | undefined;
  const isIt = (pid: number) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
      const isOfGroup = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]) === group;
      return (
        isOfGroup &&
        alive(pid) &&
        /^titled\s*$/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ''))
      );
    } catch {
      return false;
    }
  };
  await eventually('a title', () => {
    found = readdirSync('/proc')
      .map(Number)
      .find((pid) => pid > 0 && isIt(pid));
    return found !== undefined;
  });
  return found as number;
}

/** What no event tells of: the state of processes that are nobody's here. */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`Still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

export interface Running {
  readonly pid: number;
  /** The next line that it says, as JSON. */
  next(): Promise<unknown>;
  say(line: string): void;
  kill(signal: NodeJS.Signals): Promise<void>;
}

/** A fixture that runs until it is killed. */
export function run(name: string, args: string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [fixture(name), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  child.stdin.on('error', () => {});
  // Not 'close': what it forked may have its output open.
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  let text = '';
  let waiting: (() => void) | undefined;
  child.stdout.on('data', (chunk) => {
    text += chunk;
    waiting?.();
  });
  const next = async () => {
    while (!text.includes('\n')) {
      await within(
        `a line of ${name}`,
        new Promise<void>((resolve) => {
          waiting = resolve;
        }),
      );
    }
    const end = text.indexOf('\n');
    const line = text.slice(0, end);
    text = text.slice(end + 1);
    return JSON.parse(line) as unknown;
  };
  return {
    pid: child.pid as number,
    next,
    say: (line) => child.stdin.write(`${line}\n`),
    kill: async (signal) => {
      child.kill(signal);
      await within(`the end of ${name}`, ended);
      child.stdin.destroy();
      child.stdout.destroy();
    },
  };
}
