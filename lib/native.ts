/**
 * Finds and loads the native addon: a prebuilt binary of the package first, then a local build. Each concern types
 * its own part of what is loaded (`addon<LoopAddon>().loop`); nobody else touches the binary. Its errors say what to
 * do about it, because this is the first line of the package that can fail on a machine.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stateError } from './sys/errors.ts';

const require = createRequire(import.meta.url);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const platforms = ['linux', 'darwin', 'freebsd', 'openbsd', 'netbsd'];

type Bindings = (options: { bindings: string; module_root: string; try: string[][] }) => unknown;

type Libc = 'glibc' | 'musl' | undefined;

let known: { readonly libc: Libc } | undefined;

/**
 * musl and glibc binaries do not load into each other's processes, so the right one is chosen before loading. Found out
 * once: a report takes milliseconds, and each start of a service asks.
 */
function libc(): Libc {
  known ??= { libc: libcOf() };
  return known.libc;
}

function libcOf(): Libc {
  if (process.platform !== 'linux') return undefined;
  const report = process.report as (typeof process.report & { excludeNetwork?: boolean }) | undefined;
  if (report === undefined) return 'glibc';
  // With the network section the report may stall on name look-ups.
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  // What the report opens must not get a number below 3: libuv ends the process when it closes such a one.
  const held: number[] = [];
  try {
    do held.push(openSync('/dev/null', 'r'));
    while ((held.at(-1) ?? 3) < 3);
    const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
    return header.glibcVersionRuntime ? 'glibc' : 'musl';
  } finally {
    for (const fd of held) closeSync(fd);
    if (before !== undefined) report.excludeNetwork = before;
  }
}

function prebuiltPath(name: string, suffix = '.node'): string[] {
  const tag = libc();
  const file = tag === undefined ? `${name}${suffix}` : `${name}.${tag}${suffix}`;
  return ['prebuilds', `${process.platform}-${process.arch}`, file];
}

/** Whether the package holds a binary for this platform, architecture and libc (asked by binding.gyp). */
export function prebuilt(): boolean {
  return existsSync(join(root, ...prebuiltPath('forkbeard')));
}

function load(name: string): unknown {
  if (!platforms.includes(process.platform)) {
    throw stateError(
      'UNSUPPORTED_PLATFORM',
      `forkbeard runs on Linux, macOS and the BSDs; ${process.platform} has none of the system calls it is made of`,
    );
  }
  try {
    // Set to the folder of another build (a sanitizer's, an emulated backend's): that one and nothing else is loaded.
    const override = process.env['FORKBEARD_NATIVE'];
    if (override !== undefined && override !== '') return require(resolve(override, `${name}.node`));
    const bindings = require('bindings') as Bindings;
    return bindings({
      bindings: `${name}.node`,
      module_root: root,
      try: [
        ['module_root', ...prebuiltPath(name)],
        ['module_root', 'build', 'Release', 'bindings'],
        ['module_root', 'build', 'Debug', 'bindings'],
      ],
    });
  } catch (error) {
    throw explained(error);
  }
}

function explained(cause: unknown): unknown {
  if (!(cause instanceof Error)) return cause;
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'ERR_DLOPEN_DISABLED') {
    return stateError(
      'ADDONS_DISABLED',
      'This process may not load native addons, and forkbeard is one: with the permission model, start node with --allow-addons; otherwise without --no-addons',
      { cause },
    );
  }
  if (code === 'MODULE_NOT_FOUND' || /^Could not locate the bindings file/.test(cause.message)) {
    return noBinary('binary', { cause });
  }
  return cause;
}

function noBinary(what: string, options?: ErrorOptions): Error {
  const { platform, arch } = process;
  const system = [platform, arch, libc()].filter((part) => part !== undefined).join('-');
  return stateError(
    'NO_BINARY',
    `forkbeard has no ${what} for ${system}. Build one with Python, make and a C++20 compiler: cd ${root} && npx node-gyp rebuild`,
    options,
  );
}

/** The program that stays beside each supervised service, searched for as the addon is. */
export function shimProgram(): string {
  const name = 'forkbeard-shim';
  const override = process.env['FORKBEARD_NATIVE'];
  const places =
    override !== undefined && override !== ''
      ? [resolve(override, name)]
      : [prebuiltPath(name, ''), ['build', 'Release', name], ['build', 'Debug', name]].map((path) =>
          join(root, ...path),
        );
  const found = places.find((place) => existsSync(place));
  if (found === undefined) throw noBinary(name);
  return found;
}

/**
 * The addon that knows V8, for the Node that runs; undefined when there is none for it. `why` is told then.
 */
export function v8Addon(why: (error: unknown) => void): unknown {
  try {
    const override = process.env['FORKBEARD_NATIVE'];
    if (override !== undefined && override !== '') return require(resolve(override, 'forkbeard_v8.node'));
    // Built for one ABI each, which the prebuilt ones have in their names. A local build may be for another.
    const [folder, platform, file] = prebuiltPath(`forkbeard_v8.abi${process.versions.modules}`) as [
      string,
      string,
      string,
    ];
    const bindings = require('bindings') as Bindings;
    return bindings({
      bindings: 'forkbeard_v8.node',
      module_root: root,
      try: [
        ['module_root', folder, platform, file],
        ['module_root', 'build', 'Release', 'bindings'],
        ['module_root', 'build', 'Debug', 'bindings'],
      ],
    });
  } catch (error) {
    why(error);
    return undefined;
  }
}

let loaded: unknown;

export function addon<T>(): T {
  loaded ??= load('forkbeard');
  return loaded as T;
}
