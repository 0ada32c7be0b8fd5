/**
 * Builds for other Node versions and runs with each what depends on the version: the tests of forks, and a short soak.
 *
 *   node scripts/test-nodes.mjs [MAJOR …]       default: all that node-versions.mjs knows but the one that runs this
 *
 * Vitest itself runs on this Node; the processes under test are of the other one.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { buildNative, root } from './build-native.mjs';
import { nodeBinary, versions } from './node-versions.mjs';

const own = process.versions.node.split('.')[0];
const asked = process.argv.slice(2);
const majors = asked.length > 0 ? asked : Object.keys(versions).filter((major) => major !== own);

function run(command, args, env) {
  const { status } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with status ${status}`);
}

for (const major of majors) {
  const { path, version, prefix } = await nodeBinary(major);
  console.log(`Node ${version}`);
  const native = buildNative({ out: `build-node${major}`, nodedir: prefix });
  const env = { FORKBEARD_NATIVE: native, FORKBEARD_TEST_NODE: path };
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  run(process.execPath, [vitest, 'run', '--project', 'default', 'test/process/fork.test.ts'], env);
  run(path, ['scripts/soak.mjs', '--forks=60'], env);
}
