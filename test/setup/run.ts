/** Runs once around all tests: a last look for processes whose test file died before it could look itself. */
import { randomUUID } from 'node:crypto';
import { endAll, survivors } from './survivors.ts';

const run = randomUUID();

export function setup(): void {
  process.env['FORKBEARD_TEST_RUN'] = run;
}

export async function teardown(): Promise<void> {
  const found = await survivors('FORKBEARD_TEST_FILE', run, 3000);
  if (found.length > 0) throw new Error(`Processes outlived the tests:\n${endAll(found)}`);
}
