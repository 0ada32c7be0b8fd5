// One benchmark session: the machine it runs on, the peers that can be had there, and how a program is run so that its
// figures can be compared with the next one's (a core of its own, nothing kept between runs). Used by the tables.
// It never measures anything itself.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, release } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const sources = join(here, 'peers');
const binaries = join(here, 'build');
const npmPeers = join(sources, 'npm');

/** A peer that this machine does not have. It is left out with a word; it is not a failure. */
export class Missing extends Error {}

export function describeMachine() {
  return {
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
    // Not what a distribution or a vendor adds to it.
    kernel: `Linux ${/^[\d.]*\d/.exec(release())}`,
    cpu: `${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'})`,
  };
}

// ------------------------------------------------------------------------------------------------ programs

const RUN_LIMIT = 120_000;
const pinning = spawnSync('taskset', ['-V']).error === undefined && availableParallelism() > 1;

/** Cores: a server has one for itself and its client the other; a program without a client runs where servers do not. */
export const SERVER = 0;
export const CLIENT = 1;
export const ALONE = 1;

export const pinned = pinning;

function pin(core, command) {
  return pinning ? ['taskset', '-c', String(core), ...command] : command;
}

/** A JavaScript peer, as a command. */
export function script(name, ...args) {
  return [process.execPath, join(sources, `${name}.mjs`), ...args.map(String)];
}

/** Runs a command to its end and gives what it printed. */
export async function output(command, core) {
  const [file, ...args] = pin(core, command);
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const limit = setTimeout(() => child.kill('SIGKILL'), RUN_LIMIT);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const [code, signal] = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (...end) => resolve(end));
  });
  clearTimeout(limit);
  if (code !== 0) throw new Error(`${command.join(' ')}: ${signal ?? `exit code ${code}`}\n${stderr.trim()}`);
  return stdout;
}

/** Runs a command that prints one line of JSON. */
export async function result(command, core = ALONE) {
  return JSON.parse(await output(command, core));
}

/** Runs a server that prints `{"port":…}`, hands it to `use`, and ends it. */
export async function withServer(command, use) {
  const [file, ...args] = pin(SERVER, command);
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => {
    child.on('exit', resolve);
    child.on('error', resolve);
  });
  try {
    const firstLine = new Promise((resolve) => createInterface(child.stdout).once('line', resolve));
    const line = await Promise.race([firstLine, ended.then(() => undefined)]);
    if (typeof line !== 'string') throw new Error(`${command.join(' ')}: did not start`);
    return await use({ pid: child.pid, port: JSON.parse(line).port });
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}

// ------------------------------------------------------------------------------------------------ peers

const LIBRARIES = {
  ev: { header: 'ev.h', from: 'libev-dev' },
  uv: { header: 'uv.h', from: 'libuv1-dev' },
  event: { header: 'event2/event.h', from: 'libevent-dev' },
};

const compiler = process.env.CC ?? 'cc';

function compiles(text, flags) {
  return spawnSync(compiler, ['-x', 'c', '-', '-o', '/dev/null', ...flags], { input: text }).status === 0;
}

const isNewer = (file, than) => statSync(file).mtimeMs > statSync(than).mtimeMs;

/** The path of a C peer, compiled when it has changed. */
export function compiled(name, library) {
  if (spawnSync(compiler, ['--version']).error !== undefined) throw new Missing('there is no C compiler');
  const link = library === undefined ? [] : [`-l${library}`];
  if (library !== undefined) {
    const { header, from } = LIBRARIES[library];
    if (!compiles(`#include <${header}>\nint main(void) { return 0; }\n`, link)) {
      throw new Missing(`${from} is not installed`);
    }
  }
  const source = join(sources, `${name}.c`);
  const binary = join(binaries, name);
  const headers = readdirSync(sources).filter((file) => file.endsWith('.h'));
  const inputs = [source, ...headers.map((file) => join(sources, file))];
  if (existsSync(binary) && !inputs.some((input) => isNewer(input, binary))) return binary;
  mkdirSync(binaries, { recursive: true });
  const flags = ['-std=gnu11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra'];
  execFileSync(compiler, [...flags, '-o', binary, source, ...link], { stdio: 'inherit' });
  return binary;
}

/** Installs and builds the packages of peers/npm, where nothing but the benchmarks can see them. */
export function npmPackage(name) {
  const addon = join(npmPeers, 'node_modules', name, 'build', 'Release', `${name}.node`);
  if (existsSync(addon)) return;
  const quiet = { cwd: npmPeers, stdio: 'pipe' };
  try {
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], quiet);
    const prefix = join(dirname(process.execPath), '..');
    const nodedir = process.env.npm_config_nodedir ?? prefix;
    const headers = existsSync(join(nodedir, 'include/node/node.h')) ? [`--nodedir=${nodedir}`] : [];
    const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
    execFileSync(process.execPath, [nodeGyp, 'rebuild', ...headers], {
      ...quiet,
      cwd: join(npmPeers, 'node_modules', name),
    });
  } catch (error) {
    throw new Missing(
      `the package cannot be installed (${String(error.stderr ?? error)
        .trim()
        .split('\n')
        .at(-1)})`,
    );
  }
}

/** The same for a package without native code. */
export function npmModule(name) {
  if (existsSync(join(npmPeers, 'node_modules', name, 'package.json'))) return;
  const options = { cwd: npmPeers, stdio: 'pipe' };
  try {
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], options);
  } catch (error) {
    throw new Missing(`the package cannot be installed (${String(error.stderr ?? error).trim()})`);
  }
}

/** For a table that needs so many descriptors in one process. Programs raise their soft limit to the hard one. */
export function needsDescriptors(count) {
  const limit = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
  if (limit < count) throw new Missing(`it needs ${count} descriptors, and the limit is ${limit}`);
}

/** A program of the system's, by name. */
export function tool(name, from) {
  if (spawnSync(name, ['--version']).error !== undefined) throw new Missing(`${from} is not installed`);
  return name;
}
