/** Programs: how they start, what they get to know, how they end, and what is left when they do not start. */
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { type ExitStatus, Loop, type SpawnOptions } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import {
  children,
  folderForEach,
  linux,
  loopForEach,
  openDescriptors,
  runFixture,
  text,
  thrown,
} from './programs.ts';
import { compile } from './support.ts';

const loop = loopForEach();
const folder = folderForEach();

const output = (options: Omit<SpawnOptions, 'stdio'>) =>
  text(loop().spawn({ ...options, stdio: { stdin: 'ignore', stdout: 'pipe' } }).stdout);

/** A program in the test's folder. */
function program(name: string, body: string, mode = 0o755): string {
  const path = join(folder(), name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, body);
  chmodSync(path, mode);
  return path;
}

describe('a program that ends', () => {
  test('by itself has exit code 0', async () => {
    const child = loop().spawn({ command: 'true' });
    expect(child.exit).toBe(null);
    const status = { pid: child.pid, exitCode: 0, signal: null, coreDumped: false, status: 0, stolen: false };
    expect(await child.exited).toEqual(status);
    expect(child.exit).toEqual(status);
  });

  test('is told to onExit with the pid that spawn returned', async () => {
    let told: ExitStatus | undefined;
    const child = loop().spawn({
      command: ['sh', '-c', 'exit 14'],
      onExit: (exit) => {
        told = exit;
      },
    });
    await child.exited;
    expect(told).toMatchObject({ pid: child.pid, exitCode: 14, signal: null, status: 14 << 8 });
  });

  test('has each of the 256 exit codes', async () => {
    const all = Array.from({ length: 256 }, (_, code) => code);
    for (let from = 0; from < 256; from += 64) {
      const codes = all.slice(from, from + 64);
      const exits = await Promise.all(
        codes.map((code) => loop().spawn({ command: ['sh', '-c', `exit ${code}`] }).exited),
      );
      expect(exits.map(({ exitCode, signal, status }) => ({ exitCode, signal, status }))).toEqual(
        codes.map((code) => ({ exitCode: code, signal: null, status: code << 8 })),
      );
    }
  });

  test('by a signal has its name, whichever it is', async () => {
    const { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, SIGURG, SIGWINCH } = constants.signals;
    const harmless = [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD, SIGURG, SIGWINCH];
    const names = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));
    for (let number = 1; number <= (linux ? 64 : 31); number++) {
      if (harmless.includes(number)) continue;
      const child = loop().spawn({ command: ['sleep', '1000'], rlimits: { core: { soft: 0 } } });
      child.kill(number);
      const { exitCode, signal, status, coreDumped } = await child.exited;
      expect({ exitCode, status: (status as number) & 0x7f, coreDumped }).toEqual({
        exitCode: null,
        status: number,
        coreDumped: false,
      });
      const name = names.get(number);
      // SIGABRT and SIGIO have two names each.
      if (name !== undefined) expect(constants.signals[signal as NodeJS.Signals]).toBe(number);
      else expect(signal).toMatch(/^SIG(RTMIN|RTMAX|\d)/);
    }
  });

  test('can be signalled until then, and nobody afterwards', async () => {
    const child = loop().spawn({ command: ['sleep', '1000'] });
    child.kill(0);
    child.kill('TERM');
    await child.exited;
    expect(thrown(() => child.kill())).toMatchObject({ code: 'ESRCH', pid: child.pid });
  });

  test.runIf(linux)('has not ended while it is stopped', async () => {
    const child = loop().spawn({ command: ['sh', '-c', 'kill -STOP $$; exit 3'] });
    const stopped = () => /^State:\sT/m.test(readFileSync(`/proc/${child.pid}/status`, 'latin1'));
    while (!stopped()) await loop().later();
    expect(child.exit).toBe(null);
    child.kill('CONT');
    expect(await child.exited).toMatchObject({ exitCode: 3 });
  });

  test('may have been stopped by SIGSTOP when it is asked to', async () => {
    const child = loop().spawn({ command: ['sleep', '1000'] });
    child.kill('STOP');
    expect(await child.stop()).toMatchObject({ signal: 'SIGTERM' });
  });

  test('can be stopped when it has left the group that it led', async () => {
    const { program, remove } = compile('leaves-group');
    const options = { command: program, group: 'new' } as const;
    const child = loop().spawn({ ...options, stdio: { stdout: 'pipe' } });
    try {
      await once(child.stdout as Readable, 'data');
      const [exit, run] = await Promise.all([
        child.stop(),
        loop()
          .runProcess({ ...options, timeout: 300 })
          .catch((error) => error),
      ]);
      expect(exit).toMatchObject({ signal: 'SIGTERM' });
      expect(run).toMatchObject({ code: 'ERR_FORKBEARD_TIMEOUT', signal: 'SIGTERM', stdout: 'up\n' });
    } finally {
      remove();
    }
  });

  test('is seen by a loop that blocks its thread', () => {
    let told: ExitStatus | undefined;
    loop().spawn({
      command: ['sh', '-c', 'exit 7'],
      onExit: (exit) => {
        told = exit;
        loop().stop('over');
      },
    });
    expect(loop().runSync()).toBe('over');
    expect(told).toMatchObject({ exitCode: 7 });
  });
});

describe('a program gets', () => {
  test('its arguments as they are, through no shell', async () => {
    const strange = ['', ' ', 'a b', '$HOME', '"', "'", '*', '-x', 'ünï😀', 'line\nline'];
    const said = await output({
      command: ['sh', '-c', 'for a; do printf "<%s>" "$a"; done', 'sh', ...strange],
    });
    expect(said).toBe(strange.map((argument) => `<${argument}>`).join(''));
  });

  test('a string as its program, whatever is in it', () => {
    expect(thrown(() => loop().spawn({ command: 'echo hello' }))).toMatchObject({
      code: 'ENOENT',
      step: 'exec',
    });
  });

  test('another name when it has a title', async () => {
    const said = await output({ command: ['cat', '/proc/self/cmdline'], title: 'renamed' });
    expect(said.split('\0')[0]).toBe('renamed');
  });

  test('the environment of this process, as it is now', async () => {
    process.env['FORKBEARD_TEST_VARIABLE'] = 'first';
    const print = () => output({ command: ['sh', '-c', 'echo $FORKBEARD_TEST_VARIABLE'] });
    expect(await print()).toBe('first\n');
    process.env['FORKBEARD_TEST_VARIABLE'] = 'second';
    expect(await print()).toBe('second\n');
    delete process.env['FORKBEARD_TEST_VARIABLE'];
    expect(await print()).toBe('\n');
  });

  test('what stands in for process.env', async () => {
    const real = process.env;
    process.env = { ...real, FORKBEARD_TEST_VARIABLE: 'replaced' };
    try {
      expect(await output({ command: ['sh', '-c', 'echo $FORKBEARD_TEST_VARIABLE'] })).toBe('replaced\n');
    } finally {
      process.env = real;
    }
  });

  test('exactly the environment that is given', async () => {
    const env = { B: '2', A: 'x=y', EMPTY: '', NON_ASCII: 'ü' };
    const said = await output({ command: ['cat', '/proc/self/environ'], env });
    expect(said.split('\0').slice(0, -1)).toEqual(['B=2', 'A=x=y', 'EMPTY=', 'NON_ASCII=ü']);
    expect(await output({ command: ['cat', '/proc/self/environ'], env: {} })).toBe('');
  });

  test('its working directory', async () => {
    expect(await output({ command: 'pwd', cwd: '/' })).toBe('/\n');
    expect(await output({ command: 'pwd', cwd: folder(), env: { PATH: '/bin:/usr/bin' } })).toBe(
      `${folder()}\n`,
    );
  });

  test.runIf(linux)(
    'an empty mask and default dispositions, whatever we watch, block or ignore',
    async () => {
      loop().watchSignal('USR2', () => {});
      loop().watchSignal('RTMIN+1', () => {});
      const noop = () => {};
      process.on('SIGHUP', noop);
      try {
        // A sanitizer's runtime would install handlers of its own there.
        const env = { ...process.env, LD_PRELOAD: undefined };
        const said = await output({ command: ['cat', '/proc/self/status'], env });
        const none = '0'.repeat(16);
        expect(said).toContain(`SigBlk:\t${none}\nSigIgn:\t${none}\nSigCgt:\t${none}\n`);
      } finally {
        process.off('SIGHUP', noop);
      }
    },
  );

  test.runIf(linux)('them also from a process that was started with signals ignored', async () => {
    const { said } = await runFixture('ignored-signals.mjs');
    expect(said).toEqual({ SigBlk: '0'.repeat(16), SigIgn: '0'.repeat(16), SigCgt: '0'.repeat(16) });
  });
});

describe('a program without a slash', () => {
  test('is looked up in the PATH of env', async () => {
    program('one/tool', '#!/bin/sh\necho one\n');
    program('two/tool', '#!/bin/sh\necho two\n');
    const env = { PATH: `${folder()}/none:${folder()}/two:${folder()}/one` };
    expect(await output({ command: 'tool', env })).toBe('two\n');
  });

  test('is looked up in our PATH when env has none', async () => {
    expect(await output({ command: ['echo', 'found'], env: { A: 'b' } })).toBe('found\n');
  });

  test('is not looked up in ours when env has one', () => {
    const env = { PATH: folder() };
    expect(thrown(() => loop().spawn({ command: 'true', env }))).toMatchObject({
      code: 'ENOENT',
      path: 'true',
    });
  });

  test('is found behind one that may not be run', async () => {
    program('one/tool', '#!/bin/sh\necho one\n', 0o644);
    program('two/tool', '#!/bin/sh\necho two\n');
    expect(await output({ command: 'tool', env: { PATH: `${folder()}/one:${folder()}/two` } })).toBe('two\n');
  });

  test('gives EACCES when there are only such as may not be run', () => {
    program('one/tool', '#!/bin/sh\necho one\n', 0o644);
    const env = { PATH: `${folder()}/one:${folder()}/none` };
    expect(thrown(() => loop().spawn({ command: 'tool', env }))).toMatchObject({
      code: 'EACCES',
      step: 'exec',
    });
  });

  test('is found in its own working directory where PATH has an empty element', async () => {
    program('here/tool', '#!/bin/sh\necho here\n');
    const options = { command: 'tool', cwd: join(folder(), 'here') };
    expect(await output({ ...options, env: { PATH: '/none:' } })).toBe('here\n');
    expect(await output({ ...options, env: { PATH: '../here' } })).toBe('here\n');
  });

  test('is handed to no shell when it is no program', async () => {
    program('one/tool', 'echo one\n');
    program('two/tool', '#!/bin/sh\necho two\n');
    const env = { PATH: `${folder()}/one:${folder()}/two` };
    expect(thrown(() => loop().spawn({ command: 'tool', env }))).toMatchObject({
      code: 'ENOEXEC',
      step: 'exec',
    });
  });
});

describe('a program that does not start', () => {
  const refused = (options: SpawnOptions) => thrown(() => loop().spawn(options));

  test('says what happened, where, and to what', () => {
    const error = refused({ command: ['/nowhere/tool', '-x'] });
    expect(error).toMatchObject({
      code: 'ENOENT',
      errno: -2,
      syscall: 'spawn',
      step: 'exec',
      path: '/nowhere/tool',
    });
    expect(error.message).toBe("ENOENT: no such file or directory, spawn (exec) '/nowhere/tool'");
  });

  test('names each reason that exec can have', () => {
    const text = program('text', 'echo\n');
    expect(refused({ command: text })).toMatchObject({ code: 'ENOEXEC' });
    expect(refused({ command: program('not-executable', '#!/bin/sh\n', 0o644) })).toMatchObject({
      code: 'EACCES',
    });
    expect(refused({ command: folder() })).toMatchObject({ code: 'EACCES' });
    expect(refused({ command: program('no-interpreter', '#!/nowhere/sh\n') })).toMatchObject({
      code: 'ENOENT',
    });
    expect(refused({ command: `${text}/below` })).toMatchObject({ code: 'ENOTDIR' });
    expect(refused({ command: `/${'x'.repeat(300)}` })).toMatchObject({ code: 'ENAMETOOLONG' });
    expect(refused({ command: ['true', 'x'.repeat(1 << 20)] })).toMatchObject({ code: 'E2BIG' });
  });

  test('names each reason that a working directory can have', () => {
    expect(refused({ command: 'true', cwd: '/nowhere' })).toMatchObject({
      code: 'ENOENT',
      step: 'chdir',
      path: '/nowhere',
    });
    expect(refused({ command: 'true', cwd: '/dev/null' })).toMatchObject({ code: 'ENOTDIR', step: 'chdir' });
  });

  test.runIf(linux)('because it is being written gives ETXTBSY', () => {
    const path = join(folder(), 'true');
    copyFileSync('/bin/true', path);
    const fd = openSync(path, 'r+');
    try {
      expect(refused({ command: path })).toMatchObject({ code: 'ETXTBSY', step: 'exec' });
    } finally {
      closeSync(fd);
    }
  });

  test.runIf(linux)(
    'leaves no process, zombie or descriptor, a hundred times, and those that follow are seen',
    async () => {
      await loop().spawn({ command: 'true' }).exited;
      const stdio = { 0: 'pipe', 1: 'pipe', 2: 'pipe', 3: 'pipe', 4: { open: '/dev/null' } } as const;
      refused({ command: 'nowhere-to-be-found', stdio });
      const before = openDescriptors();
      const others = children();
      for (let i = 0; i < 100; i++) {
        refused({ command: 'nowhere-to-be-found', stdio });
        refused({ command: 'true', stdio, cwd: '/nowhere' });
        refused({ command: 'true', stdio: { ...stdio, 5: { open: '/nowhere/file' } } });
        refused({ command: 'true', stdio: { ...stdio, 5: 19_999 } });
      }
      expect([...openDescriptors().keys()]).toEqual([...before.keys()]);
      expect(children().every((pid) => others.includes(pid))).toBe(true);
      expect(await loop().spawn({ command: ['sh', '-c', 'exit 5'] }).exited).toMatchObject({ exitCode: 5 });
    },
  );

  test('does not start on a closed loop', () => {
    loop().close();
    expect(refused({ command: 'true' })).toMatchObject({ code: 'ERR_FORKBEARD_LOOP_CLOSED' });
  });
});

describe('spawn elsewhere', () => {
  test('works in a Worker, with the environment of the Worker', async () => {
    const worker = new Worker(
      `import('forkbeard').then(async ({ Loop }) => {
        process.env.FORKBEARD_TEST_VARIABLE = 'of the worker';
        const { stdout } = await Loop.current().runProcess({ command: ['sh', '-c', 'echo $FORKBEARD_TEST_VARIABLE'] });
        let refused;
        try {
          Loop.current().spawn({ command: 'true', parentDeathSignal: 'KILL' });
        } catch (error) {
          refused = error.code;
        }
        require('node:worker_threads').parentPort.postMessage({ stdout, refused });
      })`,
      { eval: true },
    );
    const [said] = await once(worker, 'message');
    const refused = linux ? 'ERR_WORKER_UNSUPPORTED_OPERATION' : 'ERR_FORKBEARD_UNSUPPORTED';
    expect(said).toEqual({ stdout: 'of the worker\n', refused });
    await worker.terminate();
  });

  test('a program of a loop that is closed goes on and is waited for', async () => {
    const other = new Loop();
    const child = other.spawn({ command: ['sh', '-c', 'read line; exit 4'], stdio: { stdin: 'pipe' } });
    other.close();
    // Its stdin went with the loop, so it reads the end.
    expect(await child.exited).toMatchObject({ exitCode: 4 });
  });
});
