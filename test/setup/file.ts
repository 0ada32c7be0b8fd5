/** Runs in the process of every test file: fails the file if a process that it started outlives its tests. */
import { afterAll, expect } from 'vitest';
import { endAll, survivors } from './survivors.ts';

const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);
const mark = `${process.env['FORKBEARD_TEST_RUN']}:${process.pid}:`;

// Registered first, so it runs after every other afterAll. What a test starts from here on inherits the mark.
afterAll(async () => {
  const found = await survivors('FORKBEARD_TEST_FILE', mark, 3000 * slow);
  if (found.length > 0) throw new Error(`Processes outlived ${expect.getState().testPath}:\n${endAll(found)}`);
});

process.env['FORKBEARD_TEST_FILE'] = mark;
