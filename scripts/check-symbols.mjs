/**
 * Says whether the prebuilt binaries for Linux load wherever Node 20 runs: built for the processor and libc that their
 * names promise, never unloaded, no symbol version beyond what Node 20's own binary needs, and no library that a minimal
 * system lacks.
 *
 *   node scripts/check-symbols.mjs [files …]     default: all of prebuilds/linux-*
 *   node scripts/check-symbols.mjs --release     and every system that a release is for must be there
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { root } from './build-native.mjs';
import { abis } from './node-versions.mjs';

const newest = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11', GCC: '7.0.0' };
const machines = { x64: 'X86-64', arm64: 'AArch64' };
const libraries = {
  glibc:
    /^(libc\.so\.6|libm\.so\.6|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux-[-\w]+\.so\.\d|libstdc\+\+\.so\.6|libgcc_s\.so\.1)$/,
  musl: /^(libc\.so|libc\.musl-\w+\.so\.1)$/,
};

function problems(file) {
  const [, arch, libc] = /linux-(\w+)\/[^/]*\.(glibc|musl)(?:\.node)?$/.exec(file) ?? [];
  if (arch === undefined) return ['lies outside of prebuilds/linux-<arch>/<name>.<libc>[.node]'];
  const said = execFileSync('readelf', ['--wide', '--file-header', '--dynamic', '--version-info', file], {
    encoding: 'utf8',
  });
  const found = [];
  if (!said.includes(machines[arch])) found.push(`is not built for ${arch}`);
  if (file.endsWith('.node') && !/\(FLAGS_1\).*NODELETE/.test(said))
    found.push('can be unloaded under handlers that it registered');
  for (const [, library] of said.matchAll(/\(NEEDED\)\s+Shared library: \[(.*?)\]/g)) {
    if (!libraries[libc].test(library)) found.push(`needs ${library}`);
  }
  for (const [, set, version] of said.matchAll(/Name: (\w+?)_([\d.]+)\s+Flags/g)) {
    if (newest[set] !== undefined && newer(version, newest[set])) found.push(`needs ${set}_${version}`);
  }
  return found;
}

function newer(one, other) {
  const [a, b] = [one, other].map((version) => version.split('.').map(Number));
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

const prebuilds = join(root, 'prebuilds');
const release = process.argv.includes('--release');
const named = process.argv
  .slice(2)
  .filter((argument) => argument !== '--release')
  .map((file) => resolve(file));
const all = !existsSync(prebuilds)
  ? []
  : readdirSync(prebuilds)
      .filter((folder) => folder.startsWith('linux-'))
      .flatMap((folder) => readdirSync(join(prebuilds, folder)).map((file) => join(prebuilds, folder, file)));
const files = named.length > 0 ? named : all;
if (files.length === 0) throw new Error('There is nothing to check: npm run prebuilds builds them');

let failed = 0;
if (release) {
  const linux = Object.keys(machines).flatMap((arch) => [
    ...Object.keys(libraries).map((libc) => `linux-${arch}/forkbeard.${libc}.node`),
    ...Object.keys(libraries).map((libc) => `linux-${arch}/forkbeard-shim.${libc}`),
    ...Object.values(abis).map((abi) => `linux-${arch}/forkbeard_v8.abi${abi}.glibc.node`),
  ]);
  const darwin = ['arm64', 'x64'].flatMap((arch) =>
    ['forkbeard.node', 'forkbeard-shim'].map((name) => `darwin-${arch}/${name}`),
  );
  for (const name of [...linux, ...darwin]) {
    if (existsSync(join(prebuilds, name))) continue;
    failed += 1;
    console.log(`prebuilds/${name}: missing`);
  }
}
for (const file of files) {
  const found = problems(file);
  if (found.length > 0) failed += 1;
  console.log(`${relative(root, file)}: ${found.length === 0 ? 'good' : found.join(', ')}`);
}
process.exit(failed === 0 ? 0 : 1);
