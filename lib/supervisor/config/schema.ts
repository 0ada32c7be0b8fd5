/**
 * What may stand in a configuration, value by value (contract.ts says what it means). What comes out is in the units of
 * the plan (ms, numbers, lists) and still optional: defaults, and everything that concerns several services, are
 * plan-of.ts's. Reads nothing but the platform's own names of signals and limits.
 */
import { z } from 'zod';
import {
  account,
  converted,
  count,
  deadline,
  duration,
  environment,
  flag,
  list,
  mask,
  notText,
  object,
  oneOf,
  plain,
  textOrNumber,
  variableName,
} from '../../daemon/kinds.ts';
import { rlimits } from '../../daemon/limit-kinds.ts';
import { nearest } from '../../sys/errors.ts';
import { signalNumber } from '../../sys/signals.ts';
import type { Word } from '../said.ts';
import type { Asked, AskedOnce, ServiceOptions } from '../service-options.ts';
import type { StopStep } from '../shim.ts';

type Command = readonly [string, ...string[]];

// ------------------------------------------------------------------------------------- values

const port = count(1, 65_535);

const command = z
  .custom<string | unknown[]>(
    (given) => typeof given === 'string' || Array.isArray(given),
    'must be a program, or a list of it and its arguments',
  )
  .transform((value, context): Command => {
    const refuse = (message: string, path: number[] = []) => {
      context.addIssue({ code: 'custom', message, path });
      return z.NEVER;
    };
    const words: string[] = [];
    for (const [index, word] of (typeof value === 'string' ? [value] : value).entries()) {
      if (typeof word !== 'string') return refuse(notText({ input: word }), [index]);
      words.push(word);
    }
    if (typeof value === 'string' && /\s/.test(value.trim())) {
      // No shell splits it, and hardly any program has blanks in its name.
      const parts = value.trim().split(/\s+/);
      return refuse(`must be a list when there are arguments: ${JSON.stringify(parts)}`);
    }
    if (words.some((word) => word.includes('\0'))) return refuse('must not contain zero bytes');
    const [program, ...rest] = words;
    if (program === undefined || program === '') return refuse('must have a program');
    return [program, ...rest];
  });

const names = z.array(variableName, 'must be true, false, or the names of variables');

const policy = oneOf(['wait', 'fail', 'proceed']);

const signal = converted(z.union([plain, z.number()], 'must be the name or number of a signal'), (given) => {
  try {
    signalNumber(given);
  } catch (error) {
    const [, hint] = (error as Error).message.split('; ');
    const end = hint === undefined ? '' : `; ${hint}`;
    throw new Error(`must be a signal such as TERM, INT or 15, not '${given}'${end}`);
  }
  return given;
});

const stop = z
  .array(object({ signal, wait: duration.optional() }), 'must be a list of steps')
  .min(1, 'must have a step')
  .transform((steps): StopStep[] => steps.map(({ signal, wait = 10_000 }) => ({ signal, wait })));

const intensity = object({ restarts: count(0).optional(), within: deadline.optional() });

const backoff = object({
  min: duration.optional(),
  max: duration.optional(),
  jitter: z
    .number('must be a number of 0 to 1')
    .min(0, 'must be a number of 0 to 1')
    .max(1, 'must be a number of 0 to 1')
    .optional(),
  resetAfter: duration.optional(),
});

/** As others call them. */
const RESTARTS: Readonly<Record<string, string>> = {
  always: 'permanent',
  'unless-stopped': 'permanent',
  'on-failure': 'transient',
  no: 'temporary',
  never: 'temporary',
};

const TYPES = ['permanent', 'transient', 'temporary'] as const;
const restart = z.enum(TYPES, {
  error: ({ input }) => {
    const here = typeof input === 'string' ? (RESTARTS[input] ?? nearest(input, TYPES)) : undefined;
    return `must be one of ${TYPES.join(', ')}${here === undefined ? '' : `; did you mean '${here}'?`}`;
  },
});

const exitCodes = z.record(
  z.string().refine((key) => /^\d{1,3}$/.test(key) && Number(key) <= 255, 'must be an exit code of 0 to 255'),
  oneOf(['retry', 'never', 'done']),
  { error: 'must be exit codes and what they mean' },
);

const MOST_SAID = 2 ** 40;

const output = z.union(
  [oneOf(['log', 'inherit', 'ignore']), object({ file: plain })],
  'must be log, inherit, ignore or { file: path }',
);

const dependency = z.union(
  [
    plain.transform((name) => ({ name, until: 'ready' as const })),
    object({ service: plain, until: oneOf(['ready', 'done']) }).transform(({ service, until }) => ({
      name: service,
      until,
    })),
  ],
  'must be the name of a service, or { service, until: ready or done }',
);

const dependsOn = list(dependency, 'must be the names of services');

const listen = z.union(
  [
    plain.transform((one) => [{ name: null, address: one }]),
    z.array(plain).transform((all) => all.map((address) => ({ name: null, address }))),
    z
      .record(
        z.string().regex(/^[\x21-\x39\x3b-\x7e]{1,255}$/, 'must be a name without blanks and colons'),
        plain,
      )
      .transform((all) => Object.entries(all).map(([name, address]) => ({ name, address }))),
  ],
  'must be an address, a list of addresses, or addresses by name',
);

// ------------------------------------------------------------------------------------- questions

const status = list(count(100, 599), 'must be a status or several');

const questions = {
  tcp: textOrNumber.optional(),
  unix: plain.optional(),
  http: z
    .union([plain, object({ url: plain, status: status.optional(), unix: plain.optional() })], {
      error: 'must be a URL, or { url, status, unix }',
    })
    .optional(),
  exec: command.optional(),
  notify: z.literal(true, 'must be true').optional(),
};
/** Of what has been said there is no second question. */
const once = {
  log: z.union([plain, z.instanceof(RegExp)], 'must be a text, or in a module a pattern').optional(),
};
const KINDS = ['tcp', 'unix', 'http', 'exec', 'notify', 'log'] as const;

/** One kind of question, and how it is asked. */
function asking<Shape extends z.ZodRawShape>(settings: Shape) {
  const known = KINDS.filter((kind) => kind in questions || kind in settings);
  return object({ ...questions, ...settings }).transform((given, context) => {
    const asked = given as Partial<Record<(typeof KINDS)[number], unknown>>;
    const kinds = KINDS.filter((kind) => asked[kind] !== undefined);
    if (kinds.length !== 1) {
      const found = kinds.length === 0 ? '' : `, not ${kinds.join(' and ')}`;
      context.addIssue({ code: 'custom', message: `must have one of ${known.join(', ')}${found}` });
      return z.NEVER;
    }
    const others = Object.fromEntries(
      Object.entries(given).filter(([key]) => !(KINDS as readonly string[]).includes(key)),
    );
    try {
      const question = questionOf(asked as Question);
      type Both = 'log' extends keyof Shape ? AskedOnce : Asked;
      return { ...question, ...others } as Both & Omit<Partial<z.infer<z.ZodObject<Shape>>>, 'log'>;
    } catch (error) {
      context.addIssue({ code: 'custom', path: [kinds[0] as string], message: (error as Error).message });
      return z.NEVER;
    }
  });
}

interface Question {
  tcp?: string | number;
  unix?: string;
  http?: string | { url: string; status?: number[] | undefined; unix?: string | undefined };
  exec?: Command;
  log?: Word;
}

function questionOf({ tcp, unix, http, exec, log }: Question): AskedOnce {
  if (log !== undefined) return { log };
  if (tcp !== undefined) return { probe: tcpOf(tcp) };
  if (unix !== undefined) return { probe: { unix } };
  if (exec !== undefined) return { probe: { exec } };
  if (http === undefined) return { notify: true };
  const {
    url,
    status,
    unix: socket,
  } = typeof http === 'string' ? { url: http } : (http as Exclude<typeof http, string>);
  if (socket === undefined ? !isUrl(url) : !url.startsWith('/') && !isUrl(url))
    throw new Error(`must be a URL such as http://127.0.0.1:8080/health, not '${url}'`);
  return {
    probe: {
      http: url,
      ...(status === undefined ? {} : { status }),
      ...(socket === undefined ? {} : { unix: socket }),
    },
  };
}

function isUrl(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text);
}

function tcpOf(given: string | number): { tcp: number; host?: string } {
  const [, inBrackets, plainHost, number] =
    /^(?:(?:\[([^\]]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(String(given)) ?? [];
  const tcp = Number(number);
  if (number === undefined || tcp < 1 || tcp > 65_535)
    throw new Error(`must be a port of 1 to 65535, or host:port, not '${given}'`);
  const host = inBrackets ?? plainHost;
  return host === undefined ? { tcp } : { tcp, host };
}

const startup = asking({ ...once, within: deadline.optional(), timeout: deadline.optional() });

const ready = asking({
  ...once,
  within: deadline.optional(),
  timeout: deadline.optional(),
  every: duration.optional(),
  failures: count(1).optional(),
  successes: count(1).optional(),
});

const live = asking({
  every: deadline.optional(),
  timeout: deadline.optional(),
  failures: count(1).optional(),
});

// ------------------------------------------------------------------------------------- gates

const GATES = ['port', 'group', 'lock', 'unix', 'path', 'exec', 'check'] as const;

const gate = object({
  port: port.optional(),
  host: list(plain, 'must be an address or several').optional(),
  group: z.literal('empty', 'must be empty').optional(),
  lock: z.literal('free', 'must be free').optional(),
  unix: plain.optional(),
  path: plain.optional(),
  is: oneOf(['absent', 'present']).optional(),
  exec: command.optional(),
  name: plain.optional(),
  check: z
    .custom<() => boolean | Promise<boolean>>((given) => typeof given === 'function', 'must be a function')
    .optional(),
  within: duration.optional(),
  onTimeout: policy.optional(),
}).check((context) => {
  const { value: given } = context;
  const refuse = (message: string) => {
    context.issues.push({ code: 'custom', input: given, message });
  };
  const kinds = GATES.filter((kind) => given[kind] !== undefined);
  if (kinds.length !== 1)
    refuse(
      `must have one of ${GATES.slice(0, -1).join(', ')}${kinds.length === 0 ? '' : `, not ${kinds.join(' and ')}`}`,
    );
  else if (given.host !== undefined && kinds[0] !== 'port') refuse('must have host with port only');
  else if (given.is !== undefined && kinds[0] !== 'path') refuse('must have is with path only');
  else if ((given.name !== undefined) !== (kinds[0] === 'check'))
    refuse('must have name with check, and check with name');
});

// ------------------------------------------------------------------------------------- services and groups

const mode = oneOf(['coupled', 'supervised', 'independent', 'distributed']);
const guarantee = oneOf(['tree', 'group']) satisfies z.ZodType<NonNullable<ServiceOptions['require']>>;

export const serviceSchema = object({
  command,
  cwd: plain.optional(),
  env: environment.optional(),
  inheritEnv: z.union([flag, names], 'must be true, false, or the names of variables').optional(),
  user: account.optional(),
  group: account.optional(),
  umask: mask.optional(),
  nice: z
    .int('must be a whole number of -20 to 19')
    .min(-20, 'must be a whole number of -20 to 19')
    .max(19, 'must be a whole number of -20 to 19')
    .optional(),
  rlimits: rlimits.optional(),
  restart: restart.optional(),
  backoff: backoff.optional(),
  intensity: intensity.optional(),
  startup: startup.optional(),
  ready: ready.optional(),
  live: live.optional(),
  gates: z.array(gate, 'must be a list of gates').optional(),
  gateTimeout: duration.optional(),
  onGateTimeout: policy.optional(),
  stop: stop.optional(),
  exitCodes: exitCodes.optional(),
  dependsOn: dependsOn.optional(),
  mode: mode.optional(),
  lease: duration.optional(),
  require: guarantee.optional(),
  listen: listen.optional(),
  stdout: output.optional(),
  logLimit: object({
    lines: count(0, MOST_SAID).optional(),
    bytes: count(0, MOST_SAID).optional(),
  }).optional(),
  stderr: output.optional(),
  session: flag.optional(),
});

const groupShape = {
  strategy: oneOf(['one_for_one', 'one_for_all', 'rest_for_one']).optional(),
  intensity: intensity.optional(),
  mode: mode.optional(),
  require: guarantee.optional(),
  /** Looked at one by one: each is a service or a group. */
  // As they are: a record would lose a __proto__ without a word.
  services: z.custom<Record<string, unknown>>(z.core.util.isPlainObject, 'must be services by name'),
};

export const groupSchema = object({
  ...groupShape,
  dependsOn: dependsOn.optional(),
  restart: oneOf(['permanent', 'temporary']).optional(),
});

export const rootSchema = object({
  ...groupShape,
  stateDir: plain.optional(),
  supervised: object({ notifyFd: count(3, 1 << 20).optional() }).optional(),
  distributed: object({
    probes: plain.optional(),
    drain: duration.optional(),
    forward: z.array(signal, 'must be a list of signals').optional(),
  }).optional(),
});

export type CheckedService = z.infer<typeof serviceSchema>;
export type CheckedGroup = z.infer<typeof groupSchema>;
export type CheckedRoot = z.infer<typeof rootSchema>;
export type CheckedGate = z.infer<typeof gate>;
