/**
 * Runs in the process of every test file: fails the file if a process that it started outlives its tests, and in a
 * sanitizer's run (scripts/sanitize.mjs reads the reports) looks for leaks once they are done.
 */
import { createRequire } from 'node:module';
import { afterAll, expect } from 'vitest';
import { endAll, survivors } from './survivors.ts';

const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);
const mark = `${process.env['FORKBEARD_TEST_RUN']}:${process.pid}:`;

// Registered first, so it runs after every other afterAll. What a test starts from here on inherits the mark.
afterAll(async () => {
  const found = await survivors('FORKBEARD_TEST_FILE', mark, 3000 * slow);
  if (found.length > 0) {
    throw new Error(`Processes outlived ${expect.getState().testPath}:\n${endAll(found)}`);
  }
  if (process.env['FORKBEARD_TEST_SANITIZER'] === 'address') {
    const leakCheck = createRequire(import.meta.url)(`${process.env['FORKBEARD_NATIVE']}/leak_check.node`);
    leakCheck();
  }
});

process.env['FORKBEARD_TEST_FILE'] = mark;
