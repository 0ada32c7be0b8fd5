/**
 * Formats all C++ of the project in place, or with --check only says what is not formatted (exit status 1). Uses the
 * clang-format of node_modules, so that everybody has the same one.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '*.cc', '*.h', '*.c'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '');
const mode = process.argv.includes('--check') ? ['--dry-run', '--Werror'] : ['-i'];
const { status } = spawnSync(join(root, 'node_modules/.bin/clang-format'), [...mode, ...files], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(status ?? 1);
