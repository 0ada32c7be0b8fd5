/**
 * Where a configuration comes from, and how what is wrong with it is told: file and line, the path of the value, and what
 * it must be. Used by everything in this folder.
 */
import type { z } from 'zod';
import { deepest } from '../../daemon/kinds.ts';
import { invalidOption, unknownName } from '../../sys/errors.ts';

export type Path = readonly PropertyKey[];

export interface Source {
  /** Where paths begin that are not absolute. */
  base: string;
  /** `file:line` of a value; undefined of a program's own object. */
  where?: (path: Path) => string;
}

/** `services.cache.stop[1].signal`. */
export function pathOf(path: Path): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, '');
}

/** One line: what is wrong goes on after the path. Without a path of its own it stands alone. */
export function wrong(source: Source, path: Path, message: string, exitCode?: number): Error {
  const place = source.where === undefined ? '' : `${source.where(path)}: `;
  const name = pathOf(path);
  return invalidOption(name, `${place}${name === '' ? '' : `${name} `}${message}`, exitCode);
}

/** The value as its schema makes it. Throws the first thing that is wrong with it. */
export function check<Out>(schema: z.ZodType<Out>, value: unknown, source: Source, path: Path): Out {
  const outcome = schema.safeParse(value);
  if (outcome.success) return outcome.data;
  // A key that nobody knows first: it may be the one that is said to be missing.
  const { issues } = outcome.error;
  const issue = (issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]) as z.core.$ZodIssue;
  const at = [...path, ...issue.path];
  if (issue.code !== 'unrecognized_keys') throw wrong(source, at, deepest(issue));
  const [key = ''] = issue.keys;
  const place = source.where === undefined ? '' : `${source.where([...at, key])}: `;
  const name = at.length === 0 ? '' : `${pathOf(at)}: `;
  const error = misspelt(`${place}${name}${issue.message}`);
  throw Object.assign(error, { option: pathOf([...at, key]), exitCode: 2 });
}

function misspelt(message: string): Error {
  const error = unknownName('option', '', []);
  error.message = message;
  return error;
}
