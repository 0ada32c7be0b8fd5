/** What the tests of spawn and runProcess share: loops that are closed, streams that are read, fixtures that are run. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { Loop } from 'forkbeard';
import { afterEach, beforeEach } from 'vitest';

export const linux = process.platform === 'linux';
export const root = process.getuid?.() === 0;
/** Somebody without rights: nobody's usual number. */
export const NOBODY = 65_534;

/** A sanitizer's runtime, which only a Node with our addon needs; some shells do not survive it. */
const preload = process.env['LD_PRELOAD'];
delete process.env['LD_PRELOAD'];
/** For a Node that loads the addon. */
export const nodeEnv = (): Record<string, string | undefined> => ({
  ...process.env,
  ...(preload !== undefined && { LD_PRELOAD: preload }),
});

/** A loop for each test of a file. */
export function loopForEach(): () => Loop {
  let loop: Loop;
  beforeEach(() => {
    loop = new Loop();
  });
  afterEach(() => loop.close());
  return () => loop;
}

/** A folder for each test of a file. */
export function folderForEach(): () => string {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'forkbeard-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  return () => folder;
}

/** All that a stream has to say. */
export async function text(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream as Readable) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** What is open in this process, and where it leads. */
export function openDescriptors(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      found.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The descriptor that read the folder.
    }
  }
  return found;
}

/** Children of this process that have ended or not, as pids. */
export function children(): number[] {
  return readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'latin1')
      .split(' ')
      .filter((pid) => pid !== '')
      .map(Number),
  );
}

export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

export interface FixtureEnd {
  /** The one line of JSON that it printed. */
  said: unknown;
  stderr: string;
  exitCode: number | null;
  signal: string | null;
}

/** Runs a script in a Node of its own. */
export async function runFixture(
  name: string,
  { args = [], env = {} }: { args?: string[]; env?: Record<string, string> } = {},
): Promise<FixtureEnd> {
  const child = spawn(process.execPath, [fixture(name), ...args], { env: { ...nodeEnv(), ...env } });
  const [stdout, stderr, [exitCode, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null, string | null]>,
  ]);
  return { said: stdout === '' ? undefined : JSON.parse(stdout), stderr, exitCode, signal };
}

/** The error that a call throws. */
export function thrown(call: () => unknown): Error & Record<string, unknown> {
  try {
    call();
  } catch (error) {
    return error as Error & Record<string, unknown>;
  }
  throw new Error('It did not throw');
}
