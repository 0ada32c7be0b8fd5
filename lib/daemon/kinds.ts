/**
 * The kinds of values that options have, as schemas: what is taken, what becomes of it, and in which words the rest is
 * refused (a message that goes on after the option's name). Used by the schemas of programs; touches nothing outside.
 */
import { resolve } from 'node:path';
import { z } from 'zod';
import { nearest, unknownName } from '../sys/errors.ts';
import { type ListenTarget, parseListen } from './listen.ts';
import { milliseconds } from './units.ts';

const MOST = 0x7fff_ffff;

/** A converter's message becomes the option's. */
export function converted<In, Out>(type: z.ZodType<In>, convert: (value: In) => Out) {
  return type.transform((value, context): Out => {
    try {
      return convert(value);
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
      return z.NEVER;
    }
  });
}

export const plain = z
  .string('must be a text')
  .min(1, 'must not be empty')
  .refine((value) => !value.includes('\0'), 'must not contain zero bytes');

export const textOrNumber = z.union([plain, z.number()], 'must be a text or a number');

export const flag = z.boolean('must be true or false');

export function count(least: number, most = MOST) {
  const range = `a whole number of ${least} ${most === MOST ? 'or more' : `to ${most}`}`;
  return converted(textOrNumber, (value) => whole(value, least, most, range));
}

export const duration = converted(textOrNumber, milliseconds);

/** A clock that is never off. */
export const deadline = converted(textOrNumber, (value) => {
  const ms = milliseconds(value);
  if (ms === 0) throw new Error('must be longer than 0');
  return ms;
});

export function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, {
    error: ({ input }) => {
      const near = typeof input === 'string' ? nearest(input, values) : undefined;
      return `must be one of ${values.join(', ')}${near === undefined ? '' : `; did you mean '${near}'?`}`;
    },
  });
}

/** An object with these keys and no others: of one that is not known, the nearest that is. */
export function object<Shape extends z.ZodRawShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== 'unrecognized_keys') return 'must be an object';
      const [key = ''] = issue.keys as string[];
      if (nearest(key, known) !== undefined) return unknownName('option', key, known).message;
      return `Unknown option "${key}"; there are ${known.join(', ')}`;
    },
  });
}

/** One or several. */
export function list<Out>(item: z.ZodType<Out>, what: string) {
  return z.preprocess((value) => (Array.isArray(value) ? [...value] : [value]), z.array(item, what));
}

/** Absolute then. */
export function path(base: string) {
  return converted(plain, (value) => resolve(base, value));
}

export const account = z
  .union([z.string(), z.number()], 'must be a name or a number')
  .refine(
    (value) =>
      typeof value === 'string'
        ? value !== ''
        : Number.isInteger(value) && value >= 0 && value <= 0xffff_fffe,
    'must be a name or a number',
  );

export const variableName = z.string().regex(/^[^=\0]+$/, 'must not be empty and have no "=" or zero byte');

/** Numbers are not taken: what YAML makes of 0755 or 1.10 is not what was written. */
export const environment = z.record(
  variableName,
  z.string({ error: notText }).refine((value) => !value.includes('\0'), 'must not contain zero bytes'),
  'must be names and values',
);

export function notText({ input }: { input?: unknown }): string {
  const isPlain = typeof input === 'number' || typeof input === 'boolean';
  return `must be a text${isPlain ? `, as "${input}" is with its quotes` : ''}`;
}

/** Texts are octal, as for umask(1); numbers are what they are, as for process.umask. */
export const mask = converted(textOrNumber, (value) => {
  const number =
    typeof value === 'number'
      ? value
      : /^(0o)?[0-7]{1,4}$/.test(value)
        ? Number.parseInt(value.replace('0o', ''), 8)
        : -1;
  if (!Number.isInteger(number) || number < 0 || number > 0o777)
    throw new Error(`must be octal, as 027 is, not ${quote(value)}`);
  return number;
});

/** Where metrics are served. */
export function metricsTarget(base: string) {
  return converted(plain, (value): ListenTarget => {
    const target = parseListen(value, base);
    if (target.kind === 'fd') throw new Error('must begin with tcp:// or unix://');
    return target;
  });
}

export const logFormat = oneOf(['pretty', 'json']);

export function whole(value: string | number, least: number, most: number, range: string): number {
  const number = typeof value === 'number' ? value : /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isInteger(number) || number < least || number > most)
    throw new Error(`must be ${range}, not ${quote(value)}`);
  return number;
}

export function quote(value: string | number): string {
  return typeof value === 'string' ? `'${value}'` : String(value);
}

/** Of a union, what is wrong with the member that came nearest. */
export function deepest(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_union') return issue.message;
  const custom = issue.errors.flat().find(({ code }) => code === 'custom');
  return custom?.message ?? issue.message;
}
