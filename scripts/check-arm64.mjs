/**
 * A smoke test of the prebuilt binary for linux-arm64 on another processor: Node 20 for arm64 out of the registry, run
 * by qemu-user (Debian: qemu-user libc6-arm64-cross libstdc++6-arm64-cross).
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './build-native.mjs';
import { nodeBinary } from './node-versions.mjs';

const { path } = await nodeBinary('20', 'linux-arm64');
const env = { ...process.env, FORKBEARD_TEST_SLOW: '20' };
// Without it the prebuilt binary of the architecture that Node reports is found, as in an installed package.
delete env.FORKBEARD_NATIVE;
for (const program of ['esm.mjs', 'require.cjs', 'worker.mjs', 'unload.mjs', 'fork.mjs']) {
  const args = ['-L', '/usr/aarch64-linux-gnu', path, join(root, 'test/package', program)];
  const { status, error } = spawnSync('qemu-aarch64', args, {
    cwd: root,
    env,
    stdio: 'inherit',
    timeout: 120_000,
  });
  if (status !== 0) {
    console.error(`check-arm64: ${program} ended with ${error?.message ?? `status ${status}`}`);
    process.exit(1);
  }
}
console.log('check-arm64: good');
