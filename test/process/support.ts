/** What the tests of signals and processes share: backends and modes to run in, and ways to wait for events. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Loop, type LoopOptions } from 'forkbeard';
import { afterEach } from 'vitest';

export const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);
/** For programs that come by the thousand: a sanitizer's runtime, which only a Node needs, is tens of megabytes in each. */
export const unsanitized: Record<string, string> = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' };
/** Generous: only a failure takes this long. */
export const PATIENCE = 10_000 * slow;

const asked = (process.env['FORKBEARD_TEST_BACKENDS'] ?? '').split(',').filter((name) => name !== '');
export const backends = asked.length > 0 ? (asked as typeof Loop.backends) : Loop.backends;

/** Makes loops that are closed when the test is over. */
export function loopsOfTest(): (options?: LoopOptions) => Loop {
  const loops: Loop[] = [];
  afterEach(() => {
    for (const loop of loops.splice(0)) loop.close();
  });
  return (options) => {
    const loop = new Loop(options);
    loops.push(loop);
    return loop;
  };
}

export type Mode = 'blocking' | 'integrated';

/** Every backend in both modes. */
export const ways = backends.flatMap((backend) =>
  (['blocking', 'integrated'] as const).map((mode) => ({ backend, mode })),
);

/** What happened, and a way to wait for it in either mode. */
export class Events<T> {
  readonly all: T[] = [];
  readonly #loop: Loop;
  readonly #mode: Mode;
  #check: (() => void) | undefined;

  constructor(loop: Loop, mode: Mode) {
    this.#loop = loop;
    this.#mode = mode;
  }

  readonly push = (event: T): void => {
    this.all.push(event);
    this.#check?.();
  };

  /** Waits until `done`, turning the loop in blocking mode. */
  async until(done: (all: T[]) => boolean): Promise<T[]> {
    if (this.#mode === 'blocking') {
      const deadline = performance.now() + PATIENCE;
      while (!done(this.all)) {
        if (performance.now() > deadline) throw new Error(`Still waiting after ${JSON.stringify(this.all)}`);
        this.#loop.runOnce(PATIENCE / 10);
      }
      return this.all;
    }
    await new Promise<void>((resolve, reject) => {
      const failed = setTimeout(
        () => reject(new Error(`Still waiting after ${JSON.stringify(this.all)}`)),
        PATIENCE,
      );
      this.#check = () => {
        if (!done(this.all)) return;
        this.#check = undefined;
        clearTimeout(failed);
        resolve();
      };
      this.#check();
    });
    return this.all;
  }

  count(wanted: number): Promise<T[]> {
    return this.until((all) => all.length >= wanted);
  }
}

/** A few rounds in which nothing may happen. */
export async function rounds(loop: Loop, mode: Mode, count = 3): Promise<void> {
  for (let i = 0; i < count; i++) {
    if (mode === 'blocking') loop.runOnce(0);
    else await new Promise<void>((resolve) => setImmediate(() => loop.watchIdle(resolve)));
  }
}

/** A line of /proc/<pid>/status that is a set of signals, as their numbers. */
export function signalSet(line: 'SigBlk' | 'SigIgn' | 'SigCgt', pid: number | 'self' = 'self'): number[] {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const bits = BigInt(`0x${new RegExp(`^${line}:\\s*([0-9a-f]+)$`, 'm').exec(text)?.[1]}`);
  return Array.from({ length: 64 }, (_, i) => i + 1).filter((number) => (bits >> BigInt(number - 1)) & 1n);
}

/** 'Z' for a zombie; undefined when there is no such process. */
export function processState(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2];
  } catch {
    return undefined;
  }
}

/** Blocks this thread until the kernel shows what is wanted: for what has to happen while no event is delivered. */
export function spinUntil(done: () => boolean): void {
  const deadline = performance.now() + PATIENCE;
  while (!done()) if (performance.now() > deadline) throw new Error('Still spinning');
}

export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/** Compiles a C fixture into a folder of its own. */
export function compile(name: string): { program: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'forkbeard-'));
  const program = join(folder, name);
  execFileSync('cc', ['-O1', '-o', program, fixture(`${name}.c`)]);
  return { program, remove: () => rmSync(folder, { recursive: true }) };
}

/** The Node that fixtures run in: FORKBEARD_TEST_NODE names another, with a native build for it. */
export const node = process.env['FORKBEARD_TEST_NODE'] ?? process.execPath;

/** For a fixture that shall do without what its kernel has. */
export const without = (missing: string): Around => ({ env: { FORKBEARD_PRETEND_MISSING: missing } });

export interface Around {
  env?: Record<string, string>;
  /** A program that starts it, with arguments. */
  through?: string[];
  flags?: string[];
}

/** Runs a fixture in a process group of its own, which is gone afterwards; what it says last is JSON. */
export async function seenBy(
  name: string,
  args: string[],
  { env = {}, through = [], flags = [] }: Around = {},
): Promise<unknown> {
  const [program, ...rest] = [...through, node, ...flags, fixture(name), ...args] as [string, ...string[]];
  const child = spawn(program, rest, {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '', ...env },
  });
  const killGroup = () => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch {
      // All gone.
    }
  };
  const limit = setTimeout(killGroup, 2 * PATIENCE);
  let stdout = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  const end = await new Promise<number | string>((resolve) =>
    child.on('close', (code, signal) => resolve(code ?? (signal as string))),
  );
  clearTimeout(limit);
  killGroup();
  if (end !== 0) throw new Error(`${name} ${args.join(' ')} ended with ${end}, having said ${stdout}`);
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) as string);
}
