/**
 * Runs all tests on other Nodes, and a short soak of forks with each. The addon that speaks Node-API is the one that
 * was built for this Node: it must serve them all. What knows V8 is built for each, into build-node-<major>.
 *
 *   node scripts/test-nodes.mjs [major …] [-- vitest's arguments]     default: all of node-versions.mjs but this one
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { buildNative, root } from './build-native.mjs';
import { nodeBinary, versions } from './node-versions.mjs';

const own = process.versions.node.split('.')[0];
const given = process.argv.slice(2);
const separator = given.includes('--') ? given.indexOf('--') : given.length;
const asked = given.slice(0, separator);
const majors = asked.length > 0 ? asked : Object.keys(versions).filter((major) => major !== own);

for (const major of majors) {
  const { path, version, prefix } = await nodeBinary(major);
  console.log(`Node ${version}`);
  const native = buildNative({ out: `build-node-${major}`, nodedir: prefix, targets: ['forkbeard_v8'] });
  for (const name of ['forkbeard.node', 'forkbeard-shim']) {
    copyFileSync(join(root, 'build/Release', name), join(native, name));
  }
  const run = (...args) => {
    const { status } = spawnSync(path, args, {
      cwd: root,
      stdio: 'inherit',
      // Programs that tests start as `node` are that one as well.
      env: {
        ...process.env,
        FORKBEARD_NATIVE: native,
        PATH: `${dirname(path)}${delimiter}${process.env.PATH}`,
      },
    });
    if (status !== 0) throw new Error(`Node ${version}: ${args.join(' ')} ended with status ${status}`);
  };
  run(join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...given.slice(separator + 1));
  run('scripts/soak.mjs', '--forks=60');
}
