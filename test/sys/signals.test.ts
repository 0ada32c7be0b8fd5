/** Names and numbers of signals, kill, exit and the error numbers. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { signalName, signalNumber } from '../../dist/sys/signals.js';

const linux = process.platform === 'linux';
const unknown = (near?: string) =>
  expect.objectContaining({
    name: 'TypeError',
    code: 'ERR_FORKBEARD_UNKNOWN_SIGNAL',
    message:
      near === undefined
        ? expect.not.stringContaining('did you mean')
        : expect.stringContaining(`did you mean '${near}'?`),
  });

describe('signalNumber', () => {
  test('knows every name with and without SIG, and numbers', () => {
    for (const [name, number] of Object.entries(constants.signals)) {
      expect(signalNumber(name)).toBe(number);
      expect(signalNumber(name.slice(3))).toBe(number);
      expect(signalNumber(number)).toBe(number);
    }
  });

  test.runIf(linux)('knows the real-time signals', () => {
    const first = signalNumber('SIGRTMIN');
    const last = signalNumber('RTMAX');
    expect(first).toBeGreaterThanOrEqual(32);
    expect(last).toBe(64);
    expect(signalNumber('SIGRTMIN+0')).toBe(first);
    expect(signalNumber('RTMIN+5')).toBe(first + 5);
    expect(signalNumber('SIGRTMAX-1')).toBe(last - 1);
    expect(() => signalNumber('SIGRTMIN+31')).toThrow(/Unknown signal/);
    expect(() => signalNumber('SIGRTMAX-99')).toThrow(/Unknown signal/);
    expect(() => signalNumber('SIGRTMIN-1')).toThrow(/Unknown signal/);
  });

  test.each([
    ['SIGTREM', 'SIGTERM'],
    ['sigterm', 'SIGTERM'],
    ['hup', 'SIGHUP'],
    ['SIGKIL', 'SIGKILL'],
    ['USR3', 'SIGUSR1'],
  ])('suggests for %s the name %s', (name, near) => {
    expect(() => signalNumber(name)).toThrow(unknown(near));
  });

  test.each(['', 'SIG', 'nonsense', 'SIGSIGTERM9', 'toString', '15', 0, -1, 65, 1.5, Number.NaN, 2 ** 53])(
    '%s is none',
    (signal) => {
      expect(() => signalNumber(signal)).toThrow(
        expect.objectContaining({ code: 'ERR_FORKBEARD_UNKNOWN_SIGNAL' }),
      );
    },
  );

  test('takes nothing else', () => {
    for (const signal of [null, undefined, {}, Symbol('TERM'), 15n, ['SIGTERM']]) {
      expect(() => signalNumber(signal as never)).toThrow(
        expect.objectContaining({ name: 'TypeError', code: 'ERR_FORKBEARD_INVALID_ARG_TYPE' }),
      );
    }
  });
});

describe('signalName', () => {
  test('gives the usual name of a number', () => {
    expect(signalName(15)).toBe('SIGTERM');
    expect(signalName(constants.signals.SIGABRT)).toBe('SIGABRT');
    expect(signalName(constants.signals.SIGCHLD)).toBe('SIGCHLD');
  });

  test.runIf(linux)('and signalNumber turns every name back', () => {
    for (let number = 1; number <= 64; number++) {
      const name = signalName(number);
      if (/^SIG\d+$/.test(name)) continue; // kept by the C library for itself
      expect(signalNumber(name)).toBe(number);
    }
  });

  test('refuses what is no signal', () => {
    for (const number of [0, -1, 65, 1.5, 2 ** 31]) expect(() => signalName(number)).toThrow(RangeError);
    expect(() => signalName('SIGTERM' as never)).toThrow(TypeError);
  });
});

describe('kill', () => {
  test('reaches a process, by a name or a number', async () => {
    for (const signal of ['TERM', 'SIGINT', 9, ...(linux ? ['SIGRTMIN+3'] : [])]) {
      const child = spawn('sleep', ['60'], { stdio: 'ignore' });
      await once(child, 'spawn');
      sys.kill(child.pid as number, signal);
      await once(child, 'exit');
      // Node has no name for real-time signals and leaves the field empty.
      if (signal !== 'SIGRTMIN+3') expect(child.signalCode).toBe(signalName(signalNumber(signal)));
    }
  });

  test('with signal 0 only asks', () => {
    sys.kill(process.pid, 0);
    sys.kill(0, 0);
    expect(() => sys.kill(2 ** 31 - 1, 0)).toThrow(
      expect.objectContaining({ code: 'ESRCH', errno: -sys.ESRCH, syscall: 'kill', pid: 2 ** 31 - 1 }),
    );
  });

  test('takes whole numbers and signals only', () => {
    for (const pid of [1.5, Number.NaN, 2 ** 31, -(2 ** 31) - 1, Number.POSITIVE_INFINITY]) {
      expect(() => sys.kill(pid, 0)).toThrow(RangeError);
    }
    for (const pid of ['1', null, undefined, {}]) expect(() => sys.kill(pid as never, 0)).toThrow(TypeError);
    expect(() => sys.kill(process.pid, 'SIGTREM')).toThrow(unknown('SIGTERM'));
    expect(() => sys.kill(process.pid, '')).toThrow(unknown());
    expect(() => sys.kill(process.pid, undefined as never)).toThrow(TypeError);
    expect(() => sys.kill(process.pid, -1)).toThrow(unknown());
  });
});

describe('exit', () => {
  const fixture = fileURLToPath(new URL('fixtures/exit.mjs', import.meta.url));

  test.each([0, 3, 255])('ends with %d at once: no listener runs', (code) => {
    const { status, stdout } = spawnSync(process.execPath, [fixture, String(code)], { encoding: 'utf8' });
    expect(status).toBe(code);
    expect(stdout).toBe('before\n');
  });

  test('takes 0 to 255 only', () => {
    for (const code of [-1, 256, 1.5, Number.NaN]) expect(() => sys.exit(code)).toThrow(RangeError);
    for (const code of ['0', null, undefined]) expect(() => sys.exit(code as never)).toThrow(TypeError);
  });
});

describe('error numbers', () => {
  test("are positive and this platform's", () => {
    for (const [name, number] of Object.entries(constants.errno)) expect((sys as never)[name]).toBe(number);
    const numbers = Object.entries(sys).filter(([name]) => /^E[A-Z0-9]+$/.test(name));
    expect(numbers.length).toBeGreaterThanOrEqual(82);
    for (const [name, number] of numbers) expect(number, name).toBeGreaterThan(0);
    expect(sys.EAGAIN).toBe(linux ? 11 : 35);
  });
});
