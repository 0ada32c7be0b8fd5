/**
 * The options of `spawn` and `runProcess`: checked to the last one before anything is forked, and turned into the
 * request that the native floor carries out. Opens, resolves and starts nothing.
 */
import { constants } from 'node:fs';
import { types } from 'node:util';
import { isMainThread } from 'node:worker_threads';
import {
  checkFd,
  checkFunction,
  checkInteger,
  checkKeys,
  checkObject,
  invalidType,
  invalidValue,
  mainThreadOnly,
  outOfRange,
  unknownName,
  unsupported,
} from '../sys/errors.ts';
import { signalNumber } from '../sys/signals.ts';
import type { ExitStatus, SignalName, SpawnOptions } from './contract.ts';
import { Group, Kind, nativeSpawn, ROW, Setting } from './native-spawn.ts';

export const SPAWN_OPTIONS = [
  'command',
  'stdio',
  'env',
  'cwd',
  'uid',
  'gid',
  'groups',
  'umask',
  'nice',
  'rlimits',
  'group',
  'parentDeathSignal',
  'title',
  'onExit',
] as const satisfies readonly (keyof SpawnOptions)[];

/** What the native floor wants to hear, and what is needed to word its refusal. */
export interface SpawnRequest {
  readonly program: string;
  readonly arguments: string;
  readonly environment: string | null;
  readonly candidates: string;
  readonly directory: string;
  readonly paths: string;
  readonly rows: Int32Array;
  readonly settings: Float64Array;
  readonly cwd: string | undefined;
  readonly leadsGroup: boolean;
  readonly onExit: ((exit: ExitStatus) => void) | undefined;
}

/** Checks everything. What it returns depends on nothing that the caller can still change. */
export function spawnRequest(options: SpawnOptions): SpawnRequest {
  checkObject(options, 'options');
  checkKeys(options, SPAWN_OPTIONS, 'spawn option');
  const { onExit, cwd } = options;
  if (onExit !== undefined) checkFunction(onExit, 'options.onExit');
  if (cwd !== undefined) checkText(cwd, 'options.cwd');
  const command = checkCommand(options.command);
  const program = command[0] as string;
  const { title } = options;
  if (title !== undefined) command[0] = checkText(title, 'options.title', true);
  const descriptors = checkStdio(options.stdio);
  const { group, settings } = checkSettings(options);
  const env = checkEnv(options.env);
  return {
    program,
    arguments: block(command),
    environment: env.block,
    candidates: block(candidatesFor(program, () => env.path ?? ownPath())),
    directory: cwd === undefined ? '' : block([cwd]),
    paths: block(descriptors.paths),
    rows: descriptors.rows,
    settings,
    cwd,
    leadsGroup: group === Group.NEW || group === Group.SESSION,
    onExit: onExit as ((exit: ExitStatus) => void) | undefined,
  };
}

/** The path that a row of the request opens. */
export function pathOf(request: SpawnRequest, fd: number): string | undefined {
  for (let at = 0; at < request.rows.length; at += ROW) {
    if (request.rows[at] !== fd || request.rows[at + 1] !== Kind.OPEN) continue;
    return request.paths.split('\0')[request.rows[at + 2] as number];
  }
  return undefined;
}

function block(strings: readonly string[]): string {
  return strings.length === 0 ? '' : `${strings.join('\0')}\0`;
}

/** A string that the kernel can be told. */
function checkText(value: unknown, name: string, mayBeEmpty = false): string {
  if (typeof value !== 'string') throw invalidType(name, 'a string', value);
  if (value.includes('\0')) throw invalidValue(name, 'a string without null bytes', value);
  if (value === '' && !mayBeEmpty) throw invalidValue(name, 'a string that is not empty', value);
  return value;
}

// ------------------------------------------------------------------------------- the program and its environment

function checkCommand(command: unknown): string[] {
  if (typeof command === 'string') return [checkText(command, 'options.command')];
  if (!Array.isArray(command))
    throw invalidType('options.command', 'a string or an array of strings', command);
  if (command.length === 0) throw invalidValue('options.command', 'an array with the program first', command);
  return Array.from(command, (part, index) => checkText(part, `options.command[${index}]`, index > 0));
}

/**
 * This process's environment as exec can take it without a copy, which also keeps bytes that are no UTF-8. Not in a
 * Worker, which has an environment of its own, and not when somebody put another object in its place.
 */
const native = process.env;
const isNative = isMainThread && !types.isProxy(native) && Object.getPrototypeOf(native) !== Object.prototype;

function checkEnv(env: unknown): { block: string | null; path: string | undefined } {
  if (env === undefined && isNative && process.env === native) return { block: null, path: undefined };
  if (env !== undefined) checkObject(env, 'options.env');
  if (Array.isArray(env)) throw invalidType('options.env', 'an object of names and values', env);
  const variables: string[] = [];
  let path: string | undefined;
  for (const [name, value] of Object.entries(env ?? process.env)) {
    // A copy of process.env may well have holes.
    if (value === undefined) continue;
    if (name === '' || name.includes('=') || name.includes('\0'))
      throw invalidValue(
        'options.env',
        'an object whose names are not empty and have no "=" or null byte',
        name,
      );
    if (typeof value !== 'string') throw invalidType(`options.env.${name}`, 'a string', value);
    if (value.includes('\0')) throw invalidValue(`options.env.${name}`, 'a string without null bytes', value);
    variables.push(`${name}=${value}`);
    if (name === 'PATH') path = value;
  }
  return { block: block(variables), path };
}

/** Where execvp looks when nobody says (confstr _CS_PATH). */
const DEFAULT_PATH = '/bin:/usr/bin';
const LONGEST_PATH = 4096;

function ownPath(): string {
  return process.env['PATH'] ?? DEFAULT_PATH;
}

/** In the order of trying. Relative ones are relative to the child's working directory, as execvp has it. */
function candidatesFor(program: string, path: () => string): string[] {
  if (program.includes('/')) return [program];
  const candidates: string[] = [];
  for (const directory of path().split(':')) {
    const candidate = directory === '' ? program : `${directory}/${program}`;
    if (candidate.length < LONGEST_PATH && !candidate.includes('\0')) candidates.push(candidate);
  }
  // None at all: a name that cannot be a file gives the kernel's own answer.
  return candidates.length > 0 ? candidates : [''];
}

// ------------------------------------------------------------------------------------------------ descriptors

const NAMES = ['stdin', 'stdout', 'stderr'];

interface Row {
  target: number;
  kind: number;
  source: number;
  flags: number;
  mode: number;
}

interface Descriptors {
  readonly rows: Int32Array;
  readonly paths: readonly string[];
}

/** Of who asks for nothing, like the settings of that name: made once, and never written to. */
let plainDescriptors: Descriptors | undefined;

function checkStdio(stdio: unknown): Descriptors {
  if (stdio !== undefined) return descriptorsOf(stdio);
  plainDescriptors ??= descriptorsOf({});
  return plainDescriptors;
}

function descriptorsOf(stdio: unknown): Descriptors {
  const targets = new Map<number, unknown>([
    [0, 'inherit'],
    [1, 'inherit'],
    [2, 'inherit'],
  ]);
  checkObject(stdio, 'options.stdio');
  // child_process takes one, in which what is left out means something else.
  if (Array.isArray(stdio))
    throw invalidType('options.stdio', "an object such as { stdin: 'ignore', stdout: 'pipe' }", stdio);
  const named = new Map<number, string>();
  for (const [key, target] of Object.entries(stdio)) {
    const fd = descriptorOf(key);
    if (target === undefined) continue;
    const other = named.get(fd);
    if (other !== undefined)
      throw invalidValue('options.stdio', `an object with either "${other}" or "${key}"`, stdio);
    named.set(fd, key);
    targets.set(fd, target);
  }
  const paths: string[] = [];
  const rows: Row[] = [];
  for (const fd of [...targets.keys()].sort((a, b) => a - b)) {
    const row = checkTarget(fd, targets.get(fd), paths);
    if (row !== undefined) rows.push(row);
  }
  const table = new Int32Array(rows.length * ROW);
  rows.forEach(({ target, kind, source, flags, mode }, index) => {
    table.set([target, kind, source, flags, mode], index * ROW);
  });
  return { rows: table, paths };
}

function descriptorOf(key: string): number {
  const named = NAMES.indexOf(key);
  if (named >= 0) return named;
  if (!/^(0|[1-9]\d*)$/.test(key)) throw unknownName('stdio descriptor', key, NAMES);
  const fd = Number(key);
  checkFd(fd, `options.stdio[${key}]`);
  return fd;
}

function checkTarget(fd: number, target: unknown, paths: string[]): Row | undefined {
  const name = `options.stdio.${NAMES[fd] ?? fd}`;
  switch (target) {
    case 'close':
      return undefined;
    case 'inherit':
      return { target: fd, kind: Kind.COPY, source: fd, flags: 0, mode: 0 };
    case 'ignore':
      return {
        target: fd,
        kind: Kind.OPEN,
        source: paths.push('/dev/null') - 1,
        flags: constants.O_RDWR,
        mode: 0,
      };
    case 'pipe': {
      const kind = fd === 0 ? Kind.PIPE_TO_CHILD : fd <= 2 ? Kind.PIPE_FROM_CHILD : Kind.SOCKET_PAIR;
      return { target: fd, kind, source: 0, flags: 0, mode: 0 };
    }
  }
  if (typeof target === 'number') {
    checkFd(target, name);
    return { target: fd, kind: Kind.COPY, source: target, flags: 0, mode: 0 };
  }
  if (typeof target !== 'object' || target === null) {
    const expected = "'inherit', 'ignore', 'pipe', 'close', a descriptor or { open: path }";
    if (typeof target === 'string') throw invalidValue(name, expected, target);
    throw invalidType(name, expected, target);
  }
  checkKeys(target, ['open', 'flags', 'mode'], 'option of a file to open');
  const { open, flags = fd === 1 || fd === 2 ? 'w' : 'r', mode = 0o666 } = target as Record<string, unknown>;
  checkText(open, `${name}.open`);
  checkInteger(mode, `${name}.mode`, 0, 0o7777);
  return {
    target: fd,
    kind: Kind.OPEN,
    source: paths.push(open as string) - 1,
    flags: openFlags(flags, name),
    mode,
  };
}

const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND, O_CREAT, O_EXCL, O_SYNC, O_TRUNC } = constants;

/** The flags of `fs.open`, by name. */
const OPEN_FLAGS: ReadonlyMap<unknown, number> = new Map([
  ['r', O_RDONLY],
  ['rs', O_RDONLY | O_SYNC],
  ['r+', O_RDWR],
  ['rs+', O_RDWR | O_SYNC],
  ['w', O_WRONLY | O_CREAT | O_TRUNC],
  ['wx', O_WRONLY | O_CREAT | O_TRUNC | O_EXCL],
  ['w+', O_RDWR | O_CREAT | O_TRUNC],
  ['wx+', O_RDWR | O_CREAT | O_TRUNC | O_EXCL],
  ['a', O_WRONLY | O_CREAT | O_APPEND],
  ['ax', O_WRONLY | O_CREAT | O_APPEND | O_EXCL],
  ['as', O_WRONLY | O_CREAT | O_APPEND | O_SYNC],
  ['a+', O_RDWR | O_CREAT | O_APPEND],
  ['ax+', O_RDWR | O_CREAT | O_APPEND | O_EXCL],
  ['as+', O_RDWR | O_CREAT | O_APPEND | O_SYNC],
]);

function openFlags(flags: unknown, name: string): number {
  const known = OPEN_FLAGS.get(flags);
  if (known !== undefined) return known;
  throw invalidValue(`${name}.flags`, `one of ${[...OPEN_FLAGS.keys()].join(', ')}`, flags);
}

// ------------------------------------------------------------------------------------- the process's own settings

/** The largest number means "as it is" to the kernel. */
const LARGEST_ID = 0xffff_fffe;
const MOST_GROUPS = 65_536;

interface Settings {
  readonly group: number;
  readonly settings: Float64Array;
}

const SETTINGS = [
  'group',
  'umask',
  'nice',
  'uid',
  'gid',
  'groups',
  'rlimits',
  'parentDeathSignal',
] as const satisfies readonly (keyof SpawnOptions)[];

let plainSettings: Settings | undefined;

function checkSettings(options: SpawnOptions): Settings {
  if (SETTINGS.some((name) => options[name] !== undefined)) return settingsOf(options);
  plainSettings ??= settingsOf({});
  return plainSettings;
}

function settingsOf(options: Omit<SpawnOptions, 'command'>): Settings {
  const { umask, nice, uid, gid } = options;
  const [group, groupToJoin] = checkGroup(options.group);
  if (umask !== undefined) checkInteger(umask, 'options.umask', 0, 0o777);
  if (nice !== undefined) checkInteger(nice, 'options.nice', -39, 39);
  if (uid !== undefined) checkInteger(uid, 'options.uid', 0, LARGEST_ID);
  if (gid !== undefined) checkInteger(gid, 'options.gid', 0, LARGEST_ID);
  const asked = checkGroups(options.groups);
  const leaves = asked === undefined && (uid !== undefined || gid !== undefined);
  const groups = asked ?? (leaves ? (gid === undefined ? [] : [gid]) : undefined);
  const limits = checkLimits(options.rlimits);
  const settings = new Float64Array(Setting.COUNT + (groups?.length ?? 0) + limits.length);
  settings[Setting.GROUP] = group;
  settings[Setting.GROUP_TO_JOIN] = groupToJoin;
  settings[Setting.UMASK] = umask ?? Number.NaN;
  settings[Setting.NICE] = nice ?? Number.NaN;
  settings[Setting.UID] = uid ?? Number.NaN;
  settings[Setting.GID] = gid ?? Number.NaN;
  settings[Setting.GROUPS] = groups?.length ?? Number.NaN;
  settings[Setting.GROUPS_MAY_FAIL] = leaves ? 1 : 0;
  settings[Setting.DEATH_SIGNAL] = checkDeathSignal(options.parentDeathSignal);
  settings[Setting.LIMITS] = limits.length / 3;
  if (groups !== undefined) settings.set(groups, Setting.COUNT);
  settings.set(limits, Setting.COUNT + (groups?.length ?? 0));
  return { group, settings };
}

function checkGroup(group: unknown): [kind: number, toJoin: number] {
  switch (group) {
    case undefined:
    case 'inherit':
      return [Group.INHERIT, 0];
    case 'new':
      return [Group.NEW, 0];
    case 'session':
      return [Group.SESSION, 0];
  }
  if (typeof group !== 'number')
    throw invalidValue('options.group', "'inherit', 'new', 'session' or the number of a group", group);
  checkInteger(group, 'options.group', 1, 0x7fff_ffff);
  return [Group.JOIN, group];
}

function checkGroups(groups: unknown): number[] | undefined {
  if (groups === undefined) return undefined;
  if (!Array.isArray(groups)) throw invalidType('options.groups', 'an array of group ids', groups);
  if (groups.length > MOST_GROUPS)
    throw outOfRange('options.groups.length', `at most ${MOST_GROUPS}`, groups.length);
  return Array.from(groups, (id: unknown, index) => {
    checkInteger(id, `options.groups[${index}]`, 0, LARGEST_ID);
    return id;
  });
}

/** Rows of resource, soft and hard limit, one after the other; NaN leaves the hard limit. */
function checkLimits(rlimits: unknown): number[] {
  if (rlimits === undefined) return [];
  checkObject(rlimits, 'options.rlimits');
  const known = nativeSpawn().limits;
  checkKeys(rlimits, Object.keys(known), 'resource limit');
  const rows: number[] = [];
  for (const [name, limit] of Object.entries(rlimits)) {
    if (limit === undefined) continue;
    checkObject(limit, `options.rlimits.${name}`);
    checkKeys(limit, ['soft', 'hard'], `option of the limit "${name}"`);
    const { soft, hard } = limit as { soft?: unknown; hard?: unknown };
    checkLimit(soft, `options.rlimits.${name}.soft`);
    if (hard !== undefined) {
      checkLimit(hard, `options.rlimits.${name}.hard`);
      if (soft > hard) throw outOfRange(`options.rlimits.${name}.soft`, `<= ${hard}, the hard limit`, soft);
    }
    rows.push(known[name] as number, soft, hard ?? Number.NaN);
  }
  return rows;
}

function checkLimit(value: unknown, name: string): asserts value is number {
  if (value === Number.POSITIVE_INFINITY) return;
  checkInteger(value, name, 0, Number.MAX_SAFE_INTEGER);
}

function checkDeathSignal(signal: SignalName | number | undefined): number {
  if (signal === undefined) return Number.NaN;
  const number = signalNumber(signal);
  if (!nativeSpawn().hasDeathSignal) throw unsupported('options.parentDeathSignal', process.platform);
  // The kernel sends it when the *thread* ends that forked.
  if (!isMainThread) throw mainThreadOnly('spawn with "parentDeathSignal"');
  return number;
}
