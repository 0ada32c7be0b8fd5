/** Who a process is, and what a state directory says of a service. */
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Loop } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import { bootId, factsOf, identify, initialVariable, match } from '../../dist/supervisor/identity.js';
import { Shim } from '../../dist/supervisor/shim.js';
import { lockHolders, readRecord, StateDirectory } from '../../dist/supervisor/state.js';
import { alive, coupled, environment, eventually, folder, Recorder } from './support.ts';

const self = identify(process.pid);

describe('a process', () => {
  test('is the same for as long as it runs', () => {
    expect(self).toEqual({ pid: process.pid, startTime: expect.any(Number), bootId: bootId() });
    expect(match(self as NonNullable<typeof self>)).toBe('same');
  });

  test('of the same number that began at another time is another', () => {
    const { startTime, ...rest } = self as NonNullable<typeof self>;
    expect(match({ ...rest, startTime: (startTime as number) - 1 })).toBe('other');
  });

  test('of before the machine’s start is another, whatever runs under its number', () => {
    expect(match({ ...(self as NonNullable<typeof self>), bootId: 'another' })).toBe('other');
  });

  test.each([{ startTime: null }, { bootId: null }])('with %j is not known to be the one', (without) => {
    expect(match({ ...(self as NonNullable<typeof self>), ...without })).toBe('unreadable');
  });

  test('that is a zombie is gone', async () => {
    // The shell becomes a program that never waits for its child.
    const parent = spawn('sh', ['-c', 'sleep 1000 & echo $!; exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void parent.kill('SIGKILL'));
    const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)));
    await eventually('exec', () => readFileSync(`/proc/${parent.pid}/comm`, 'utf8') === 'sleep\n');
    process.kill(pid, 'SIGKILL');
    await eventually('a zombie', () => !alive(pid));
    expect(readFileSync(`/proc/${pid}/stat`, 'latin1')).toContain(') Z ');
    expect(factsOf(pid)).toBe('gone');
  });

  test.each([0, -1, 1.5, Number.NaN, 2 ** 31])('of number %s does not exist', (pid) => {
    expect(factsOf(pid)).toBe('gone');
  });

  test('has the environment that it was started with', () => {
    expect(initialVariable(process.pid, 'PATH')).toEqual(expect.any(String));
    expect(initialVariable(process.pid, 'FORKBEARD_NO_SUCH')).toBe(undefined);
    expect(initialVariable(2 ** 30, 'PATH')).toBe(null);
  });
});

describe('a record', () => {
  const sound = {
    service: 'x',
    runId: 'r',
    bootId: bootId(),
    command: ['sleep'],
    pid: 12345,
    startTime: 5,
    groupId: 12345,
    shim: { pid: 12344, startTime: 4 },
  };

  test('is read whole', () => {
    const path = join(folder(), 'x.pid');
    writeFileSync(path, JSON.stringify(sound));
    expect(readRecord(path)).toEqual({ kind: 'record', record: sound });
  });

  test.each([
    ['', 'no JSON'],
    [JSON.stringify(sound).slice(0, 40), 'no JSON'],
    ['12345\n', 'sound ""'],
    [JSON.stringify({ ...sound, pid: 0 }), '"pid"'],
    [JSON.stringify({ ...sound, pid: 1 }), '"pid"'],
    [JSON.stringify({ ...sound, pid: -1 }), '"pid"'],
    [JSON.stringify({ ...sound, pid: '12345' }), '"pid"'],
    [JSON.stringify({ ...sound, groupId: 1 }), '"groupId"'],
    [JSON.stringify({ ...sound, shim: {} }), '"shim.pid"'],
    [JSON.stringify({ ...sound, service: '../x' }), '"service"'],
    [' '.repeat(2 << 20), 'bytes'],
  ])('that says %.30j is not believed', (text, reason) => {
    const path = join(folder(), 'x.pid');
    writeFileSync(path, text);
    expect(readRecord(path)).toEqual({ kind: 'invalid', reason: expect.stringContaining(reason) });
  });

  test('that is a link, or no file, is not believed', () => {
    const state = folder();
    writeFileSync(join(state, 'real'), JSON.stringify(sound));
    symlinkSync(join(state, 'real'), join(state, 'x.pid'));
    expect(readRecord(join(state, 'x.pid')).kind).toBe('invalid');
    mkdirSync(join(state, 'y.pid'));
    expect(readRecord(join(state, 'y.pid')).kind).toBe('invalid');
    // Which nobody ever writes to.
    execFileSync('mkfifo', [join(state, 'z.pid')]);
    expect(readRecord(join(state, 'z.pid')).kind).toBe('invalid');
  });

  test.runIf(process.getuid?.() === 0)('of another user is not believed (needs root)', () => {
    const path = join(folder(), 'x.pid');
    writeFileSync(path, JSON.stringify(sound));
    chownSync(path, 65_534, 65_534);
    expect(readRecord(path)).toEqual({ kind: 'invalid', reason: expect.stringContaining('user 65534') });
  });
});

describe('a state directory', () => {
  test('that others may write to is refused', () => {
    const path = folder();
    chmodSync(path, 0o777);
    expect(() => new StateDirectory(path)).toThrow(
      expect.objectContaining({ code: 'ERR_FORKBEARD_STATE_DIR' }),
    );
  });

  test.runIf(process.getuid?.() === 0)('of another user is refused (needs root)', () => {
    const path = folder();
    chownSync(path, 65_534, 65_534);
    expect(() => new StateDirectory(path)).toThrow(`The state directory ${path} belongs to user 65534`);
  });

  test('that is a link is refused', () => {
    const path = join(folder(), 'link');
    symlinkSync(folder(), path);
    expect(() => new StateDirectory(path)).toThrow(/is no directory/);
  });

  test('a folder that the kernel does not make is an error, and soon', () => {
    expect(() => new StateDirectory('/proc/none/state')).toThrow(/^ENOENT: .*'\/proc\/none'$/);
  });

  test.each(['', '..', '.hidden', 'a/b', 'a b', 'a\0b', 'x'.repeat(65)])('has no service %j', (name) => {
    expect(() => new StateDirectory(folder()).of(name)).toThrow(/letters, digits/);
  });

  test('too deep for a socket is refused, and not cut off', () => {
    const path = join(folder(), 'd'.repeat(100));
    expect(() => new StateDirectory(path).of('x')).toThrow(
      expect.objectContaining({ code: 'ERR_FORKBEARD_STATE_DIR' }),
    );
  });
});

describe('a service is found', () => {
  function service(script: string) {
    const state = new StateDirectory(folder());
    const { record, lock } = state.of('x');
    const head = { service: 'x', runId: 'r', bootId: bootId(), command: ['sh', '-c', script] };
    const seen = new Recorder();
    const options = coupled(script, { lock, record: { path: record, head }, env: environment() });
    const shim = Shim.start(Loop.current(), options, seen);
    return { state, seen, shim, lock, record };
  }

  test('running, with its lock held by its shim; then not at all', async () => {
    const { state, seen, shim, lock } = service('exec sleep 1000');
    await seen.until('started');
    expect(state.find('x')).toMatchObject({ verdict: 'running', record: { pid: seen.pid } });
    expect(lockHolders(lock)).toEqual([seen.start?.shim]);
    shim.stop([{ signal: 'KILL', wait: 1000 }]);
    await seen.until('gone');
    expect(state.find('x')).toEqual({ verdict: 'none', record: null });
    expect(lockHolders(lock)).toEqual([]);
  });

  test('settling, when its first process has ended and the rest has not', async () => {
    const { state, seen, shim } = service('sleep 1000 & exit 0');
    await seen.until('exited');
    expect(state.find('x').verdict).toBe('settling');
    shim.stop([{ signal: 'KILL', wait: 1000 }]);
    await seen.until('gone');
  });

  test('stale, when a shim was killed with its service', async () => {
    const { state, seen } = service('exec sleep 1000');
    await seen.until('started');
    process.kill(seen.start?.shim as number, 'SIGKILL');
    await seen.until('gone');
    await eventually('its end', () => !alive(seen.pid));
    expect(state.find('x').verdict).toBe('stale');
  });

  test('stale, and nothing else, when its numbers are other processes’ by now', async () => {
    const { state, seen, record } = service('exec sleep 1000');
    await seen.until('started');
    process.kill(seen.start?.shim as number, 'SIGKILL');
    await seen.until('gone');
    const left = JSON.parse(readFileSync(record, 'utf8'));
    const reused = { ...left, pid: process.pid, shim: { ...left.shim, pid: process.ppid } };
    writeFileSync(record, JSON.stringify(reused));
    expect(state.find('x').verdict).toBe('stale');
  });

  test('orphaned, when it runs on without its shim', async () => {
    const { state, seen, record } = service('exec sleep 1000');
    await seen.until('started');
    const left = JSON.parse(readFileSync(record, 'utf8'));
    writeFileSync(record, JSON.stringify({ ...left, shim: { pid: 2 ** 22 + 1, startTime: 1 } }));
    expect(state.find('x').verdict).toBe('orphaned');
    process.kill(seen.pid, 'SIGKILL');
    await seen.until('gone');
  });

  test('unknown, when what is written there is not to be believed', () => {
    const state = new StateDirectory(folder());
    writeFileSync(state.of('x').record, '{}');
    expect(state.find('x')).toMatchObject({ verdict: 'unknown', record: null, reason: expect.any(String) });
  });
});
