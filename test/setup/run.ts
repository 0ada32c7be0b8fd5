/**
 * Runs once around all tests: refuses to test a dist/ that is older than its sources, and has a last look for
 * processes whose test file died before it could look itself.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { endAll, survivors } from './survivors.ts';

const run = randomUUID();

export function setup(): void {
  process.env['FORKBEARD_TEST_RUN'] = run;
  const stale = readdirSync('lib', { recursive: true, encoding: 'utf8' }).filter(isStale);
  if (stale.length > 0)
    throw new Error(`npm run build:ts first: dist/ is older than lib/${stale.join(', lib/')}`);
}

export async function teardown(): Promise<void> {
  const found = await survivors('FORKBEARD_TEST_FILE', run, 3000);
  if (found.length > 0) throw new Error(`Processes outlived the tests:\n${endAll(found)}`);
}

function isStale(source: string): boolean {
  if (!source.endsWith('.ts')) return false;
  const built = statSync(join('dist', source.replace(/\.ts$/, '.js')), { throwIfNoEntry: false });
  return built === undefined || built.mtimeMs < statSync(join('lib', source)).mtimeMs;
}
