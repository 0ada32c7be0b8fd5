/** `forkbeard doctor`, run as a person runs it: what it says, and what it exits with. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'forkbeard-doctor-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

function forkbeard(args: string[], nodeArgs: string[] = []): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [...nodeArgs, main, ...args],
      { timeout: 100_000 },
      (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : ((error.code as unknown as number) ?? null), stdout, stderr });
      },
    );
  });
}

interface Report {
  healthy: boolean;
  method: string;
  sections: { title: string; findings: { level: string; subject: string; text: string }[] }[];
}

function application(source: string): string {
  const file = join(folder, `app-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(file, source);
  return file;
}

async function judge(
  source: string,
): Promise<{ code: number | null; findings: Report['sections'][0]['findings'] }> {
  const { code, stdout } = await forkbeard(['doctor', '--json', '--app', application(source)]);
  const report = JSON.parse(stdout) as Report;
  expect(report.healthy).toBe(code === 0);
  return { code, findings: report.sections.at(-1)?.findings ?? [] };
}

describe('forkbeard doctor', { timeout: 120_000 }, () => {
  it('tries a fork and finds work, isolation and entropy in order', async () => {
    const { code, stdout } = await forkbeard(['doctor', '--json']);
    const report = JSON.parse(stdout) as Report;
    expect(report.sections.map(({ title }) => title)).toEqual(['Machine', 'Node', 'A fork, tried']);
    const tried = Object.fromEntries(report.sections.at(-1)?.findings.map((f) => [f.subject, f.level]) ?? []);
    expect(tried).toEqual({ work: 'ok', isolation: 'ok', entropy: 'ok', 'round trip': 'info' });
    expect(report).toMatchObject({ healthy: true, method: 'fork' });
    expect(code).toBe(0);
  });

  it('speaks to people in lines', async () => {
    const { code, stdout } = await forkbeard(['doctor']);
    expect(stdout).toMatch(/^Machine\n/);
    expect(stdout).toMatch(/This can be forked\.\n$/);
    expect(code).toBe(0);
  });

  it('says that a child needs no threads under --single-threaded', async () => {
    const { code, stdout } = await forkbeard(['doctor'], ['--single-threaded']);
    expect(stdout).toContain('--single-threaded');
    expect(code).toBe(0);
  });

  it('refuses with 1 where the inspector is on', async () => {
    const { code, stdout } = await forkbeard(['doctor'], ['--inspect=127.0.0.1:0']);
    expect(stdout).toContain('INSPECTOR');
    expect(code).toBe(1);
  });

  it('judges an application that can be forked', async () => {
    const { code, findings } = await judge('export default (req, res) => res.end("hello");');
    expect(findings.map(({ subject, level }) => [subject, level])).toEqual([
      ['load', 'ok'],
      ['fork', 'ok'],
    ]);
    expect(code).toBe(0);
  });

  it('names the hazard of an application that starts a worker thread', async () => {
    const { code, findings } = await judge(
      "import { Worker } from 'node:worker_threads'; new Worker('setInterval(() => {}, 1000)', { eval: true });",
    );
    expect(findings).toContainEqual(expect.objectContaining({ subject: 'WORKER_THREADS', level: 'fail' }));
    expect(code).toBe(1);
  });

  it('shows why an application cannot be loaded', async () => {
    const { code, findings } = await judge("throw new Error('no database');");
    expect(findings).toEqual([expect.objectContaining({ subject: 'load', level: 'fail' })]);
    expect(findings[0]?.text).toContain('no database');
    expect(code).toBe(1);
  });

  it('shows that an application ends its process', async () => {
    const { code, findings } = await judge("console.error('last words'); process.exit(3);");
    expect(findings[0]?.text).toMatch(/exit code 3[\s\S]*last words/);
    expect(code).toBe(1);
  });

  it('shows that an application crashes, or awaits what never comes', async () => {
    const crashed = await judge(
      "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => setTimeout(() => {}, 60_000));",
    );
    expect(crashed.findings[0]?.text).toBe('it ended its process (signal SIGSEGV)');
    expect(crashed.code).toBe(1);
    const waiting = await judge('await new Promise(() => {});');
    expect(waiting.findings[0]?.text).toContain('never comes');
    expect(waiting.code).toBe(1);
  });

  it('keeps its report apart from what an application prints', async () => {
    const { code, findings } = await judge(
      "console.log('{'); process.stdout.write('x'.repeat(1e6)); console.error('y'.repeat(1e6)); export default () => {};",
    );
    expect(findings[0]).toMatchObject({ subject: 'load', level: 'ok' });
    expect(code).toBe(0);
  });

  it('is content when nobody reads its report to the end', async () => {
    const child = spawn(process.execPath, [main, 'doctor'], { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.destroy();
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    const [code] = await once(child, 'close');
    expect(stderr).toBe('');
    expect(code).toBe(0);
  });

  it('exits with 2 for a command or an option that it does not know, and suggests the nearest', async () => {
    const command = await forkbeard(['docto']);
    expect(command.stderr).toContain('Did you mean doctor?');
    expect(command.code).toBe(2);
    const option = await forkbeard(['doctor', '--jsn']);
    expect(option.stderr).toContain('Did you mean --json?');
    expect(option.code).toBe(2);
  });

  it('says what there is with --help, and which version with --version', async () => {
    const help = await forkbeard(['--help']);
    expect(help.stdout).toContain('doctor');
    expect(help.code).toBe(0);
    const version = await forkbeard(['--version']);
    expect(version.stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
    expect(version.code).toBe(0);
  });
});
