/** A shim in bad times: floods, storms of children, folders and descriptors that are not there, stopped processes. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Loop, sys } from 'forkbeard';
import { expect, onTestFinished, test } from 'vitest';
import { clockOf } from '../../dist/supervisor/clock.js';
import { Judge, NotAsked } from '../../dist/supervisor/health.js';
import { ask, type Probe } from '../../dist/supervisor/probes.js';
import { Shim, type ShimOptions } from '../../dist/supervisor/shim.js';
import { PATIENCE } from '../process/support.ts';
import { alive, coupled, environment, eventually, folder, Recorder } from './support.ts';
import { pidOf, Watched } from './watched.ts';

function start(script: string, more: Partial<ShimOptions> = {}): { shim: Shim; heard: Recorder } {
  const heard = new Recorder();
  const shim = Shim.start(Loop.current(), coupled(script, more), heard);
  onTestFinished(async () => {
    shim.stop([{ signal: 'KILL', wait: 5000 }]);
    await heard.until('gone');
  });
  return { shim, heard };
}

const traces = (path: string): Pick<ShimOptions, 'lock' | 'record'> => ({
  lock: join(path, 'x.lock'),
  record: { path: join(path, 'x.pid'), head: { service: 'x' } },
});

const limit = (value: string) => spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${value}:`]);
const [, before = ''] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];

test('a service that floods is held up while nobody reads, and nothing is lost', async () => {
  const { heard } = start('head -c 20000000 /dev/zero; exit 5');
  const { shim } = (await heard.until('started')).start as { shim: number };
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  const [, resident] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${shim}/status`, 'latin1')) ?? [];
  if (process.env['FORKBEARD_TEST_SANITIZER'] === undefined) expect(Number(resident)).toBeLessThan(8192);
  await heard.until('exited');
  expect(heard.text).toHaveLength(20_000_000);
  expect(heard.exit).toMatchObject({ exitCode: 5 });
});

test('a service that floods has a part of each turn, and the others have theirs', async () => {
  const { heard } = start('head -c 4000000 /dev/zero; exit 5');
  let before = 0;
  let most = 0;
  let over = false;
  const turn = () => {
    most = Math.max(most, heard.text.length - before);
    before = heard.text.length;
    if (!over) setImmediate(turn);
  };
  await heard.until('started');
  // Until there is more to be read than one turn may take.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  turn();
  await heard.until('exited');
  over = true;
  expect(heard.text).toHaveLength(4_000_000);
  expect(most).toBeLessThanOrEqual(3 * 16_384);
});

test('a service that closes what it should write to runs on', async () => {
  const { shim, heard } = start('echo first; exec >&- 2>&-; kill -STOP $$; exec sleep 1000');
  await heard.says('first');
  await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${heard.pid}/stat`, 'latin1')));
  await shim.signal('SIGCONT');
  expect(heard.names).not.toContain('exited');
  expect(alive(heard.pid)).toBe(true);
});

test('five hundred orphans at once are all reaped, and the end is told once', async () => {
  const { heard } = start('i=0; while [ $i -lt 500 ]; do (true &); i=$((i+1)); done; exit 9');
  await heard.until('empty');
  expect(heard.names.filter((name) => name === 'exited')).toHaveLength(1);
  expect(heard.exit).toMatchObject({ exitCode: 9 });
});

test('a state directory that is gone refuses a start, with the step', async () => {
  const path = folder();
  rmSync(path, { recursive: true });
  const { heard } = start('exec sleep 1000', traces(path));
  await heard.until('refused');
  expect(heard.error).toMatchObject({ code: 'ENOENT', step: 'lock' });
});

test('a record that cannot be written refuses a start, and leaves neither process nor lock', async () => {
  const path = folder();
  const record = { path: join(path, 'x'.repeat(255)), head: { service: 'x' } };
  const { heard } = start('exec sleep 1000', { ...traces(path), record });
  await heard.until('refused');
  expect(heard.error).toMatchObject({ code: 'ENAMETOOLONG', step: 'record' });
  await heard.until('gone');
  const again = start('exec sleep 1000', traces(path));
  await again.heard.until('started');
});

test('a state directory that goes meanwhile is in nobody’s way', async () => {
  const path = folder();
  const { shim, heard } = start('exec sleep 1000', traces(path));
  await heard.until('started');
  rmSync(path, { recursive: true });
  shim.stop([{ signal: 'TERM', wait: 5000 }]);
  await heard.until('empty');
  expect(alive(heard.pid)).toBe(false);
});

test('a shim that somebody has stopped is woken by a stop', async () => {
  const { shim, heard } = start('exec sleep 1000');
  const { shim: pid } = (await heard.until('started')).start as { shim: number };
  process.kill(pid, 'SIGSTOP');
  await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')));
  shim.stop([{ signal: 'TERM', wait: 5000 }]);
  await heard.until('empty');
  expect(alive(heard.pid)).toBe(false);
});

test('so it is by a signal', async () => {
  const { shim, heard } = start('trap "echo heard" USR1; echo up; while :; do sleep 0.01; done');
  await heard.says('up');
  const { shim: pid } = heard.start as { shim: number };
  process.kill(pid, 'SIGSTOP');
  await eventually('a stop', () => /\) T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1')));
  await shim.signal('SIGUSR1');
  await heard.says('heard');
});

test('a shim that answers nobody is waited for no longer than one says', async () => {
  const path = join(folder(), 'x.sock');
  const listener = sys.listen({ path });
  const heard = new Recorder();
  const shim = Shim.adopt(Loop.current(), path, heard, () => true);
  onTestFinished(() => {
    shim.disconnect();
    sys.close(listener);
  });
  await expect(shim.signal('SIGUSR1', 'first', 20)).rejects.toMatchObject({
    code: 'ETIMEDOUT',
    syscall: 'kill',
  });
});

test('while a shim cannot see who is left, nobody is taken for gone', async () => {
  const { shim, heard } = start('(trap "" TERM; while :; do sleep 1000; done) & echo $!; read line; exit 3', {
    stdio: { stdin: 'pipe', stdout: 'relay' },
  });
  await heard.says('\n');
  const left = Number(heard.text);
  const { shim: pid } = heard.start as { shim: number };
  // It may open nothing any more: these it keeps, whatever becomes of the service.
  expect(readdirSync(`/proc/${pid}/fd`)).toEqual(expect.arrayContaining(['0', '1', '2', '3', '4', '5']));
  expect(spawnSync('prlimit', ['--pid', String(pid), '--nofile=6:']).status).toBe(0);
  shim.stdin?.end('\n');
  await heard.until('unseen');
  expect(heard.error).toMatchObject({ code: 'EMFILE' });
  await heard.until('exited');
  expect(alive(left)).toBe(true);
  shim.stop([{ signal: 'KILL', wait: 5000 }]);
  await eventually('its end', () => !alive(left));
  // They are gone, and it does not know that.
  expect(heard.names).not.toContain('empty');
  spawnSync('prlimit', ['--pid', String(pid), `--nofile=${before}:`]);
  await heard.until('empty');
  expect(heard.names.filter((name) => name === 'unseen')).toHaveLength(2);
  expect(heard.error).toBeUndefined();
  expect(heard.exit).toMatchObject({ exitCode: 3 });
});

test('a service that says more than it may is slowed down to that, told of, and loses nothing', async () => {
  const said = 24_000;
  const began = performance.now();
  const { heard } = start(`seq ${said}; read line`, {
    stdio: { stdin: 'pipe', stdout: 'relay' },
    output: { bytes: 0, lines: 20_000 },
  });
  await heard.says(`\n${said}\n`);
  // The first second's worth is free.
  expect(performance.now() - began).toBeGreaterThan(100);
  await heard.until('calm');
  expect(heard.text.split('\n')).toHaveLength(said + 1);
  expect(heard.names.filter((name) => name === 'flooding')).toHaveLength(1);
  expect(heard.held).toBeGreaterThanOrEqual(200);
});

test('what a service says at its end is heard at once, however much it has said', async () => {
  const { heard } = start('seq 3000; exit 5', { output: { bytes: 100, lines: 0 } });
  await heard.until('exited');
  expect(heard.text).toMatch(/\n3000\n$/);
});

test('without descriptors a start fails with EMFILE and takes none; later it works', async () => {
  expect(limit('256').status).toBe(0);
  const taken: number[] = [];
  let failures = 0;
  let heard: Recorder | undefined;
  try {
    try {
      for (;;) taken.push(sys.dup(0));
    } catch (error) {
      expect(error).toMatchObject({ code: 'EMFILE' });
    }
    // One more each time: it fails wherever it stands then, until there are enough.
    while (heard === undefined) {
      sys.close(taken.pop() as number);
      try {
        ({ heard } = start('exit 4'));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EMFILE' });
        failures++;
      }
    }
  } finally {
    for (const fd of taken) sys.close(fd);
    limit(before);
  }
  expect(failures).toBeGreaterThan(0);
  await heard.until('exited');
  expect(heard.exit).toMatchObject({ exitCode: 4 });
});

/** While this process can open nothing. `take`: once more, what tests before this one have let go of meanwhile. */
async function withoutDescriptors(act: (take: () => void) => Promise<unknown>): Promise<void> {
  expect(limit('256').status).toBe(0);
  const taken: number[] = [];
  const take = () => {
    expect(() => {
      for (;;) taken.push(sys.dup(0));
    }).toThrow(expect.objectContaining({ code: 'EMFILE' }));
  };
  try {
    take();
    await act(take);
  } finally {
    for (const fd of taken) sys.close(fd);
    limit(before);
  }
}

test('a service that ends while we have no descriptors is started when there are some, however long that is', async () => {
  const x = new Watched('exec sleep 1000');
  await x.it.start();
  await withoutDescriptors(async () => {
    process.kill(pidOf(x), 'SIGKILL');
    // One end of its own and more refusals than it may have restarts.
    await x.nth('backoff', 9);
  });
  await x.nth('ready', 2);
  const [first, ...refused] = x.of('backoff');
  expect(first).toMatchObject({ cause: 'exit' });
  for (const { cause, message } of refused) {
    expect(cause).toBe('refused');
    expect(message).toContain('EMFILE');
  }
  // They wait longer and longer all the same.
  expect(refused.slice(0, 4).map(({ delay }) => delay)).toEqual([20, 40, 80, 100]);
  expect(x.of('failed')).toEqual([]);
});

test('what is not asked for want of descriptors is no answer, whatever is asked', async () => {
  const path = join(folder(), 'x.sock');
  const listener = sys.listen({ path });
  const server = sys.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => {
    sys.close(listener);
    sys.close(server);
  });
  const { port } = sys.localAddress(server) as { port: number };
  const answers: unknown[] = [];
  await withoutDescriptors(async (take) => {
    for (const probe of [
      { unix: path },
      { tcp: port },
      { tcp: port, host: 'localhost' },
      { http: `http://127.0.0.1:${port}/` },
      { http: `http://localhost:${port}/` },
      { exec: ['true'] },
    ] satisfies Probe[]) {
      let answer: unknown;
      // Anything else: there was a descriptor for some of it, which an earlier test has let go of just then.
      do {
        take();
        answer = await ask(probe, { loop: Loop.current(), timeout: PATIENCE, env: environment() });
      } while (!(answer instanceof NotAsked));
      answers.push(answer.reason);
    }
  });
  expect(answers).toEqual(Array.from({ length: 6 }, () => 'EMFILE'));
  expect(await ask({ unix: path }, { loop: Loop.current(), timeout: PATIENCE, env: environment() })).toBe(
    null,
  );
});

test('a service is not blamed for questions that we cannot ask, and that is told once', async () => {
  const path = join(folder(), 'x.sock');
  const listener = sys.listen({ path });
  onTestFinished(() => sys.close(listener));
  const x = new Watched('exec sleep 1000', {
    live: { probe: { unix: path }, every: 5, timeout: 1000, failures: 2 },
  });
  await x.it.start();
  await withoutDescriptors(async () => {
    expect(await x.nth('unknown')).toMatchObject({ what: 'live', reason: 'EMFILE' });
    // Many questions.
    await new Promise((resolve) => setTimeout(resolve, 100));
  });
  expect(await x.nth('unknown', 2)).toMatchObject({ what: 'live', reason: null });
  expect(x.of('unknown')).toHaveLength(2);
  expect(x.of('health')).toEqual([]);
  expect(x.states.at(-1)).toBe('running');
});

test('what a service says of itself is heard when it can be seen again who it was', async () => {
  const x = new Watched(
    `exec python3 -c '
import os, signal, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("up", flush=True)
signal.sigwait([signal.SIGUSR1])
s.send(b"READY=1")
print("said", flush=True)
signal.pause()'`,
    {
      ready: { notify: true, within: PATIENCE, timeout: 0 },
    },
  );
  const started = x.it.start();
  started.catch(() => {});
  await x.says('up');
  await withoutDescriptors(async () => {
    await x.it.signal('SIGUSR1');
    await x.says('said');
    // So that it has come, and is not just on its way.
    await new Promise((resolve) => setTimeout(resolve, 100));
  });
  await started;
  expect(x.of('backoff')).toEqual([]);
});

test('questions that could not be asked are counted neither for nor against', async () => {
  const bad = 'no';
  const none = new NotAsked('EMFILE');
  const answers = [none, none, none, bad, none, bad];
  const told: unknown[] = [];
  let asked = 0;
  await new Promise<void>((resolve) => {
    const judge = new Judge(
      async () => answers[asked++] ?? null,
      { every: 1, timeout: 1000, failures: 2 },
      clockOf(Loop.current()),
      {
        answer: (problem) => told.push(problem),
        verdict: (problem) => {
          told.push({ problem, asked });
          judge.stop();
          resolve();
        },
      },
    );
  });
  expect(told).toEqual([bad, { problem: bad, asked: 6 }]);
});
