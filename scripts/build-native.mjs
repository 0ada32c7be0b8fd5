/**
 * Builds the native targets of binding.gyp with node-gyp, incrementally, against the headers of one Node. Called by
 * `npm run build:native` and by every script that needs another variant (sanitizers, the emulated kqueue, prebuilds).
 *
 *   node scripts/build-native.mjs [--out=DIR] [--clean] [--debug] [--gyp_variable=value …]
 *
 * Without --out the result is build/Release, where node-gyp puts it. With --out the same sources are built in a tree of
 * their own and what came out of it lies in DIR itself, to be named by FORKBEARD_NATIVE=DIR. Never touches prebuilds/.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, statSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/**
 * @param {object} [options]
 * @param {string} [options.out] a folder of its own for this variant
 * @param {boolean} [options.clean] from scratch
 * @param {string[]} [options.args] more arguments for node-gyp; gyp variables among them
 * @param {string[]} [options.targets] of binding.gyp; default: all
 * @param {string} [options.nodedir] Node's installation whose include/node is used; default: this Node's own
 * @param {Record<string, string>} [options.env] on top of this process's environment (CXX, CXXFLAGS, LDFLAGS …)
 * @returns {string} the folder that holds the built files
 */
export function buildNative({ out, clean = false, args = [], targets = [], nodedir, env } = {}) {
  const place = sourceTree(out);
  const commands = [...(clean ? ['clean'] : []), 'configure', 'build', ...targets];
  nodeGyp(place, [...commands, `--jobs=${process.env.JOBS ?? 'max'}`, ...args], { nodedir, env });
  const built = join(place, 'build', args.includes('--debug') ? 'Debug' : 'Release');
  if (out === undefined) return built;
  const target = resolve(root, out);
  for (const name of products(built)) {
    // A rename, because a process may have the old file mapped.
    copyFileSync(join(built, name), join(target, `${name}.new`));
    renameSync(join(target, `${name}.new`), join(target, name));
  }
  return target;
}

/** Runs node-gyp in a source tree (see `sourceTree`); throws when it fails. */
export function nodeGyp(tree, args, { nodedir = ownHeaders(), env = {}, fromSource = true } = {}) {
  const program = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  // node-gyp lets npm_config_* win over its arguments, and npm may have set this one.
  const headers = nodedir === undefined ? {} : { npm_config_nodedir: nodedir };
  const { status } = spawnSync(process.execPath, [program, `--build_from_source=${fromSource}`, ...args], {
    cwd: tree,
    stdio: 'inherit',
    env: { ...process.env, ...env, ...headers },
  });
  if (status !== 0) throw new Error(`node-gyp ended with status ${status}`);
}

/**
 * Where to run node-gyp for a variant. It always builds in ./build, so a variant gets a folder of its own, whose
 * entries are links to the real tree.
 */
export function sourceTree(out) {
  if (out === undefined) return root;
  const place = join(resolve(root, out), 'tree');
  mkdirSync(place, { recursive: true });
  for (const name of ['binding.gyp', 'package.json', 'native', 'test', 'scripts', 'node_modules']) {
    const link = join(place, name);
    if (existsSync(join(root, name)) && !existsSync(link))
      symlinkSync(relative(place, join(root, name)), link);
  }
  return place;
}

/** The addons and programs in node-gyp's output folder (what lies beside them are objects and archives). */
export function products(folder) {
  return readdirSync(folder).filter((name) => {
    const stat = statSync(join(folder, name));
    return stat.isFile() && (name.endsWith('.node') || (stat.mode & 0o111) !== 0);
  });
}

/** The folder whose include/node belongs to the running Node; undefined leaves the search to node-gyp. */
export function ownHeaders() {
  const prefix = join(dirname(process.execPath), '..');
  if (existsSync(join(prefix, 'include/node/node_api.h'))) return prefix;
  return process.env.npm_config_nodedir;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const own = process.argv.slice(2);
  const out = own.find((arg) => arg.startsWith('--out='))?.slice('--out='.length);
  const args = own.filter((arg) => !arg.startsWith('--out=') && arg !== '--clean');
  try {
    buildNative({ ...(out === undefined ? {} : { out }), clean: own.includes('--clean'), args });
  } catch (error) {
    console.error(`build-native: ${error.message}`);
    process.exit(1);
  }
}
