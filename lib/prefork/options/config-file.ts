/**
 * The file that holds a server's options: `forkbeard.config.ts`, `.mjs` or `.json`, in the folder where the command is
 * started, or the one that `--config` names.
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type ConfigFile, readConfigFile } from '../../daemon/config-file.ts';
import { invalidOption } from '../../sys/errors.ts';

const NAMES = ['forkbeard.config.ts', 'forkbeard.config.mjs', 'forkbeard.config.json'];

/** Undefined when none was named and the folder has none. */
export async function findConfigFile(
  named: string | undefined,
  folder: string,
): Promise<ConfigFile | undefined> {
  const path = named === undefined ? find(folder) : resolve(folder, named);
  if (path === undefined) return undefined;
  if (!existsSync(path)) throw invalidOption('config', `--config: there is no file ${path}`);
  return readConfigFile(path);
}

function find(folder: string): string | undefined {
  const found = NAMES.filter((name) => existsSync(join(folder, name)));
  if (found.length > 1)
    throw invalidOption('config', `There are ${found.join(' and ')} here: say which with --config`);
  return found[0] === undefined ? undefined : join(folder, found[0]);
}
