/**
 * What each option may be. One source of options (a command line, a file, a program) is checked at a time, so that what is
 * wrong is told under the name that it has there; what comes out is in the units of the plan. Called by plan-of.ts; touches
 * nothing outside.
 */
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { z } from 'zod';
import { invalidOption, unknownName } from '../../sys/errors.ts';
import type { ListenTarget } from '../plan.ts';
import { parseListen, socketPath } from './listen.ts';
import { bytes, milliseconds } from './units.ts';

/** Where options come from. */
export interface Source {
  /** An option's name as it is written there. */
  spell: (option: string) => string;
  /** Where paths begin that are not absolute. */
  base: string;
  /** Where they are written, if in a file. */
  file?: string;
}

export const PROGRAM: Source = { spell: (option) => option, base: '.' };

export const MOST_WORKERS = 1024;
const MOST = 0x7fff_ffff;

/** Checked one by one; everything is still optional. */
export interface CheckedOptions {
  /** A file: URL. */
  application?: string | undefined;
  workers?: number | 'auto' | undefined;
  listen?: ListenTarget[] | undefined;
  spawnMethod?: 'auto' | 'fork' | 'spawn' | undefined;
  reusePort?: boolean | undefined;
  backlog?: number | undefined;
  bootTimeout?: number | undefined;
  gracefulTimeout?: number | undefined;
  blockedTimeout?: number | undefined;
  requestTimeout?: number | undefined;
  maxConnections?: number | undefined;
  maxRequestsInFlight?: number | undefined;
  maxRequests?: number | undefined;
  maxLifetime?: number | undefined;
  maxMemory?: number | undefined;
  jitter?: number | undefined;
  reforkAfter?: number[] | undefined;
  control?: string | false | undefined;
  metrics?: ListenTarget | undefined;
  pidFile?: string | undefined;
  envFile?: string[] | undefined;
  env?: Record<string, string> | undefined;
  user?: string | number | undefined;
  group?: string | number | undefined;
  umask?: number | undefined;
  chdir?: string | undefined;
  title?: string | undefined;
  logFormat?: 'pretty' | 'json' | undefined;
  logFile?: string | undefined;
}

type Convert<In, Out> = (value: In, base: string) => Out;

/** The schema of a source: its paths begin at its base. */
function schema(base: string) {
  /** A converter's message becomes the option's. */
  const converted = <In, Out>(type: z.ZodType<In>, convert: Convert<In, Out>) =>
    type.transform((value, context): Out => {
      try {
        return convert(value, base);
      } catch (error) {
        context.addIssue({ code: 'custom', message: (error as Error).message });
        return z.NEVER;
      }
    });

  const text = z.string('must be a text').min(1, 'must not be empty');
  const plain = text.refine((value) => !value.includes('\0'), 'must not contain zero bytes');
  const path = converted(plain, (value, from) => resolve(from, value));
  const textOrNumber = z.union([plain, z.number()], 'must be a text or a number');
  const flag = z.boolean('must be true or false');
  const count = (least: number, most = MOST) => {
    const range = `a whole number of ${least} ${most === MOST ? 'or more' : `to ${most}`}`;
    return converted(textOrNumber, (value) => whole(value, least, most, range));
  };
  const duration = converted(textOrNumber, milliseconds);
  /** A clock that is never off. */
  const deadline = converted(textOrNumber, (value) => {
    const ms = milliseconds(value);
    if (ms === 0) throw new Error('must be longer than 0');
    return ms;
  });
  const oneOf = <const T extends readonly [string, ...string[]]>(values: T) =>
    z.enum(values, `must be one of ${values.join(', ')}`);
  const list = <Out>(item: z.ZodType<Out>, what: string) =>
    z.preprocess((value) => (Array.isArray(value) ? [...value] : [value]), z.array(item, what));

  return z.strictObject({
    application: converted(plain, location).optional(),
    workers: converted(textOrNumber, workers).optional(),
    listen: list(
      converted(plain, (value, from) => parseListen(value, from)),
      'must be an address or several',
    )
      .refine((targets) => targets.length > 0, 'must name an address')
      .optional(),
    spawnMethod: oneOf(['auto', 'fork', 'spawn']).optional(),
    reusePort: flag.optional(),
    backlog: count(1, 65_535).optional(),
    bootTimeout: deadline.optional(),
    gracefulTimeout: duration.optional(),
    blockedTimeout: duration.optional(),
    requestTimeout: duration.optional(),
    maxConnections: count(0).optional(),
    maxRequestsInFlight: count(0).optional(),
    maxRequests: count(0).optional(),
    maxLifetime: duration.optional(),
    maxMemory: converted(textOrNumber, memoryLimit).optional(),
    jitter: count(0, 100).optional(),
    reforkAfter: z.preprocess(splitList, z.array(count(1), 'must be numbers of requests')).optional(),
    control: z
      .union([z.literal(false), converted(plain, (value, from) => socketPath(value, from))], {
        error: 'must be the path of a socket, or false for none',
      })
      .optional(),
    metrics: converted(plain, metricsTarget).optional(),
    pidFile: path.optional(),
    envFile: list(path, 'must be a path or several').optional(),
    env: z
      .record(
        z.string().regex(/^[^=\0]+$/, 'must not be empty and have no "=" or zero byte'),
        z.string('must be a text').refine((value) => !value.includes('\0'), 'must not contain zero bytes'),
        'must be names and values',
      )
      .optional(),
    user: account.optional(),
    group: account.optional(),
    umask: converted(textOrNumber, mask).optional(),
    chdir: path.optional(),
    title: plain.optional(),
    logFormat: oneOf(['pretty', 'json']).optional(),
    logFile: path.optional(),
  });
}

const account = z
  .union([z.string(), z.number()], 'must be a name or a number')
  .refine(
    (value) =>
      typeof value === 'string'
        ? value !== ''
        : Number.isInteger(value) && value >= 0 && value <= 0xffff_fffe,
    'must be a name or a number',
  );

export const OPTIONS = Object.keys(schema('.').shape);

/** Throws `ERR_FORKBEARD_INVALID_OPTION` or `ERR_FORKBEARD_UNKNOWN_OPTION`, with one line and an exit code. */
export function checkOptions(options: unknown, { spell, base, file }: Source): CheckedOptions {
  const outcome = schema(base).safeParse(options);
  if (outcome.success) return outcome.data;
  const issue = outcome.error.issues[0] as z.core.$ZodIssue;
  if (issue.code === 'unrecognized_keys') {
    const unknown = unknownName('option', issue.keys[0] as string, OPTIONS);
    if (file !== undefined) unknown.message = `${file}: ${unknown.message}`;
    throw Object.assign(unknown, { option: issue.keys[0], exitCode: 2 });
  }
  const [option, ...inside] = issue.path.map(String);
  if (option === undefined) throw invalidOption('options', 'options must be an object of options');
  const where = inside.filter((key) => !/^\d+$/.test(key)).map((key) => `.${key}`);
  throw invalidOption(option, `${spell(option)}${where.join('')} ${deepest(issue)}`);
}

/** Of a union, what is wrong with the member that came nearest. */
function deepest(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_union') return issue.message;
  const custom = issue.errors.flat().find(({ code }) => code === 'custom');
  return custom?.message ?? issue.message;
}

function location(value: string, base: string): string {
  if (!value.startsWith('file:')) return pathToFileURL(resolve(base, value)).href;
  try {
    return pathToFileURL(fileURLToPath(value)).href;
  } catch {
    throw new Error(`must be a path or a file: URL, not ${quote(value)}`);
  }
}

function whole(value: string | number, least: number, most: number, range: string): number {
  const number = typeof value === 'number' ? value : /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isInteger(number) || number < least || number > most)
    throw new Error(`must be ${range}, not ${quote(value)}`);
  return number;
}

function workers(value: string | number): number | 'auto' {
  if (value === 'auto') return value;
  return whole(value, 1, MOST_WORKERS, `auto or a whole number of 1 to ${MOST_WORKERS}`);
}

/** No Node gets by with less: it would be replaced for ever. */
const LEAST_MEMORY = 2 ** 20;

function memoryLimit(value: string | number): number {
  const limit = bytes(value);
  if (limit !== 0 && limit < LEAST_MEMORY) throw new Error(`must be 1mb or more, not ${quote(value)}`);
  return limit;
}

function metricsTarget(value: string, base: string): ListenTarget {
  const target = parseListen(value, base);
  if (target.kind === 'fd') throw new Error('must begin with tcp:// or unix://');
  return target;
}

/** Texts are octal, as for umask(1); numbers are what they are, as for process.umask. */
function mask(value: string | number): number {
  const number =
    typeof value === 'number'
      ? value
      : /^(0o)?[0-7]{1,4}$/.test(value)
        ? Number.parseInt(value.replace('0o', ''), 8)
        : -1;
  if (!Number.isInteger(number) || number < 0 || number > 0o777)
    throw new Error(`must be octal, as 027 is, not ${quote(value)}`);
  return number;
}

function splitList(value: unknown): unknown {
  return typeof value === 'string' ? value.split(',').map((part) => part.trim()) : value;
}

function quote(value: string | number): string {
  return typeof value === 'string' ? `'${value}'` : String(value);
}
