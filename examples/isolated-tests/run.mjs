/**
 * Runs a test suite with every file in a forked child of one warmed process. What the files have in common (a compiler,
 * a framework, fixtures) is loaded once, before the first fork; each child finds it in its memory and cannot spoil it
 * for the next. Then the same with a new process for each file, for comparison.
 *
 *     node examples/isolated-tests/run.mjs [files…]
 *
 * The files use node:test and need to know nothing of this.
 */
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Loop, sys } from 'forkbeard';

const suite = new URL('suite/', import.meta.url);
const files =
  process.argv.length > 2
    ? process.argv.slice(2).map((name) => fileURLToPath(pathToFileURL(name)))
    : readdirSync(suite)
        .filter((name) => name.endsWith('.test.mjs'))
        .map((name) => fileURLToPath(new URL(name, suite)));
const loop = Loop.current();
const width = availableParallelism();

const logs = mkdtempSync(join(tmpdir(), 'isolated-tests-'));

async function inForkedChild(file) {
  const log = join(logs, basename(file));
  const child = await loop.fork({
    title: `test ${basename(file)}`,
    code: async () => {
      // Its own stdout and stderr: the lowest free numbers are the ones just closed.
      sys.close(1);
      sys.close(2);
      openSync(log, 'w');
      sys.dup(1);
      await import(pathToFileURL(file).href);
    },
  });
  const { exitCode, signal } = await child.exited;
  return {
    passed: exitCode === 0,
    how: signal ?? `exit code ${exitCode}`,
    output: readFileSync(log, 'utf8'),
  };
}

async function inNewProcess(file) {
  const result = await loop.runProcess({ command: [process.execPath, file] });
  const how = result.signal ?? `exit code ${result.exitCode}`;
  return { passed: result.exitCode === 0, how, output: result.stdout + result.stderr };
}

/** All files, `width` at a time. */
async function runAll(title, run) {
  const started = loop.now();
  const queue = [...files];
  const failed = [];
  const lanes = Array.from({ length: width }, async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const result = await run(file);
      if (!result.passed) failed.push({ file, ...result });
    }
  });
  await Promise.all(lanes);
  const ms = loop.now() - started;
  console.log(
    `${title.padEnd(28)} ${files.length - failed.length} of ${files.length} files passed in ${ms.toFixed(0)} ms`,
  );
  for (const { file, how, output } of failed) console.log(`\n${file}: ${how}\n${output}`);
  return { ms, failed: failed.length };
}

// What all of them need, loaded once.
const warming = loop.now();
await import('./compiler.mjs');
console.log(`${'warmed'.padEnd(28)} in ${(loop.now() - warming).toFixed(0)} ms`);

const forked = await runAll('a forked child for each', inForkedChild);
const spawned = await runAll('a new process for each', inNewProcess);
console.log(`${(spawned.ms / forked.ms).toFixed(1)} times as fast`);
rmSync(logs, { recursive: true });
process.exitCode = forked.failed > 0 ? 1 : 0;
