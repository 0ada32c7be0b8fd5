/** `forkbeard serve` or `supervise`, run as a person runs it, and its log as events. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach } from 'vitest';

export const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
export const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);

/** Where control sockets and all else of these tests go. */
export const folder = mkdtempSync(join(tmpdir(), 'forkbeard-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

export interface LogLine extends Record<string, unknown> {
  event: string;
}

const running = new Set<Serving>();
afterEach(async () => {
  for (const serving of running) await serving.kill();
});

export class Serving {
  readonly lines: LogLine[] = [];
  /** What was no JSON. */
  other = '';
  stderr = '';
  readonly child: ChildProcess;
  /** When nobody can write to its output any more: neither it nor who took over from it. */
  readonly closed: Promise<unknown>;
  readonly ended: Promise<number | null>;
  #check: () => void = () => {};

  constructor(
    args: readonly string[],
    options: {
      env?: Record<string, string>;
      cwd?: string;
      nodeArgs?: string[];
      command?: 'serve' | 'supervise';
    } = {},
  ) {
    this.child = spawn(
      process.execPath,
      [...(options.nodeArgs ?? []), main, options.command ?? 'serve', ...args],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        cwd: options.cwd ?? folder,
        env: { ...process.env, XDG_RUNTIME_DIR: folder, ...options.env },
      },
    );
    createInterface(this.child.stdout as NodeJS.ReadableStream).on('line', (line) => {
      try {
        this.lines.push(JSON.parse(line));
      } catch {
        this.other += `${line}\n`;
      }
      this.#check();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
    });
    this.ended = once(this.child, 'exit').then(([code]) => code);
    this.closed = once(this.child, 'close').then(() => {
      running.delete(this);
      this.#check();
    });
    running.add(this);
  }

  /** The exit code, once all that was said has been heard. */
  get exited(): Promise<number | null> {
    return this.closed.then(() => this.ended);
  }

  /** The first line of the event, or the nth. */
  async event(name: string, nth = 1): Promise<LogLine> {
    const find = () => this.lines.filter(({ event }) => event === name)[nth - 1];
    await new Promise<void>((resolve, reject) => {
      const fail = () =>
        reject(new Error(`No ${nth}. ${name}:\n${JSON.stringify(this.lines)}\n${this.stderr}`));
      const limit = setTimeout(fail, 15_000 * slow);
      this.#check = () => {
        if (find() !== undefined) resolve();
        else if (this.child.exitCode !== null || this.child.signalCode !== null) fail();
        else return;
        clearTimeout(limit);
      };
      this.#check();
    });
    return find() as LogLine;
  }

  /** Once it is ready: where it answers, for fetch. */
  async url(): Promise<string> {
    await this.event('ready');
    const { listen } = (await this.event('listening')) as unknown as { listen: string[] };
    return (listen[0] as string).replace('tcp:', 'http:');
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.child.kill(signal);
    return this.exited;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** Listening wherever there is room. */
export function serve(
  application: string,
  args: readonly string[] = [],
  options: ConstructorParameters<typeof Serving>[1] = {},
): Serving {
  return new Serving([application, '--workers', '2', '--listen', 'tcp://127.0.0.1:0', ...args], options);
}

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Any other command, to its end. */
export async function forkbeard(
  args: string[],
  options: { env?: Record<string, string>; cwd?: string } = {},
): Promise<Outcome> {
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd ?? folder,
    env: { ...process.env, XDG_RUNTIME_DIR: folder, ...options.env },
  });
  const outcome: Outcome = { code: null, stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => {
    outcome.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    outcome.stderr += text;
  });
  [outcome.code] = await once(child, 'close');
  return outcome;
}
