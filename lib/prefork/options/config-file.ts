/**
 * The file that holds a server's options: `forkbeard.config.ts`, `.mjs` or `.json`, in the folder where the command is
 * started, or the one that `--config` names. Called by the command; a program passes its options itself.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { invalidOption } from '../../sys/errors.ts';

const NAMES = ['forkbeard.config.ts', 'forkbeard.config.mjs', 'forkbeard.config.json'];

export interface ConfigFile {
  /** Absolute. */
  path: string;
  /** Paths in it that are not absolute begin here. */
  base: string;
  /** Not checked yet. */
  options: object;
}

/** Undefined when none was named and the folder has none. */
export async function readConfigFile(
  named: string | undefined,
  folder: string,
): Promise<ConfigFile | undefined> {
  const path = named === undefined ? find(folder) : resolve(folder, named);
  if (path === undefined) return undefined;
  if (!existsSync(path)) throw wrong(`--config: there is no file ${path}`);
  const options = extname(path) === '.json' ? parse(path) : await load(path);
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw wrong(`${path}: must hold an object of options (as its default export, if it is a module)`);
  return { path, base: dirname(path), options };
}

function find(folder: string): string | undefined {
  const found = NAMES.filter((name) => existsSync(join(folder, name)));
  if (found.length > 1) throw wrong(`There are ${found.join(' and ')} here: say which with --config`);
  return found[0] === undefined ? undefined : join(folder, found[0]);
}

function parse(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw wrong(`${path}: ${(error as Error).message}`);
  }
}

async function load(path: string): Promise<unknown> {
  // What Node 22.18 and later have of it without a flag; the declarations of Node 20 do not know it.
  const { typescript } = process.features as { typescript?: string | false };
  if (/\.[cm]?ts$/.test(path) && !typescript) {
    throw wrong(
      `${path}: Node ${process.version} does not run TypeScript (22.18 and later do); write it as forkbeard.config.mjs`,
    );
  }
  try {
    const { default: exported } = (await import(pathToFileURL(path).href)) as { default?: unknown };
    return typeof exported === 'function' ? await exported() : exported;
  } catch (error) {
    const [first = ''] = String(error instanceof Error ? error.message : error).split('\n');
    throw wrong(`${path}: ${first}`, error);
  }
}

function wrong(message: string, cause?: unknown): Error {
  const error = invalidOption('config', message);
  if (cause !== undefined) error.cause = cause;
  return error;
}
