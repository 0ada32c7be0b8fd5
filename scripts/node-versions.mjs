/**
 * Other Node versions to build for and to test on: binaries and headers out of the npm registry, fetched once into
 * ~/.cache/forkbeard (root: /var/cache/forkbeard). Imported by the checks (`await nodeBinary('24')`), or run:
 *
 *   node scripts/node-versions.mjs 24              prints the path of that binary
 *   node scripts/node-versions.mjs 24 test.mjs …   runs it with these arguments
 */
import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** The tested majors, oldest first. */
export const versions = { 20: '20.20.2', 22: '22.23.3', 24: '24.21.0', 26: '26.10.0' };

/** What process.versions.modules says in each of them. */
export const abis = { 20: 115, 22: 127, 24: 137, 26: 147 };

// Root's home is closed to the users that tests of root's become, and they run these programs.
const caches = process.getuid?.() === 0 ? '/var/cache' : join(homedir(), '.cache');
export const cache = join(process.env.XDG_CACHE_HOME || caches, 'forkbeard');

/**
 * @param {string} major a key of `versions`
 * @param {string} [target] `linux-x64`, `linux-arm64`, `darwin-arm64` …; default: this machine
 * @returns {Promise<{ path: string, version: string, prefix: string, headers: string }>} `prefix` is what node-gyp
 *   calls nodedir, `headers` its include/node
 */
export async function nodeBinary(major, target = `${process.platform}-${process.arch}`) {
  const version = versions[major];
  if (version === undefined) throw new Error(`No Node ${major} is known here: ${Object.keys(versions)}`);
  const prefix = await registryPackage(`node-${target}`, version);
  return { path: join(prefix, 'bin/node'), version, prefix, headers: join(prefix, 'include/node') };
}

/** Unpacks a package of the registry into the cache, without its scripts, and returns its folder. */
export async function registryPackage(name, version) {
  const place = join(cache, `${name.replace('/', '+')}-${version}`);
  const folder = join(place, 'node_modules', name);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const staging = mkdtempSync(join(cache, '.fetch-'));
  try {
    const flags = ['--ignore-scripts', '--no-save', '--no-package-lock', '--force', '--loglevel=error'];
    // --force: the package may be for another processor than this one.
    await promisify(execFile)('npm', ['install', ...flags, `--prefix=${staging}`, `${name}@${version}`], {
      cwd: staging,
    });
    chmodSync(staging, 0o755);
    renameSync(staging, place);
  } catch (error) {
    rmSync(staging, { recursive: true, force: true });
    // Somebody else was faster.
    if (!existsSync(folder)) throw error;
  }
  return folder;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [major, ...args] = process.argv.slice(2);
  const { path } = await nodeBinary(major);
  if (args.length === 0) {
    console.log(path);
  } else {
    // Scripts that say `node` get this one as well.
    const env = { ...process.env, PATH: `${dirname(path)}:${process.env.PATH}` };
    const { status, signal } = spawnSync(path, args, { stdio: 'inherit', env });
    process.exit(signal === null ? (status ?? 1) : 1);
  }
}
