/** Every option is checked before anything is started, and what is wrong is said. */
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import type { RunProcessOptions, SpawnOptions } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { children, linux, loopForEach, thrown } from './programs.ts';

const loop = loopForEach();

const TYPE = 'ERR_FORKBEARD_INVALID_ARG_TYPE';
const VALUE = 'ERR_FORKBEARD_INVALID_ARG_VALUE';
const RANGE = 'ERR_FORKBEARD_OUT_OF_RANGE';
const UNKNOWN = 'ERR_FORKBEARD_UNKNOWN_OPTION';
const SIGNAL = 'ERR_FORKBEARD_UNKNOWN_SIGNAL';

const wrong: [what: string, options: unknown, code: string][] = [
  ['nothing', undefined, TYPE],
  ['null', null, TYPE],
  ['a string', 'true', TYPE],
  ['no command', {}, TYPE],
  ['an empty command', { command: '' }, VALUE],
  ['an empty list', { command: [] }, VALUE],
  ['a list with an empty program', { command: [''] }, VALUE],
  ['an argument that is no string', { command: ['true', 1] }, TYPE],
  ['a list with a hole', { command: ['true', undefined, 'x'] }, TYPE],
  ['a null byte in the program', { command: 'tr\0ue' }, VALUE],
  ['a null byte in an argument', { command: ['true', 'a\0b'] }, VALUE],
  ['an option of child_process', { command: 'true', shell: true }, UNKNOWN],
  ['a misspelt option', { command: 'true', comand: 'x' }, UNKNOWN],
  ['stdio as an array, as child_process has it', { command: 'true', stdio: ['pipe'] }, TYPE],
  ['stdio as a string', { command: 'true', stdio: 'inherit' }, TYPE],
  ['an unknown stdio target', { command: 'true', stdio: { stdout: 'pipes' } }, VALUE],
  ['a stdio target of a wrong type', { command: 'true', stdio: { stdout: true } }, TYPE],
  ['null as a stdio target', { command: 'true', stdio: { stdout: null } }, TYPE],
  ['an unknown stdio name', { command: 'true', stdio: { stdot: 'pipe' } }, UNKNOWN],
  ['an unknown stdio name that is not set', { command: 'true', stdio: { stdot: undefined } }, UNKNOWN],
  ['a negative descriptor', { command: 'true', stdio: { '-1': 'pipe' } }, UNKNOWN],
  ['a fraction of a descriptor', { command: 'true', stdio: { '1.5': 'pipe' } }, UNKNOWN],
  ['a descriptor with a leading zero', { command: 'true', stdio: { '01': 'pipe' } }, UNKNOWN],
  ['a descriptor that no number is', { command: 'true', stdio: { 99999999999: 'pipe' } }, RANGE],
  ['the same descriptor twice', { command: 'true', stdio: { stdin: 'pipe', 0: 'ignore' } }, VALUE],
  ['a negative source', { command: 'true', stdio: { stdout: -1 } }, RANGE],
  ['NaN as a source', { command: 'true', stdio: { stdout: Number.NaN } }, RANGE],
  ['a path that is no string', { command: 'true', stdio: { stdout: { open: 1 } } }, TYPE],
  ['an empty path', { command: 'true', stdio: { stdout: { open: '' } } }, VALUE],
  ['unknown flags', { command: 'true', stdio: { stdout: { open: 'x', flags: 'q' } } }, VALUE],
  ['flags of an object', { command: 'true', stdio: { stdout: { open: 'x', flags: 'constructor' } } }, VALUE],
  ['a mode that is none', { command: 'true', stdio: { stdout: { open: 'x', mode: 0o10000 } } }, RANGE],
  ['an unknown key of a file', { command: 'true', stdio: { stdout: { open: 'x', flag: 'w' } } }, UNKNOWN],
  ['an environment of strings', { command: 'true', env: 'A=b' }, TYPE],
  ['an environment that is a list', { command: 'true', env: ['A=b'] }, TYPE],
  ['an environment that is a Map', { command: 'true', env: new Map([['A', 'b']]) }, TYPE],
  ['limits that are a Map', { command: 'true', rlimits: new Map([['nofile', { soft: 5 }]]) }, TYPE],
  ['stdio that is a Map', { command: 'true', stdio: new Map([[1, 'pipe']]) }, TYPE],
  ['a variable that is no string', { command: 'true', env: { A: 1 } }, TYPE],
  ['a variable named with "="', { command: 'true', env: { 'A=B': 'c' } }, VALUE],
  ['a variable without a name', { command: 'true', env: { '': 'c' } }, VALUE],
  ['a null byte in a variable', { command: 'true', env: { A: 'b\0c' } }, VALUE],
  ['a working directory that is no string', { command: 'true', cwd: new URL('file:///') }, TYPE],
  ['an empty working directory', { command: 'true', cwd: '' }, VALUE],
  ['a user by name', { command: 'true', uid: 'root' }, TYPE],
  ['the user that means none', { command: 'true', uid: 0xffff_ffff }, RANGE],
  ['a negative group', { command: 'true', gid: -1 }, RANGE],
  ['groups that are no list', { command: 'true', groups: 5 }, TYPE],
  ['a group by name', { command: 'true', groups: ['wheel'] }, TYPE],
  ['too many groups', { command: 'true', groups: new Array(70_000).fill(1) }, RANGE],
  ['a umask beyond nine bits', { command: 'true', umask: 0o1000 }, RANGE],
  ['a niceness beyond all', { command: 'true', nice: 100 }, RANGE],
  ['a fraction of niceness', { command: 'true', nice: 0.5 }, RANGE],
  ['an unknown limit', { command: 'true', rlimits: { nofiles: { soft: 5 } } }, UNKNOWN],
  ['a limit of Object', { command: 'true', rlimits: { toString: { soft: 5 } } }, UNKNOWN],
  ['a limit as a number', { command: 'true', rlimits: { nofile: 5 } }, TYPE],
  ['a limit without soft', { command: 'true', rlimits: { nofile: { hard: 5 } } }, TYPE],
  ['a negative limit', { command: 'true', rlimits: { nofile: { soft: -1 } } }, RANGE],
  ['a soft limit above the hard one', { command: 'true', rlimits: { nofile: { soft: 6, hard: 5 } } }, RANGE],
  ['an unknown group', { command: 'true', group: 'own' }, VALUE],
  ['group 0', { command: 'true', group: 0 }, RANGE],
  ['a negative group', { command: 'true', group: -5 }, RANGE],
  ['an unknown signal', { command: 'true', parentDeathSignal: 'TERMINATE' }, SIGNAL],
  ['signal 0', { command: 'true', parentDeathSignal: 0 }, SIGNAL],
  ['an empty title with a null byte', { command: 'true', title: '\0' }, VALUE],
  ['a title that is no string', { command: 'true', title: 5 }, TYPE],
  ['onExit that is no function', { command: 'true', onExit: 'x' }, TYPE],
];

test.each(wrong)('%s is refused', (_, options, code) => {
  const before = linux ? children() : [];
  expect(thrown(() => loop().spawn(options as SpawnOptions))).toMatchObject({ code });
  if (linux) expect(children().filter((pid) => !before.includes(pid))).toEqual([]);
});

const wrongForRun: [what: string, options: unknown, code: string][] = [
  ['stdio', { command: 'true', stdio: {} }, UNKNOWN],
  ['onExit', { command: 'true', onExit: () => {} }, UNKNOWN],
  ['a misspelt option', { command: 'true', timeuot: 5 }, UNKNOWN],
  ['stdin as a number', { command: 'cat', stdin: 5 }, TYPE],
  ['a signal that is none to abort with', { command: 'true', signal: {} }, TYPE],
  ['an unknown cancelSignal', { command: 'true', cancelSignal: 'SIGNOTHING' }, SIGNAL],
  ['a timeout as a string', { command: 'true', timeout: '5' }, TYPE],
  ['a negative timeout', { command: 'true', timeout: -1 }, RANGE],
  ['a timeout of NaN', { command: 'true', timeout: Number.NaN }, RANGE],
  ['failOnNonzero as a number', { command: 'true', failOnNonzero: 1 }, TYPE],
  ['an unknown encoding', { command: 'true', encoding: 'utf9' }, VALUE],
  ['a negative maxBuffer', { command: 'true', maxBuffer: -1 }, RANGE],
  ['a fraction of a byte as maxBuffer', { command: ['echo', 'hello'], maxBuffer: 2.5 }, RANGE],
  ['a maxBuffer of NaN', { command: 'true', maxBuffer: Number.NaN }, RANGE],
  ['what spawn refuses', { command: '' }, VALUE],
];

test.each(wrongForRun)('%s is refused by runProcess, as a rejection', async (_, options, code) => {
  const promise = loop().runProcess(options as RunProcessOptions);
  await expect(promise).rejects.toMatchObject({ code });
});

describe('what was probably meant', () => {
  test.each([
    [{ command: 'true', comand: 'x' }, 'Unknown spawn option "comand"; did you mean "command"?'],
    [
      { command: 'true', stdio: { stdot: 'pipe' } },
      'Unknown stdio descriptor "stdot"; did you mean "stdout"?',
    ],
    [
      { command: 'true', rlimits: { nofiles: { soft: 5 } } },
      'Unknown resource limit "nofiles"; did you mean "nofile"?',
    ],
  ])('is suggested', (options, message) => {
    expect(thrown(() => loop().spawn(options as SpawnOptions)).message).toBe(message);
  });
});

test('options that are undefined are as good as absent', async () => {
  const options = Object.fromEntries(
    [
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
      'title',
      'onExit',
    ].map((name) => [name, undefined]),
  );
  expect(
    await loop().spawn({ command: 'true', ...options, env: { A: undefined, ...process.env } }).exited,
  ).toMatchObject({
    exitCode: 0,
  });
});

test('options may be changed once spawn has returned', async () => {
  const command: [string, ...string[]] = ['sh', '-c', 'exit 3'];
  const options = { command, env: { ...process.env } };
  const child = loop().spawn(options);
  command[2] = 'exit 4';
  options.env = {};
  expect(await child.exited).toMatchObject({ exitCode: 3 });
});

test.runIf(linux)('getters that throw leave nothing behind', () => {
  const before = children();
  const options = {
    command: 'true',
    get cwd(): string {
      throw new Error('from a getter');
    },
  };
  expect(thrown(() => loop().spawn(options)).message).toBe('from a getter');
  expect(children()).toEqual(before);
});

test.runIf(linux)('the native floor refuses what nobody should send it, and starts nothing', () => {
  const { spawn } = createRequire(import.meta.url)(`${process.env['FORKBEARD_NATIVE']}/forkbeard.node`);
  const good = () => [
    'true\0',
    null,
    '/bin/true\0',
    '',
    '',
    Int32Array.of(0, 0, 0, 0, 0),
    Float64Array.of(0, 0, NaN, NaN, NaN, NaN, NaN, 0, NaN, 0),
    new Int32Array(5),
  ];
  const settings = (place: number, value: number) => {
    const changed = good()[6] as Float64Array;
    changed[place] = value;
    return changed;
  };
  const bad: [place: number, value: unknown][] = [
    ...[undefined, 5, '', 'true', {}, Symbol('x'), null].map((value): [number, unknown] => [0, value]),
    ...[undefined, 5, 'A=b', {}].map((value): [number, unknown] => [1, value]),
    ...[undefined, 5, '', 'x', null].map((value): [number, unknown] => [2, value]),
    ...[undefined, 5, 'x', null].map((value): [number, unknown] => [3, value]),
    ...[undefined, 5, 'x', null].map((value): [number, unknown] => [4, value]),
    [5, undefined],
    [5, new Int32Array(4)],
    [5, new Float64Array(5)],
    [5, Int32Array.of(0, 9, 0, 0, 0)],
    [5, Int32Array.of(-1, 0, 0, 0, 0)],
    [5, Int32Array.of(0, 1, 0, 0, 0)],
    [5, Int32Array.of(0, 1, -1, 0, 0)],
    [5, Int32Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    [5, Int32Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    [6, undefined],
    [6, new Float64Array(9)],
    [6, new Int32Array(10)],
    ...[-1, 4, 0.5, NaN].map((value): [number, unknown] => [6, settings(0, value)]),
    [6, settings(0, 3)],
    ...[-1, 0o10000, Infinity].map((value): [number, unknown] => [6, settings(2, value)]),
    ...[-100, 1e300].map((value): [number, unknown] => [6, settings(3, value)]),
    ...[-1, 2 ** 32].map((value): [number, unknown] => [6, settings(4, value)]),
    ...[1, -1, 1e9].map((value): [number, unknown] => [6, settings(6, value)]),
    ...[-1, 65].map((value): [number, unknown] => [6, settings(8, value)]),
    ...[1, -1, NaN, 1e9].map((value): [number, unknown] => [6, settings(9, value)]),
    [7, undefined],
    [7, new Int32Array(4)],
    [7, new Uint8Array(50)],
  ];
  const before = children();
  expect(spawn.start()).toBe(-constants.errno.EINVAL);
  for (const [place, value] of bad) {
    const call = good();
    call[place] = value as never;
    expect({ place, value, result: spawn.start(...call) }).toEqual({
      place,
      value,
      result: -constants.errno.EINVAL,
    });
  }
  expect(children()).toEqual(before);
  const detached = new Int32Array(5);
  structuredClone(detached, { transfer: [detached.buffer] });
  expect(spawn.start(...good().slice(0, 7), detached)).toBe(-constants.errno.EINVAL);
});
