/**
 * A file of options: JSON (with comments), YAML, or a module whose default export they are. What is wrong with an option
 * can be told with the line where it is written. Called by commands; a program passes its options itself.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Document, isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { invalidOption } from '../sys/errors.ts';

export interface ConfigFile {
  /** Absolute. */
  path: string;
  /** Paths in it that are not absolute begin here. */
  base: string;
  /** Not checked yet. */
  options: object;
  /** Where the value with these keys is written: `path:line`, or the path where lines are not known (modules). */
  where: (keys: readonly PropertyKey[]) => string;
}

type Parsed = Pick<ConfigFile, 'where'> & { options: unknown };

/** Throws `ERR_FORKBEARD_INVALID_OPTION`, with one line. `path` is absolute. */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  if (!existsSync(path)) throw wrong(`there is no file ${path}`);
  const { options, where } = await parse(path);
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw wrong(`${path}: must hold an object of options (as its default export, if it is a module)`);
  return { path, base: dirname(path), options, where };
}

async function parse(path: string): Promise<Parsed> {
  const ending = extname(path).toLowerCase();
  if (ending === '.json' || ending === '.jsonc') return json(path, read(path));
  if (ending === '.yaml' || ending === '.yml') return yaml(path, read(path));
  if (/^\.[cm]?[jt]s$/.test(ending)) return { options: await load(path), where: () => path };
  throw wrong(`${path}: must be .json, .yaml, .yml, .ts or .mjs`);
}

function read(path: string): string {
  try {
    // A mark of the byte order is no part of the text.
    return readFileSync(path, 'utf8').replace(/^\uFEFF/, ' ');
  } catch (error) {
    throw wrong(`${path}: ${(error as Error).message}`, error);
  }
}

function wrong(message: string, cause?: unknown): Error {
  const error = invalidOption('config', message);
  if (cause !== undefined) error.cause = cause;
  return error;
}

// ------------------------------------------------------------------------------------- modules

/** Node runs TypeScript without a flag from 22.18 on, and with a loader (`--import tsx`) any Node may. */
export function runsTypeScript(): boolean {
  // The declarations of Node 20 do not know it.
  const { typescript } = process.features as { typescript?: string | false };
  const given = [...process.execArgv, process.env['NODE_OPTIONS'] ?? ''].join(' ');
  return (
    Boolean(typescript) ||
    /--(import|require|loader|experimental-loader|experimental-strip-types)\b|-r\b/.test(given)
  );
}

let loads = 0;

async function load(path: string): Promise<unknown> {
  if (/\.[cm]?ts$/.test(path) && !runsTypeScript()) {
    const instead = path.replace(/ts$/, (end) => (path.endsWith('.ts') ? 'mjs' : end.replace('t', 'j')));
    throw wrong(
      `${path}: Node ${process.version} does not run TypeScript (22.18 and later do); write it as ${instead}`,
    );
  }
  try {
    // Node remembers what it has read: another time is another address.
    const url = `${pathToFileURL(path).href}${loads++ === 0 ? '' : `?${loads}`}`;
    const { default: exported } = (await import(url)) as { default?: unknown };
    return typeof exported === 'function' ? await exported() : exported;
  } catch (error) {
    const [first = ''] = String(error instanceof Error ? error.message : error).split('\n');
    throw wrong(`${placeOf(error, path)}: ${first}`, error);
  }
}

/** Where a module went wrong, as far as it says. */
function placeOf(error: unknown, path: string): string {
  // Node keeps the place of a mistake in the syntax to itself, but for this.
  const said =
    error instanceof SyntaxError
      ? spawnSync(process.execPath, ['--check', path], { encoding: 'utf8' }).stderr
      : error instanceof Error && error.stack;
  for (const [, file = '', line] of (said || '').matchAll(
    /(?:^|file:\/\/)(\/[^\n]*?)(?:\?\d+)?:(\d+)(?::\d+\)?)?$/gm,
  ))
    if (file === path || decodeURI(file) === path) return `${path}:${line}`;
  return path;
}

// ------------------------------------------------------------------------------------- texts with lines

function json(path: string, source: string): Parsed {
  const text = withoutComments(source);
  let options: unknown;
  try {
    options = JSON.parse(text);
  } catch (error) {
    const { at, message } = syntaxError(text, (error as Error).message);
    const line = text.slice(0, Math.min(at, text.trimEnd().length)).split('\n').length;
    throw wrong(`${path}:${line}: no valid JSON: ${message}`, error);
  }
  return { options, where: positions(path, text) };
}

/** V8 tells the place by its number, or by what stands there, or (at the end) not at all. */
function syntaxError(text: string, said: string): { at: number; message: string } {
  const [, message = said, place] = /^(.*?)(?: in JSON)? at position (\d+)/s.exec(said) ?? [];
  if (place !== undefined) return { at: Number(place), message };
  const [, what, before, around] = /^(.*), (\.{3})?"(.*)"(?:\.{3})? is not valid JSON$/s.exec(said) ?? [];
  if (what === undefined || around === undefined) return { at: text.length, message: said };
  // Ten characters of context.
  const at = before === undefined ? around.indexOf(what.at(-2) ?? '') : text.indexOf(around) + 10;
  return { at, message: what };
}

/** Comments, and tabs between values, become blanks: every character stays where it is. */
function withoutComments(source: string): string {
  return source.replace(/"(?:\\.|[^"\\\n])*"|\/\/[^\n]*|\/\*[\s\S]*?\*\/|\t/g, (found) =>
    found.startsWith('"') ? found : found.replace(/[^\n]/g, ' '),
  );
}

function yaml(path: string, source: string): Parsed {
  const where = positions(path, source);
  return { options: where.options(), where };
}

/** What is said twice in one object is a mistake, in JSON too. */
function positions(path: string, source: string): ConfigFile['where'] & { options: () => unknown } {
  const lineCounter = new LineCounter();
  const document = parseDocument(source, { lineCounter, prettyErrors: false, uniqueKeys: true, merge: true });
  const line = (offset: number) => lineCounter.linePos(offset).line;
  const [error] = document.errors;
  if (error !== undefined) {
    const [what = ''] = error.message.split('\n');
    throw wrong(`${path}:${line(error.pos[0])}: ${what}`, error);
  }
  const where = (keys: readonly PropertyKey[]) => {
    const offset = offsetOf(document, keys);
    return offset === undefined ? path : `${path}:${line(offset)}`;
  };
  const options = () => {
    try {
      return document.toJS() as unknown;
    } catch (error) {
      throw wrong(`${path}: ${(error as Error).message}`, error);
    }
  };
  return Object.assign(where, { options });
}

/** Of the key, or of the innermost thing around it that is there. */
function offsetOf(document: Document, keys: readonly PropertyKey[]): number | undefined {
  let node: unknown = document.contents;
  let offset = isNode(node) ? node.range?.[0] : undefined;
  for (const key of keys) {
    if (isAlias(node)) node = node.resolve(document as never);
    let next: unknown;
    if (isMap(node)) {
      const pair = node.items.find(({ key: own }) => String(isScalar(own) ? own.value : own) === String(key));
      if (pair === undefined) return offset;
      next = pair.value;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
    } else if (isSeq(node)) {
      next = node.items[Number(key)];
      if (isNode(next)) offset = next.range?.[0] ?? offset;
    } else {
      return offset;
    }
    node = next;
  }
  return offset;
}
