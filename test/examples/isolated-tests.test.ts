/** examples/isolated-tests, run as it stands: files of a suite in forked children that cannot spoil one another. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const example = (name: string) =>
  fileURLToPath(new URL(`../../examples/isolated-tests/${name}`, import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'forkbeard-isolated-'));
afterAll(() => rmSync(folder, { recursive: true }));

function run(files: string[]): Promise<{ code: number | null; stdout: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [example('run.mjs'), ...files], { timeout: 100_000 }, (error, stdout) => {
      resolve({ code: error === null ? 0 : ((error.code as unknown as number) ?? null), stdout });
    });
  });
}

describe('examples/isolated-tests', { timeout: 120_000 }, () => {
  it('runs files that would spoil one another in one process', async () => {
    const files = ['one', 'other'].map((name) => example(`suite/pollution-${name}.test.mjs`));
    const { code, stdout } = await run(files);
    expect(stdout).toMatch(/a forked child for each\s+2 of 2 files passed/);
    expect(code).toBe(0);
  });

  it('shows what a failing file said, and exits with 1', async () => {
    const file = join(folder, 'failing.test.mjs');
    writeFileSync(
      file,
      "import { test } from 'node:test';\ntest('fails', () => { throw new Error('as it should'); });\n",
    );
    const { code, stdout } = await run([file]);
    expect(stdout).toMatch(/a forked child for each\s+0 of 1 files passed/);
    expect(stdout).toContain('as it should');
    expect(code).toBe(1);
  });
});
