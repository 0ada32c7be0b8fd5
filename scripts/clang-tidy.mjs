/**
 * Runs clang-tidy over every source of binding.gyp, the emulated kqueue included, with the flags that gyp would compile it with. Uses the clang-tidy
 * of the PATH (Debian: apt install clang-tidy). Arguments are files to check instead of all.
 */
import { spawn } from 'node:child_process';
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { nodeGyp, root, sourceTree } from './build-native.mjs';

const tree = sourceTree('build-tidy');
nodeGyp(tree, [
  'configure',
  '--loglevel=warn',
  '--kqueue_emulation=true',
  '--',
  '-f=gyp.generator.compile_commands_json.py',
]);
const database = join(tree, 'build/Release');
const wanted = process.argv.slice(2).map((file) => resolve(file));
const files = JSON.parse(readFileSync(join(database, 'compile_commands.json'), 'utf8'))
  .map(({ directory, file }) => ({
    file: resolve(directory, file),
    source: realpathSync(resolve(directory, file)),
  }))
  .filter(({ source }) => wanted.length === 0 || wanted.includes(source))
  // Several targets share sources, and what is found in one is found in all. The largest take longest: they go first.
  .filter(({ source }, index, all) => all.findIndex((other) => other.source === source) === index)
  .sort((one, other) => statSync(other.source).size - statSync(one.source).size);

let failed = 0;
async function worker() {
  for (let next = files.shift(); next !== undefined; next = files.shift()) {
    const { file, source } = next;
    const { status, output } = await tidy(file);
    if (status === 0) continue;
    failed += 1;
    console.error(`${relative(root, source)}\n${output.replaceAll(`${tree}/`, '')}`);
  }
}

function tidy(file) {
  // The analyzer's default budget of 225 000 nodes a function takes several times as long and found nothing more here.
  const analyzer = ['-Xclang', '-analyzer-config', '-Xclang', 'max-nodes=10000'];
  // gcc's flags that clang does not know are not what is being checked.
  const compiler = ['-Wno-unknown-warning-option', ...analyzer].map((flag) => `--extra-arg=${flag}`);
  const args = ['-p', database, '--quiet', ...compiler, file];
  return new Promise((done, reject) => {
    const child = spawn('clang-tidy', args, { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    child.on('error', reject).on('close', (status) => done({ status, output }));
  });
}

const total = files.length;
await Promise.all(Array.from({ length: availableParallelism() }, worker));
console.log(`clang-tidy: ${total} sources, ${failed} with findings`);
process.exit(failed === 0 ? 0 : 1);
