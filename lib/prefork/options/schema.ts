/**
 * What each option may be. One source of options (a command line, a file, a program) is checked at a time, so that what is
 * wrong is told under the name that it has there; what comes out is in the units of the plan. Called by plan-of.ts; touches
 * nothing outside.
 */
import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { z } from 'zod';
import {
  account,
  converted,
  count,
  deadline,
  deepest,
  duration,
  environment,
  flag,
  list,
  logFormat,
  mask,
  metricsTarget,
  oneOf,
  path,
  plain,
  quote,
  textOrNumber,
  whole,
} from '../../daemon/kinds.ts';
import { rlimitsOrTexts } from '../../daemon/limit-kinds.ts';
import type { Limits } from '../../daemon/limits.ts';
import { type ListenTarget, parseListen, socketPath } from '../../daemon/listen.ts';
import { bytes } from '../../daemon/units.ts';
import { invalidOption, unknownName } from '../../sys/errors.ts';

/** Where options come from. */
export interface Source {
  /** An option's name as it is written there. */
  spell: (option: string) => string;
  /** Where paths begin that are not absolute. */
  base: string;
  /** Where an option is written, if in a file. */
  where?: (option: string) => string;
}

export const PROGRAM: Source = { spell: (option) => option, base: '.' };

export const MOST_WORKERS = 1024;

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
  rlimits?: Limits | undefined;
  chdir?: string | undefined;
  title?: string | undefined;
  logFormat?: 'pretty' | 'json' | undefined;
  logFile?: string | undefined;
}

/** The schema of a source: its paths begin at its base. */
function schema(base: string) {
  const file = path(base);
  return z.strictObject({
    application: converted(plain, (value) => location(value, base)).optional(),
    workers: converted(textOrNumber, workers).optional(),
    listen: list(
      converted(plain, (value) => parseListen(value, base)),
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
      .union([z.literal(false), converted(plain, (value) => socketPath(value, base))], {
        error: 'must be the path of a socket, or false for none',
      })
      .optional(),
    metrics: metricsTarget(base).optional(),
    pidFile: file.optional(),
    envFile: list(file, 'must be a path or several').optional(),
    env: environment.optional(),
    user: account.optional(),
    group: account.optional(),
    umask: mask.optional(),
    rlimits: rlimitsOrTexts.optional(),
    chdir: file.optional(),
    title: plain.optional(),
    logFormat: logFormat.optional(),
    logFile: file.optional(),
  });
}

export const OPTIONS = Object.keys(schema('.').shape);

/** Throws `ERR_FORKBEARD_INVALID_OPTION` or `ERR_FORKBEARD_UNKNOWN_OPTION`, with one line and an exit code. */
export function checkOptions(options: unknown, { spell, base, where }: Source): CheckedOptions {
  const outcome = schema(base).safeParse(options);
  if (outcome.success) return outcome.data;
  const issue = outcome.error.issues[0] as z.core.$ZodIssue;
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys;
    const unknown = unknownName('option', key, OPTIONS);
    if (where !== undefined) unknown.message = `${where(key)}: ${unknown.message}`;
    throw Object.assign(unknown, { option: key, exitCode: 2 });
  }
  const [option, ...inside] = issue.path.map(String);
  if (option === undefined) throw invalidOption('options', 'options must be an object of options');
  const below = inside.filter((key) => !/^\d+$/.test(key)).map((key) => `.${key}`);
  throw invalidOption(option, `${spell(option)}${below.join('')} ${deepest(issue)}`);
}

function location(value: string, base: string): string {
  if (!value.startsWith('file:')) return pathToFileURL(resolve(base, value)).href;
  try {
    return pathToFileURL(fileURLToPath(value)).href;
  } catch {
    throw new Error(`must be a path or a file: URL, not ${quote(value)}`);
  }
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

function splitList(value: unknown): unknown {
  return typeof value === 'string' ? value.split(',').map((part) => part.trim()) : value;
}
