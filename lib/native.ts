/**
 * Finds and loads the native addon: a prebuilt binary of the package first, then a local build. Each concern types
 * its own part of what is loaded (`addon<LoopAddon>().loop`); nobody else touches the binary.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

type Bindings = (options: { bindings: string; module_root: string; try: string[][] }) => unknown;

/** musl and glibc binaries do not load into each other's processes, so the right one is chosen before loading. */
function libc(): 'glibc' | 'musl' | undefined {
  if (process.platform !== 'linux') return undefined;
  const report = process.report as (typeof process.report & { excludeNetwork?: boolean }) | undefined;
  if (report === undefined) return 'glibc';
  // With the network section the report may stall on name look-ups.
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  const { header } = report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
  if (before !== undefined) report.excludeNetwork = before;
  return header.glibcVersionRuntime ? 'glibc' : 'musl';
}

function load(name: string): unknown {
  const override = process.env['FORKBEARD_NATIVE'];
  if (override !== undefined && override !== '') return require(join(override, `${name}.node`));
  const tag = libc();
  const file = tag === undefined ? `${name}.node` : `${name}.${tag}.node`;
  const bindings = require('bindings') as Bindings;
  return bindings({
    bindings: `${name}.node`,
    module_root: root,
    try: [
      ['module_root', 'prebuilds', `${process.platform}-${process.arch}`, file],
      ['module_root', 'build', 'Release', 'bindings'],
      ['module_root', 'build', 'Debug', 'bindings'],
    ],
  });
}

let loaded: unknown;

export function addon<T>(): T {
  loaded ??= load('forkbeard');
  return loaded as T;
}
