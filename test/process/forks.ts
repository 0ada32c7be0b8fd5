/**
 * Runs the scripts that fork (fixtures/fork*.mjs), each in a process of its own with its own descriptors: a forked child
 * that hangs would hold on to the runner's.
 */
import { spawn } from 'node:child_process';
import { expect } from 'vitest';
import { nodeEnv } from './programs.ts';
import { fixture, node, PATIENCE } from './support.ts';

export interface Run {
  result: unknown;
  stdout: string;
  stderr: string;
  status: number | null;
}

export interface How {
  flags?: string[];
  through?: string[];
  ipc?: (message: string) => void;
}

/** Runs a case in a process group of its own, which is gone afterwards, whatever became of it. */
export async function runForks(
  script: string,
  args: string[],
  { flags = [], through = [], ipc }: How = {},
): Promise<Run> {
  const command = [...through, node, ...flags, fixture(script), ...args];
  const child = spawn(command[0] as string, command.slice(1), {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', ...(ipc === undefined ? [] : ['ipc' as const])],
    env: { ...nodeEnv(), NODE_OPTIONS: '' },
  });
  if (ipc !== undefined) child.on('message', ipc);
  const killGroup = () => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch {
      // All gone.
    }
  };
  const limit = setTimeout(killGroup, 2 * PATIENCE);
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearTimeout(limit);
  killGroup();
  const last = stdout.trimEnd().split('\n').at(-1) ?? '';
  return { result: last === '' ? undefined : JSON.parse(last), stdout, stderr, status };
}

/** What a script saw, when it came to its end. */
export async function saw<T>(script: string, ...args: string[]): Promise<T> {
  const { result, status, stderr } = await runForks(script, args);
  expect(status, stderr).toBe(0);
  return result as T;
}
