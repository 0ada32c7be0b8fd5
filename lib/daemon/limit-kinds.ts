/**
 * Resource limits as options: by name, in a file or a program as numbers or with soft and hard, on a command line as
 * `nofile=1024:4096`. Used by the schemas of programs; asks the platform for the names that it has, and sets nothing.
 */
import { z } from 'zod';
import { nativeSpawn } from '../process/native-spawn.ts';
import { nearest } from '../sys/errors.ts';
import { count, object, quote } from './kinds.ts';

const limit = z.union(
  [z.literal('unlimited').transform(() => Number.POSITIVE_INFINITY), count(0, Number.MAX_SAFE_INTEGER)],
  'must be a whole number of 0 or more, or unlimited',
);

const rlimit = z
  .union(
    [
      limit.transform((both) => ({ soft: both, hard: both })),
      object({ soft: limit, hard: limit.optional() }),
    ],
    'must be a whole number of 0 or more, unlimited, or an object with soft and hard',
  )
  .refine(({ soft, hard = soft }) => soft <= hard, 'must not have a soft limit above the hard one');

export const rlimits = z.record(z.string(), rlimit, 'must be limits by name').check((context) => {
  const known = Object.keys(nativeSpawn().limits);
  for (const name of Object.keys(context.value)) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    const message = near === undefined ? `there are ${known.join(', ')}` : `did you mean "${near}"?`;
    context.issues.push({
      code: 'custom',
      input: name,
      path: [name],
      message: `is no resource limit of this system; ${message}`,
    });
  }
});

/** Also as texts, a limit in each: `nofile=1024` is both, `nofile=1024:` the soft one alone, as for prlimit(1). */
export const rlimitsOrTexts = z.preprocess((value, context) => {
  if (!Array.isArray(value)) return value;
  const limits: Record<string, unknown> = {};
  for (const text of value) {
    const [, name = '', soft = '', colon = '', hard = ''] = pattern.exec(String(text)) ?? [];
    if (name === '') {
      const message = `must be as nofile=1024 or nofile=1024:4096 is, not ${quote(String(text))}`;
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    }
    if (colon === '') limits[name] = soft;
    else limits[name] = hard === '' ? { soft } : { soft, hard };
  }
  return limits;
}, rlimits);

const pattern = /^(\w+)=(\d+|unlimited)(:?)(\d+|unlimited|)$/;
