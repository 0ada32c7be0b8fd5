/** The shim beside a service, with real programs: what it tells, what it holds, and what outlives whom. */
import { existsSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { shimProgram } from '../../dist/native.js';
import { Shim, type ShimOptions } from '../../dist/supervisor/shim.js';
import { lockHolders } from '../../dist/supervisor/state.js';
import { signalName, signalNumber } from '../../dist/sys/signals.js';
import { signalSet } from '../process/support.ts';
import { alive, coupled, environment, eventually, folder, marked, Recorder, run } from './support.ts';

const loop = Loop.current();
const KILL = [{ signal: 'KILL', wait: 5000 }];

function start(options: ShimOptions): { shim: Shim; seen: Recorder } {
  const seen = new Recorder();
  return { shim: Shim.start(loop, options, seen), seen };
}

async function ended(options: ShimOptions): Promise<Recorder> {
  const { seen } = start(options);
  await seen.until('gone');
  return seen;
}

describe('a service that ends by itself', () => {
  // What does not end a process cannot end a service.
  const harmless = ['CHLD', 'CONT', 'STOP', 'TSTP', 'TTIN', 'TTOU', 'URG', 'WINCH'].map(signalNumber);
  const signals = Array.from({ length: 64 }, (_, i) => i + 1).filter((number) => !harmless.includes(number));
  const ends = [
    ...Array.from({ length: 256 }, (_, code) => ({ script: `exit ${code}`, exitCode: code, signal: null })),
    ...signals.map((number) => ({
      script: `ulimit -c 0; kill -${number} $$`,
      exitCode: null,
      signal: signalName(number),
    })),
  ];
  test('with any code, or by any signal: it is told as it was', async () => {
    const rest = [...ends];
    const lane = async () => {
      for (let end = rest.pop(); end !== undefined; end = rest.pop()) {
        const { script, exitCode, signal } = end;
        const seen = await ended(coupled(script, { stdio: { stdout: 'ignore', stderr: 'ignore' } }));
        expect({ script, ...seen.exit }).toMatchObject({ script, pid: seen.pid, exitCode, signal });
        expect(seen.names).toEqual(['started', 'exited', 'empty', 'gone']);
      }
    };
    await Promise.all(Array.from({ length: 8 }, lane));
    expect(ends).toHaveLength(312);
  });

  test('is heard to the last word before its end is told', async () => {
    const seen = await ended(coupled('i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done'));
    expect(seen.text.endsWith('line 1999\n')).toBe(true);
    expect(seen.text.split('\n').length).toBe(2001);
    expect(seen.names.lastIndexOf('output')).toBeLessThan(seen.names.indexOf('exited'));
  });

  test('leaves no descriptor here', async () => {
    await ended(coupled('exit 0'));
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 30; i++) await ended(coupled('exit 0'));
    // A shim's own end is heard after its connection's: the first one's may have been counted.
    await eventually('no more than before', () => readdirSync('/proc/self/fd').length <= before);
  });
});

describe('a service that does not start', () => {
  const place = folder();
  const file = (name: string, text: string, mode: number) => {
    writeFileSync(join(place, name), text, { mode });
    return join(place, name);
  };
  const loops = join(place, 'loops');
  symlinkSync('loops', loops);
  test.each<[string, Partial<ShimOptions>, string, string]>([
    ['no program', { command: ['/does/not/exist'] }, 'ENOENT', 'exec'],
    ['a file that is none', { command: ['/etc/passwd'] }, 'EACCES', 'exec'],
    ['a folder', { command: [place] }, 'EACCES', 'exec'],
    ['a script that does not say of what', { command: [file('bare', 'exit 0\n', 0o755)] }, 'ENOEXEC', 'exec'],
    ['a script for nobody', { command: [file('nobody', '#!/does/not/exist\n', 0o755)] }, 'ENOENT', 'exec'],
    ['a link to itself', { command: [loops] }, 'ELOOP', 'exec'],
    ['too long a name', { command: [`/${'x'.repeat(256)}`] }, 'ENAMETOOLONG', 'exec'],
    ['too long an argument', { command: ['/bin/true', 'x'.repeat(1 << 18)] }, 'E2BIG', 'exec'],
    ['too large an environment', { env: { LARGE: 'x'.repeat(1 << 18) } }, 'E2BIG', 'exec'],
    ['no working directory', { settings: { cwd: '/does/not/exist' } }, 'ENOENT', 'chdir'],
    ['a file to work in', { settings: { cwd: '/etc/passwd' } }, 'ENOTDIR', 'chdir'],
    [
      'a limit beyond all',
      { settings: { rlimits: { nofile: { soft: 1e12, hard: 1e12 } } } },
      'EPERM',
      'setrlimit',
    ],
    [
      'no place for its record',
      { record: { path: '/does/not/exist.pid', head: { service: 'x' } } },
      'ENOENT',
      'record',
    ],
    ['no place for its lock', { lock: '/does/not/exist.lock' }, 'ENOENT', 'lock'],
  ])('%s', async (_, more, code, step) => {
    const state = folder();
    const record = { path: join(state, 'x.pid'), head: { service: 'x' } };
    const seen = await ended(coupled('exit 0', { record, ...more }));
    expect(seen.error).toMatchObject({ code, step, syscall: 'spawn' });
    expect(seen.names).toEqual(['refused', 'gone']);
    expect(readdirSync(state)).toEqual([]);
  });
});

describe('what a service finds', () => {
  test('a group of its own, three descriptors, no signal blocked or ignored', async () => {
    const { shim, seen } = start(
      coupled('ls /proc/$$/fd; echo ready; read x; exec sleep 1000', { stdio: { stdout: 'relay' } }),
    );
    await seen.says('ready');
    // The shell's own script needs none; ls's directory is its own.
    expect(seen.text.split('\n').slice(0, -2)).toEqual(['0', '1', '2']);
    await eventually('the program', () => readFileSync(`/proc/${seen.pid}/comm`, 'utf8') === 'sleep\n');
    expect(signalSet('SigBlk', seen.pid)).toEqual([]);
    expect(signalSet('SigIgn', seen.pid)).toEqual([]);
    const stat = readFileSync(`/proc/${seen.pid}/stat`, 'latin1').split(') ')[1]?.split(' ');
    expect(stat?.[2]).toBe(String(seen.pid));
    expect(Number(stat?.[19])).toBe(seen.start?.startTime);
    shim.stop(KILL);
    await seen.until('gone');
  });

  test('the sockets that it was given, and its own number beside them', async () => {
    const listener = sys.listen({ host: '127.0.0.1', port: 0 });
    const other = sys.listen({ host: '127.0.0.1', port: 0 });
    const seen = await ended(
      coupled('echo $LISTEN_FDS $LISTEN_PID $$; readlink /proc/$$/fd/3 /proc/$$/fd/4; ls /proc/$$/fd', {
        sockets: [listener, other],
      }),
    );
    const inode = (fd: number) => `socket:[${statSync(`/proc/self/fd/${fd}`).ino}]`;
    expect(seen.text).toBe(`2 ${seen.pid} ${seen.pid}\n${inode(listener)}\n${inode(other)}\n0\n1\n2\n3\n4\n`);
    sys.close(listener);
    sys.close(other);
  });

  test('its record written before its first instruction, and removed after its last', async () => {
    const path = join(folder(), 'x.pid');
    const head = { service: 'x', runId: 'r', command: ['a "quoted" one'] };
    const seen = await ended(coupled(`cat ${path}`, { record: { path, head } }));
    expect(JSON.parse(seen.text)).toEqual({
      ...head,
      pid: seen.pid,
      startTime: seen.start?.startTime,
      groupId: seen.pid,
      shim: { pid: seen.start?.shim, startTime: expect.any(Number) },
    });
    expect(statSync(join(path, '..')).isDirectory() && existsSync(path)).toBe(false);
  });

  test('streams of ours, whose ends are its own', async () => {
    const { shim, seen } = start(coupled('cat', { stdio: { stdin: 'pipe', stdout: 'pipe' } }));
    await seen.until('started');
    let text = '';
    const end = new Promise((resolve) =>
      shim.stdout?.on('data', (chunk) => (text += chunk)).on('end', resolve),
    );
    shim.stdin?.end('through and through');
    await end;
    expect(text).toBe('through and through');
    await seen.until('gone');
    expect(seen.exit?.exitCode).toBe(0);
  });
});

describe('the lock', () => {
  test('is held for as long as anything of the service runs, and not by the service', async () => {
    const lock = join(folder(), 'x.lock');
    const { shim, seen } = start(coupled('sleep 1000 & exit 0', { lock }));
    await seen.until('exited');
    expect(seen.left.length).toBe(1);
    expect(readdirSync(`/proc/${seen.left[0]}/fd`).length).toBe(3);
    const other = await ended(coupled('exit 0', { lock }));
    expect(other.error).toMatchObject({ code: 'ERR_FORKBEARD_LOCKED' });
    shim.stop(KILL);
    await seen.until('empty');
    expect((await ended(coupled('exit 0', { lock }))).exit?.exitCode).toBe(0);
  });

  test('of a file that was removed meanwhile is no lock for who comes later, nor his for us', async () => {
    const lock = join(folder(), 'x.lock');
    writeFileSync(lock, '');
    const seen = await ended(coupled(`rm ${lock}`, { lock }));
    expect(seen.exit?.exitCode).toBe(0);
    expect((await ended(coupled('exit 0', { lock }))).exit?.exitCode).toBe(0);
    expect(existsSync(lock)).toBe(true);
  });

  test('is one starter’s of ten', async () => {
    const lock = join(folder(), 'x.lock');
    const all = Array.from({ length: 10 }, () => start(coupled('sleep 1000', { lock })));
    await Promise.all(all.map(({ seen }) => Promise.race([seen.until('started'), seen.until('refused')])));
    const owners = all.filter(({ seen }) => seen.start !== undefined);
    expect(owners.length).toBe(1);
    for (const { shim } of owners) shim.stop(KILL);
    await Promise.all(all.map(({ seen }) => seen.until('gone')));
  });
});

describe('a stop', () => {
  test('ends a service that ignores SIGTERM by the next step, and says to whom each went', async () => {
    const { shim, seen } = start(coupled("trap '' TERM; echo ready; while :; do sleep 1000; done"));
    await seen.says('ready');
    shim.stop([{ signal: 'TERM', wait: 50 }, ...KILL]);
    await seen.until('gone');
    expect(seen.exit?.signal).toBe('SIGKILL');
    expect(seen.steps.map(({ signal }) => signal)).toEqual(['SIGTERM', 'SIGKILL']);
    expect(seen.steps[1]?.to).toContain(seen.pid);
  });

  test('ends one that is stopped by SIGTERM alone', async () => {
    const { shim, seen } = start(coupled('kill -STOP $$; sleep 1000'));
    await seen.until('started');
    await eventually('stopped', () => readFileSync(`/proc/${seen.pid}/stat`, 'latin1').includes(') T '));
    shim.stop([{ signal: 'TERM', wait: 60_000 }]);
    await seen.until('gone');
    expect(seen.exit?.signal).toBe('SIGTERM');
  });

  test('ends what outlived its first process', async () => {
    const { shim, seen } = start(
      coupled("(trap '' TERM; echo ready; while :; do sleep 1000; done) & read x; exit 3"),
    );
    await seen.until('exited');
    await seen.says('ready');
    expect(seen.exit?.exitCode).toBe(3);
    expect(seen.left.length).toBeGreaterThan(0);
    shim.stop([{ signal: 'TERM', wait: 50 }, ...KILL]);
    await seen.until('gone');
    expect(seen.left.filter(alive)).toEqual([]);
  });

  test('ends daemons in sessions of their own, those too that appear on the way', async () => {
    const mark = `FORKBEARD_TEST_DAEMON=${process.pid}`;
    // One that has left already, and one whose parent is killed by the stop itself.
    const script = 'setsid sh -c "sleep 1000 & sleep 1000" & setsid -f sleep 1000; echo ready; sleep 1000';
    const { shim, seen } = start(coupled(`export ${mark}; ${script}`));
    await seen.says('ready');
    await eventually('five of them', () => marked(mark).length >= 5);
    expect(seen.start?.adopts).toBe(true);
    shim.stop(KILL);
    await seen.until('gone');
    expect(marked(mark)).toEqual([]);
  });

  test('signals reach the first process alone, or all, and nobody after the end', async () => {
    const { shim, seen } = start(coupled("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done"));
    await seen.says('ready');
    await shim.signal('USR1');
    await seen.says('usr1');
    await shim.signal('KILL', 'all');
    await seen.until('gone');
    await expect(shim.signal('TERM')).rejects.toMatchObject({ code: 'ESRCH' });
  });
});

describe('a first process that a signal stops', () => {
  test('is told of, each time, and that it goes on; a late word of both is none', async () => {
    const { shim, seen } = start(coupled('exec sleep 1000'));
    await seen.until('started');
    for (const count of [1, 2]) {
      process.kill(seen.pid, 'SIGSTOP');
      await seen.until('stopped', count);
      process.kill(seen.pid, 'SIGCONT');
      await seen.until('continued', count);
    }
    // Both happen before it can look: it is as it was.
    for (const pid of [seen.start?.shim as number, seen.pid]) {
      process.kill(pid, 'SIGSTOP');
      await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')));
    }
    process.kill(seen.pid, 'SIGCONT');
    process.kill(seen.start?.shim as number, 'SIGCONT');
    await shim.signal('TERM');
    await seen.until('gone');
    expect(seen.exit).toMatchObject({ exitCode: null, signal: 'SIGTERM' });
    const twice = ['stopped', 'continued', 'stopped', 'continued'];
    expect(seen.names).toEqual(['started', ...twice, 'exited', 'empty', 'gone']);
  });

  test.each([1, 300])('ends as it ends, stopped or not, however often it was: %i times', async (times) => {
    const { seen } = start(coupled('exec sleep 1000'));
    await seen.until('started');
    for (let i = 0; i < times; i++) {
      process.kill(seen.pid, 'SIGCONT');
      process.kill(seen.pid, 'SIGSTOP');
    }
    await seen.until('stopped');
    process.kill(seen.pid, 'SIGKILL');
    await seen.until('gone');
    expect(seen.exit).toMatchObject({ pid: seen.pid, signal: 'SIGKILL' });
    expect(seen.names.filter((name) => name === 'exited')).toHaveLength(1);
    expect(alive(seen.pid)).toBe(false);
  });

  test('is the first one: others of the service may stop as they like', async () => {
    const { shim, seen } = start(coupled('sleep 1000 & echo $!; wait'));
    await seen.says('\n');
    const other = Number(seen.text);
    process.kill(other, 'SIGSTOP');
    await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${other}/stat`, 'latin1')));
    await shim.signal('CONT');
    shim.stop(KILL);
    await seen.until('gone');
    expect(seen.names).not.toContain('stopped');
    expect(alive(other)).toBe(false);
  });

  test('is told to who adopts it, and goes on with the stop', async () => {
    const state = folder();
    const path = join(state, 'x.sock');
    const options = coupled('exec sleep 1000', {
      lock: join(state, 'x.lock'),
      independent: { path, lease: 0 },
    });
    const { shim, seen } = start(options);
    await seen.until('started');
    shim.disconnect();
    process.kill(seen.pid, 'SIGSTOP');
    const again = new Recorder();
    const found = Shim.adopt(loop, path, again, () => true);
    await again.until('stopped');
    expect(again.names).toEqual(['started', 'stopped']);
    found.stop([{ signal: 'TERM', wait: 5000 }]);
    await again.until('empty');
    expect(again.exit?.signal).toBe('SIGTERM');
    found.dismiss();
    await again.until('gone');
  });
});

describe('who outlives whom', () => {
  const script = "setsid -f sleep 1000; (trap '' TERM; sleep 1000) & sleep 1000";

  test('a supervisor that is killed takes everything with it, daemons and the deaf included', async () => {
    const state = folder();
    const mark = `FORKBEARD_RUN_ID=killed-${process.pid}`;
    const options = coupled(script, {
      env: environment({ FORKBEARD_RUN_ID: mark.split('=')[1] as string }),
      lock: join(state, 'x.lock'),
      record: { path: join(state, 'x.pid'), head: { service: 'x' } },
    });
    const supervisor = run('starts-a-shim.mjs', [JSON.stringify(options)]);
    await supervisor.next();
    await eventually('all of it', () => marked(mark).length >= 5);
    await supervisor.kill('SIGKILL');
    await eventually('nothing left', () => marked(mark).length === 0);
    expect(existsSync(join(state, 'x.pid'))).toBe(false);
    expect((await ended(coupled('exit 0', { lock: join(state, 'x.lock') }))).exit?.exitCode).toBe(0);
  });

  test('a hundred services go with it as one does', async () => {
    const mark = `FORKBEARD_RUN_ID=hundred-${process.pid}`;
    const options = coupled('exec sleep 1000', {
      env: environment({ FORKBEARD_RUN_ID: mark.split('=')[1] as string }),
      stdio: { stdout: 'ignore', stderr: 'ignore' },
    });
    const supervisor = run('starts-many.mjs', ['100', JSON.stringify(options)]);
    expect(await supervisor.next()).toEqual({ running: 100 });
    expect(marked(mark).length).toBe(200);
    await supervisor.kill('SIGKILL');
    await eventually('nothing left', () => marked(mark).length === 0);
  });

  test('so does one whose connection somebody else still holds', async () => {
    const mark = `FORKBEARD_RUN_ID=held-${process.pid}`;
    const options = coupled('sleep 1000', {
      env: environment({ FORKBEARD_RUN_ID: mark.split('=')[1] as string }),
    });
    const supervisor = run('starts-a-shim.mjs', [JSON.stringify(options)], { FORKBEARD_TEST_FORKS: '1' });
    await supervisor.next();
    const { pid: holder } = (await supervisor.next()) as { pid: number };
    await supervisor.kill('SIGKILL');
    expect(alive(holder)).toBe(true);
    await eventually('nothing left', () => marked(mark).length === 0);
    process.kill(holder, 'SIGKILL');
  });

  test('a shim that is killed takes the first process with it', async () => {
    const { seen } = start(coupled('exec sleep 1000'));
    await seen.until('started');
    process.kill(seen.start?.shim as number, 'SIGKILL');
    await seen.until('gone');
    await eventually('its end', () => !alive(seen.pid));
    expect(seen.names).toEqual(['started', 'gone']);
  });

  test('a shim that is asked to end stops its service first', async () => {
    const { seen } = start(coupled('sleep 1000'));
    await seen.until('started');
    process.kill(seen.start?.shim as number, 'SIGTERM');
    await seen.until('gone');
    expect(seen.exit?.signal).toBe('SIGTERM');
  });

  test('an independent service lives on, says what it said, and keeps its end for whoever comes', async () => {
    const state = folder();
    const path = join(state, 'x.sock');
    const lock = join(state, 'x.lock');
    const go = join(state, 'go');
    const script = `echo first; while [ ! -e ${go} ]; do sleep 0.01; done; echo last; exit 42`;
    const options = coupled(script, { lock, independent: { path, lease: 0 } });
    const supervisor = run('starts-a-shim.mjs', [JSON.stringify(options)]);
    const { pid } = (await supervisor.next()) as { pid: number };
    await supervisor.kill('SIGKILL');
    expect(alive(pid)).toBe(true);

    const isShim = ({ pid: peer }: { pid: number }) => peer === lockHolders(lock)?.[0];
    const again = new Recorder();
    const found = Shim.adopt(loop, path, again, isShim);
    await again.until('started');
    expect(again.pid).toBe(pid);
    const other = new Recorder();
    Shim.adopt(loop, path, other, isShim);
    await other.until('gone');
    expect(other.names).toEqual(['busy', 'gone']);
    found.disconnect();

    writeFileSync(go, '');
    await eventually('its end', () => !alive(pid));
    expect((await ended(coupled('exit 0', { lock }))).error).toMatchObject({ code: 'ERR_FORKBEARD_LOCKED' });
    const last = new Recorder();
    const kept = Shim.adopt(loop, path, last, isShim);
    await last.until('empty');
    expect(last.exit).toMatchObject({ pid, exitCode: 42 });
    expect(last.text).toContain('last');
    kept.dismiss();
    await last.until('gone');
    expect(existsSync(path)).toBe(false);
    expect((await ended(coupled('exit 0', { lock }))).exit?.exitCode).toBe(0);
  });

  test('an independent service whose lease is over goes', async () => {
    const path = join(folder(), 'x.sock');
    const { shim, seen } = start(coupled('sleep 1000', { independent: { path, lease: 300 } }));
    await seen.until('started');
    shim.disconnect();
    await eventually('its end', () => !alive(seen.pid) && !existsSync(path));
  });
});

test.skipIf(process.env['FORKBEARD_TEST_SANITIZER'] !== undefined)(
  'the shim is small, and needs nobody',
  () => {
    expect(statSync(shimProgram()).size).toBeLessThan(1 << 20);
  },
);
