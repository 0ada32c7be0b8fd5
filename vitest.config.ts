/**
 * How the tests run. One project a native build: `default` is every test against build/Release (or the folder that
 * FORKBEARD_NATIVE names: a sanitizer's build), `kqueue` is the loop's contract once more on the kqueue backend,
 * which on Linux is built against the emulation in test/native/kqueue (`npm run build:kqueue`).
 *
 * Read by tests: FORKBEARD_TEST_BACKENDS, a comma list of the backends to run (empty: all of this build), and
 * FORKBEARD_TEST_SLOW, the factor by which this run is slower than usual (sanitizers, emulators). FORKBEARD_TEST_REPORT
 * names a file for the results as JSON.
 */
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig, type TestProjectConfiguration } from 'vitest/config';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);

const report = process.env['FORKBEARD_TEST_REPORT'];
const native = process.env['FORKBEARD_NATIVE'];
const kqueueBuild = path('build-kqueue');

// The runtime of a sanitizer (scripts/sanitize.mjs): into the processes that run tests, and not into vitest's own.
const sanitizer = process.env['FORKBEARD_TEST_PRELOAD'];
const preload: Record<string, string> = sanitizer === undefined ? {} : { LD_PRELOAD: sanitizer };

function project(name: string, include: string[], env: Record<string, string>): TestProjectConfiguration {
  return {
    extends: true,
    test: { name, include, env: { ...preload, ...env } },
  };
}

const projects = [
  project('default', ['test/**/*.test.ts'], { FORKBEARD_NATIVE: native ?? path('build/Release') }),
];

if (native === undefined && existsSync(`${kqueueBuild}/forkbeard.node`)) {
  projects.push(
    project(
      'kqueue',
      ['acceptance/**/*', 'loop/**/*', 'process/{fork,fork-kernel-objects,signals*,child,watch-process}'].map(
        (name) => `test/${name}.test.ts`,
      ),
      { FORKBEARD_NATIVE: kqueueBuild, FORKBEARD_LOOP: 'kqueue', FORKBEARD_TEST_BACKENDS: 'kqueue' },
    ),
  );
} else if (native === undefined && process.platform === 'linux') {
  console.warn(
    'vitest: no build-kqueue, so the kqueue backend is not tested (npm run build:kqueue makes it)',
  );
}

export default defineConfig({
  test: {
    // A process for each file: a native crash costs one file, and signals, forks and descriptors stay apart.
    pool: 'forks',
    isolate: true,
    // Most of their time goes by waiting.
    maxWorkers: availableParallelism() + 1,
    retry: 0,
    // Only a hang is to be cut off: how long a busy machine takes says nothing.
    testTimeout: 60_000 * slow,
    hookTimeout: 60_000 * slow,
    teardownTimeout: 60_000 * slow,
    // What the package's users load is what is tested: dist/, by the package's own name, as Node itself loads it.
    server: { deps: { external: [/\/dist\//] } },
    globalSetup: ['test/setup/run.ts'],
    setupFiles: ['test/setup/file.ts'],
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
    projects,
  },
});
