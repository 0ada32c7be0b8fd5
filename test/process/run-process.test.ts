/** runProcess: a program from its start to its end, with what it says; and each way in which that can go wrong. */
import { constants } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Loop, type RunProcessOptions, type RunProcessResult } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { children, folderForEach, linux, loopForEach, openDescriptors, runFixture } from './programs.ts';

const loop = loopForEach();
const folder = folderForEach();
const sh = (script: string): [string, ...string[]] => ['sh', '-c', script];
const run = (options: RunProcessOptions) => loop().runProcess(options);
const rejection = (options: RunProcessOptions): Promise<Error & RunProcessResult> =>
  run(options).then(
    () => {
      throw new Error('It was fulfilled');
    },
    (error) => error,
  );

describe('a run is fulfilled', () => {
  test('with how the program ended and what it said', async () => {
    const result = await run({ command: sh('echo out; echo err >&2; exit 3') });
    expect(result).toEqual({
      pid: expect.any(Number),
      exitCode: 3,
      signal: null,
      coreDumped: false,
      status: 3 << 8,
      stolen: false,
      stdout: 'out\n',
      stderr: 'err\n',
      outputHeld: false,
    });
  });

  test('when the program was ended by a signal', async () => {
    expect(await run({ command: sh('echo before; kill -TERM $$') })).toMatchObject({
      exitCode: null,
      signal: 'SIGTERM',
      stdout: 'before\n',
    });
  });

  test('in a loop that blocks its thread, for more than a pipe holds', async () => {
    const { said } = await runFixture('blocking-run.mjs');
    expect(said).toEqual({ length: 588_895, exitCode: 0 });
  });

  test('after ten megabytes both ways', async () => {
    const stdin = Buffer.alloc(10 * 1024 * 1024);
    for (let i = 0; i < stdin.length; i += 4) stdin.writeUInt32LE(Math.imul(i, 2_654_435_761) >>> 0, i);
    const { stdout } = await run({ command: 'cat', stdin, encoding: 'buffer' });
    expect((stdout as Buffer).equals(stdin)).toBe(true);
  });

  test('a hundred at once', async () => {
    const all = Array.from({ length: 100 }, (_, i) => i);
    const results = await Promise.all(all.map((i) => run({ command: ['echo', String(i)] })));
    expect(results.map(({ stdout }) => stdout)).toEqual(all.map((i) => `${i}\n`));
  });
});

describe('stdin', () => {
  test('is given to the program, then its end', async () => {
    expect((await run({ command: ['tr', 'a-z', 'A-Z'], stdin: 'some data\n' })).stdout).toBe('SOME DATA\n');
    expect((await run({ command: 'cat', stdin: new Uint8Array([65, 66]) })).stdout).toBe('AB');
    expect((await run({ command: 'cat', stdin: 'ünï😀' })).stdout).toBe('ünï😀');
  });

  test('of nothing is an end at once', async () => {
    expect((await run({ command: 'cat', stdin: '' })).stdout).toBe('');
    expect((await run({ command: 'cat', stdin: '0' })).stdout).toBe('0');
  });

  test('is empty by default, and never ours', async () => {
    expect((await run({ command: 'cat' })).stdout).toBe('');
  });

  test('that the program does not want is no error', async () => {
    const stdin = Buffer.alloc(1 << 20);
    expect(await run({ command: 'true', stdin })).toMatchObject({ exitCode: 0 });
    expect(await run({ command: sh('exec <&-; exit 2'), stdin })).toMatchObject({ exitCode: 2 });
  });

  test('may be changed by its owner at once', async () => {
    const stdin = Buffer.alloc(1 << 20, 'a');
    const promise = run({ command: ['tr', '-d', 'a'], stdin });
    stdin.fill('b');
    expect((await promise).stdout).toBe('');
  });
});

describe('encoding', () => {
  test('is utf8, also where a character is torn between two reads', async () => {
    const { stdout } = await run({ command: sh('printf "\\303"; head -c 0 /dev/null; printf "\\274"') });
    expect(stdout).toBe('ü');
  });

  test('may be another, or none', async () => {
    expect((await run({ command: ['printf', 'abc'], encoding: 'hex' })).stdout).toBe('616263');
    expect((await run({ command: ['printf', 'abc'], encoding: 'base64' })).stdout).toBe('YWJj');
    const { stdout, stderr } = await run({ command: ['printf', '\\377'], encoding: 'buffer' });
    expect(stdout).toEqual(Buffer.from([255]));
    expect(stderr).toEqual(Buffer.alloc(0));
  });
});

describe('a run is rejected', () => {
  test('with failOnNonzero, when the program fails, with all fields of the result', async () => {
    const error = await rejection({ command: sh('echo out; echo err >&2; exit 3'), failOnNonzero: true });
    expect(error).toMatchObject({
      code: 'ERR_FORKBEARD_EXIT',
      exitCode: 3,
      signal: null,
      status: 3 << 8,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(error.message).toBe('Program failed with exit code 3: sh -c echo out; echo err >&2; exit 3');
    expect(error).toBeInstanceOf(Error);
  });

  test('with failOnNonzero, when a signal ended it', async () => {
    expect(await rejection({ command: sh('kill -KILL $$'), failOnNonzero: true })).toMatchObject({
      code: 'ERR_FORKBEARD_EXIT',
      exitCode: null,
      signal: 'SIGKILL',
    });
    expect(await run({ command: 'true', failOnNonzero: true })).toMatchObject({ exitCode: 0 });
  });

  test('when the program does not start, as spawn would have thrown', async () => {
    expect(await rejection({ command: 'nowhere-to-be-found' })).toMatchObject({
      code: 'ENOENT',
      step: 'exec',
    });
    expect(await rejection({ command: 'true', cwd: '/nowhere' })).toMatchObject({
      code: 'ENOENT',
      step: 'chdir',
    });
  });

  test('after the timeout, when the program has ended', async () => {
    const start = performance.now();
    const error = await rejection({ command: sh('echo said; exec sleep 1000'), timeout: 200 });
    expect(performance.now() - start).toBeGreaterThanOrEqual(200);
    expect(error).toMatchObject({
      code: 'ERR_FORKBEARD_TIMEOUT',
      signal: 'SIGTERM',
      exitCode: null,
      stdout: 'said\n',
    });
    if (linux) expect(children()).not.toContain(error.pid);
  });

  test('not by a timeout that is not reached, and it leaves no timer', async () => {
    expect(await run({ command: 'true', timeout: 1_000_000 })).toMatchObject({ exitCode: 0 });
    expect(await run({ command: 'true', timeout: Infinity })).toMatchObject({ exitCode: 0 });
  });

  test('when the program says more than maxBuffer, with as much as was allowed', async () => {
    const error = await rejection({ command: 'yes', maxBuffer: 100_001 });
    expect(error).toMatchObject({ code: 'ERR_FORKBEARD_MAX_BUFFER' });
    expect(error.stdout).toBe('y\n'.repeat(50_000).concat('y'));
    expect(await rejection({ command: sh('echo long >&2'), maxBuffer: 4 })).toMatchObject({
      code: 'ERR_FORKBEARD_MAX_BUFFER',
      stderr: 'long',
    });
  });

  test('also when it has ended before we read that', async () => {
    const promise = rejection({ command: ['head', '-c', '60000', '/dev/zero'], maxBuffer: 10 });
    const until = performance.now() + 50;
    while (performance.now() < until) {
      // Busy: it says everything and ends meanwhile.
    }
    expect(await promise).toMatchObject({ code: 'ERR_FORKBEARD_MAX_BUFFER', stdout: '\0'.repeat(10) });
  });

  test('when what it says is longer than a string can be', { timeout: 60_000 }, async () => {
    const bytes = String(Math.ceil(constants.MAX_STRING_LENGTH / 2) + 1);
    const command: [string, ...string[]] = ['head', '-c', bytes, '/dev/zero'];
    expect(await rejection({ command, encoding: 'hex', maxBuffer: Number.POSITIVE_INFINITY })).toMatchObject({
      code: 'ERR_STRING_TOO_LONG',
      exitCode: 0,
    });
  });

  test('not by exactly maxBuffer', async () => {
    expect(await run({ command: ['printf', '12345'], maxBuffer: 5 })).toMatchObject({ stdout: '12345' });
    expect(await run({ command: 'true', maxBuffer: 0 })).toMatchObject({ stdout: '' });
  });

  test('when its loop closes', async () => {
    const other = new Loop();
    const promise = other.runProcess({ command: 'cat', stdin: Buffer.alloc(1 << 20) });
    other.close();
    await expect(promise).rejects.toMatchObject({ code: 'ERR_FORKBEARD_LOOP_CLOSED' });
    await expect(other.runProcess({ command: 'true' })).rejects.toMatchObject({
      code: 'ERR_FORKBEARD_LOOP_CLOSED',
    });
  });
});

describe('an abort', () => {
  test('sends SIGTERM and rejects with the reason as the cause', async () => {
    const controller = new AbortController();
    const reason = new Error('why');
    const path = join(folder(), 'ready');
    const promise = rejection({
      command: sh(`echo A; echo > ${path}; exec sleep 1000`),
      signal: controller.signal,
    });
    while (!fileIsThere(path)) await loop().later();
    controller.abort(reason);
    const error = await promise;
    expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', signal: 'SIGTERM', stdout: 'A\n' });
    expect(error.cause).toBe(reason);
  });

  test('lets the program say what it has to say', async () => {
    const controller = new AbortController();
    const path = join(folder(), 'ready');
    const script = `trap 'printf B; exit 0' TERM; printf A; echo > ${path}; while :; do sleep 0.05; done`;
    const promise = rejection({ command: sh(script), signal: controller.signal });
    while (!fileIsThere(path)) await loop().later();
    controller.abort();
    expect(await promise).toMatchObject({ code: 'ABORT_ERR', stdout: 'AB', exitCode: 0 });
  });

  test('sends what cancelSignal says', async () => {
    const controller = new AbortController();
    const promise = rejection({
      command: ['sleep', '1000'],
      signal: controller.signal,
      cancelSignal: 'KILL',
    });
    controller.abort();
    expect(await promise).toMatchObject({ signal: 'SIGKILL' });
  });

  test('reaches all of the group that the program leads', async () => {
    const controller = new AbortController();
    const path = join(folder(), 'ready');
    const promise = rejection({
      command: sh(`sleep 1000 & echo $! > ${path}; wait`),
      group: 'new',
      signal: controller.signal,
    });
    while (!fileIsThere(path)) await loop().later();
    controller.abort();
    expect(await promise).toMatchObject({ signal: 'SIGTERM', outputHeld: false });
    const grandchild = Number(readFileSync(path, 'utf8'));
    await new Promise<void>((resolve) => {
      try {
        loop().watchProcess(grandchild, () => resolve());
      } catch {
        resolve();
      }
    });
  });

  test('that came before starts nothing', async () => {
    const path = join(folder(), 'started');
    const error = await rejection({ command: ['touch', path], signal: AbortSignal.abort('early') });
    expect(error).toMatchObject({ code: 'ABORT_ERR', cause: 'early' });
    const nobody = { pid: 0, exitCode: null, signal: null, coreDumped: false, status: null, stolen: false };
    expect(error).toMatchObject({ ...nobody, stdout: '', stderr: '', outputHeld: false });
    expect(fileIsThere(path)).toBe(false);
  });

  test('that comes afterwards changes nothing, and nobody listens any more', async () => {
    const controller = new AbortController();
    let listeners = 0;
    const { signal } = controller;
    const [add, remove] = [signal.addEventListener, signal.removeEventListener];
    signal.addEventListener = (...args: unknown[]) => {
      listeners++;
      return Reflect.apply(add, signal, args);
    };
    signal.removeEventListener = (...args: unknown[]) => {
      listeners--;
      return Reflect.apply(remove, signal, args);
    };
    expect(await run({ command: 'true', signal })).toMatchObject({ exitCode: 0 });
    expect(listeners).toBe(0);
    controller.abort();
  });
});

describe('a grandchild that keeps the output open', () => {
  test('does not hang the run: what was said is there, and the result says so', async () => {
    const start = performance.now();
    const result = await run({ command: sh('echo said; sleep 1000 & echo $!') });
    const [first, pid] = (result.stdout as string).split('\n');
    process.kill(Number(pid), 'SIGKILL');
    expect(first).toBe('said');
    expect(result).toMatchObject({ exitCode: 0, outputHeld: true });
    expect(performance.now() - start).toBeGreaterThanOrEqual(1000);
  });

  test('and ends soon is heard to its end', async () => {
    const result = await run({ command: sh('(sleep 0.2; echo late) & echo early') });
    expect(result).toMatchObject({ stdout: 'early\nlate\n', outputHeld: false });
  });
});

test.runIf(linux)('runs leave no descriptor, however they end', async () => {
  const all = async () => {
    const options: RunProcessOptions[] = [
      { command: 'cat', stdin: 'x' },
      { command: 'true', stdin: Buffer.alloc(1 << 20) },
      { command: 'yes', maxBuffer: 10 },
      { command: ['sleep', '1000'], timeout: 1 },
      { command: 'nowhere-to-be-found' },
      { command: 'false', failOnNonzero: true },
    ];
    await Promise.allSettled(options.map(run));
  };
  await all();
  const before = openDescriptors().size;
  for (let i = 0; i < 20; i++) await all();
  expect(openDescriptors().size).toBeLessThanOrEqual(before);
  expect(children()).toEqual([]);
});

function fileIsThere(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').endsWith('\n');
  } catch {
    return false;
  }
}
