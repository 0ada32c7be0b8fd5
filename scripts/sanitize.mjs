/**
 * Runs tests against a build with a sanitizer in it (npm run test:asan, test:tsan). The addon lies in a folder of its
 * own; Node itself is the stock one, with the sanitizer's runtime preloaded into the processes of the tests. Any
 * finding fails the run, also one in a process whose end no test looks at: all processes write into one folder.
 *
 *   node scripts/sanitize.mjs address|thread [vitest's arguments]
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildNative, root } from './build-native.mjs';

const kinds = {
  address: {
    out: 'build-asan',
    flags: '-fsanitize=address,undefined -fno-sanitize-recover=undefined',
    variables: ['--leak_check=true'],
    runtime: 'libasan.so',
    tests: [],
    // A leak alone does not change how a process exits: some are Node's own, see `ours`.
    options: (reports) => ({
      ASAN_OPTIONS: `detect_leaks=1:log_path=${reports}/asan`,
      LSAN_OPTIONS: `exitcode=0:suppressions=${root}/test/setup/lsan.supp:print_suppressions=0`,
      UBSAN_OPTIONS: `print_stacktrace=1:log_path=${reports}/ubsan`,
    }),
    slow: '3',
  },
  thread: {
    out: 'build-tsan',
    flags: '-fsanitize=thread',
    variables: [],
    runtime: 'libtsan.so',
    // It holds signals back until the thread that got one calls into libc, and does not survive a fork of a process
    // with threads: what is about signals and processes waits for ever under it.
    tests: ['test/acceptance', 'test/loop', 'test/native', 'test/sys'],
    // Node is not instrumented: what it does in mutexes of its own looks like races.
    options: (reports) => ({
      TSAN_OPTIONS: `ignore_noninstrumented_modules=1:log_path=${reports}/tsan:second_deadlock_stack=1`,
    }),
    slow: '5',
  },
};

const [name, ...chosen] = process.argv.slice(2);
const kind = kinds[name];
if (kind === undefined) throw new Error(`Which sanitizer: ${Object.keys(kinds).join(' or ')}?`);

const flags = `${kind.flags} -g -O1 -fno-omit-frame-pointer`;
const native = buildNative({
  out: kind.out,
  // With the emulated kqueue in it, one run covers every backend.
  args: [...kind.variables, ...(process.platform === 'linux' ? ['--kqueue_emulation=true'] : [])],
  env: { CFLAGS: flags, CXXFLAGS: flags, LDFLAGS: kind.flags },
});
const reports = join(root, kind.out, 'reports');
rmSync(reports, { recursive: true, force: true });
mkdirSync(reports, { recursive: true });

const vitest = join(root, 'node_modules/vitest/vitest.mjs');
const { status } = spawnSync(
  process.execPath,
  [vitest, 'run', ...(chosen.length > 0 ? chosen : kind.tests)],
  {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      ...kind.options(reports),
      FORKBEARD_NATIVE: native,
      FORKBEARD_TEST_SLOW: process.env.FORKBEARD_TEST_SLOW ?? kind.slow,
      FORKBEARD_TEST_SANITIZER: name,
      FORKBEARD_TEST_PRELOAD: execFileSync('gcc', [`-print-file-name=${kind.runtime}`], {
        encoding: 'utf8',
      }).trim(),
    },
  },
);

let findings = 0;
for (const file of readdirSync(reports)) {
  const report = readFileSync(join(reports, file), 'utf8');
  if (!ours(report)) continue;
  findings += 1;
  console.error(`\n${file}\n${report}`);
}
console.log(`${name} sanitizer: ${findings} reports`);
process.exit(status === 0 && findings === 0 ? 0 : 1);

/** A report of leaks counts if one of them was allocated by our sources or for them; everything else counts anyway. */
function ours(report) {
  if (!/LeakSanitizer: detected memory leaks/.test(report)) return true;
  if (/ERROR: (?!LeakSanitizer)/.test(report)) return true;
  return report.split(/^(?=Direct leak|Indirect leak)/m).some((block) => block.includes('../native/'));
}
