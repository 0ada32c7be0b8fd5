import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type ExitStatus, sys } from 'forkbeard';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Events,
  fixture,
  loopsOfTest,
  PATIENCE,
  processState,
  rounds,
  seenBy,
  spinUntil,
  unsanitized,
  ways,
  without,
} from './support.ts';

const exited = (exitCode: number) => ({
  exitCode,
  signal: null,
  coreDumped: false,
  status: exitCode << 8,
  stolen: false,
});
const killed = (signal: string, status: number) => ({
  exitCode: null,
  signal,
  coreDumped: false,
  status,
  stolen: false,
});
const unknown = { exitCode: null, signal: null, coreDumped: false, status: null };

// With pidfds, with SIGCHLD alone, and with a pidfd that cannot be waited on (before Linux 5.4 there was no P_PIDFD).
const kernels = [
  { kernel: 'this kernel', missing: '' },
  { kernel: 'no pidfd', missing: 'pidfd_open' },
  { kernel: 'no wait by pidfd', missing: 'p_pidfd' },
];

describe.each(ways.flatMap((way) => kernels.map((kernel) => ({ ...way, ...kernel }))))(
  'watchProcess, $backend, $mode, $kernel',
  ({ backend, mode, missing }) => {
    test('keeps what it promises', async () => {
      const result = await seenBy('watch-process.mjs', [mode, backend], without(missing));
      expect(result).toEqual({
        ended: [true, true, exited(3), killed('SIGTERM', 15)],
        childProcess: [
          [3, null],
          [null, 'SIGTERM'],
        ],
        synchronous: 0,
        alreadyDead: [exited(7), [7, null]],
        together: [true, true],
        several: ['0', 'a', 'b'],
        stopped: 1,
        stranger: [true, { ...unknown, stolen: false }],
        refused: ['ESRCH', ...Array(4).fill('ERR_FORKBEARD_OUT_OF_RANGE'), 'ERR_FORKBEARD_INVALID_ARG_TYPE'],
        pidfdsLeft: 0,
      });
    });
  },
);

describe('a child whose status somebody else took', () => {
  test('is told with its status where the kernel remembers it, else as stolen', async () => {
    const statuses = [exited(9), { ...unknown, stolen: true }];
    expect(statuses.map((exit) => ({ same: true, exit }))).toContainEqual(await seenBy('stolen.mjs', []));
  });

  test('is told as stolen where the kernel does not', async () => {
    expect(await seenBy('stolen.mjs', [], without('pidfd_info'))).toEqual({
      same: true,
      exit: { ...unknown, stolen: true },
    });
  });
});

test.runIf(process.platform === 'linux')(
  'children that somebody here reaps behind our back are told of, none is signalled afterwards, and nothing is left',
  async () => {
    const library = join(mkdtempSync(join(tmpdir(), 'forkbeard-')), 'reaps-all.so');
    onTestFinished(() => rmSync(dirname(library), { recursive: true }));
    execFileSync('cc', ['-O1', '-shared', '-fPIC', '-pthread', '-o', library, fixture('reaps-all.c')]);
    const { LD_PRELOAD: before } = process.env;
    const env = { LD_PRELOAD: before ? `${before}:${library}` : library };
    const { told, left } = (await seenBy('reaped-elsewhere.mjs', [], { env })) as {
      told: { stolen: boolean }[];
      left: number;
    };
    const ends = [exited(9), { ...unknown, stolen: true }].map(({ exitCode, signal, stolen }) => ({
      same: true,
      exitCode,
      signal,
      stolen,
      after: ['ESRCH', 'ESRCH', 'ESRCH'],
    }));
    for (const one of told) expect(ends).toContainEqual(one);
    // Whoever is faster has it.
    expect(told.some(({ stolen }) => stolen)).toBe(true);
    expect(left).toBe(0);
  },
);

describe('many processes', () => {
  const make = loopsOfTest();

  test('a thousand and more at once', async () => {
    const loop = make();
    const count = 1200;
    const events = new Events<ExitStatus>(loop, 'integrated');
    const script = `i=0; while [ $i -lt ${count} ]; do sleep 1000 & echo $!; i=$((i+1)); done; read end; kill $(jobs -p); wait`;
    const parent = spawn('bash', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore'], env: unsanitized });
    let text = '';
    for await (const chunk of parent.stdout) {
      text += chunk;
      if (text.split('\n').length > count) break;
    }
    const pids = text.trim().split('\n').map(Number);
    for (const pid of pids) loop.watchProcess(pid, events.push);
    parent.stdin.end();
    await events.count(count);
    expect(events.all.map((exit) => exit.pid).sort()).toEqual([...pids].sort());
  });
});

describe('a process watcher', () => {
  const make = loopsOfTest();
  const start = () => spawn('cat', { stdio: ['pipe', 'ignore', 'inherit'] });

  test('is told once, and is not active any more', async () => {
    const loop = make();
    const events = new Events<ExitStatus>(loop, 'integrated');
    const child = start();
    const watcher = loop.watchProcess(child.pid as number, events.push);
    expect([watcher.active, watcher.hasRef()]).toEqual([true, true]);
    child.stdin.end();
    await events.count(1);
    expect(watcher.active).toBe(false);
    await rounds(loop, 'integrated');
    expect(events.all).toHaveLength(1);
    watcher.stop();
  });

  test('may watch another process from its callback, in the same or another loop', async () => {
    const loop = make();
    const events = new Events<ExitStatus>(loop, 'integrated');
    const [first, second] = [start(), start()];
    loop.watchProcess(first.pid as number, (exit) => {
      loop.watchProcess(second.pid as number, events.push);
      second.stdin.end();
      events.push(exit);
    });
    first.stdin.end();
    await events.count(2);
    expect(events.all.map((exit) => exit.pid)).toEqual([first.pid, second.pid]);
  });

  test('goes when the loop is closed, and child_process is told all the same', async () => {
    const loop = make();
    const child = start();
    const watcher = loop.watchProcess(child.pid as number, () => {
      throw new Error('told after close');
    });
    loop.close();
    expect(watcher.active).toBe(false);
    const end = once(child, 'exit');
    child.stdin.end();
    expect(await end).toEqual([0, null]);
  });

  test('survives postFork in the same process', async () => {
    const loop = make();
    const events = new Events<ExitStatus>(loop, 'integrated');
    const child = start();
    loop.watchProcess(child.pid as number, events.push);
    loop.postFork();
    child.stdin.end();
    await events.count(1);
  });

  test('is not stopped by an unwatchIo of whatever number the loop watches it by', async () => {
    const loop = make();
    const events = new Events<ExitStatus>(loop, 'integrated');
    const child = start();
    loop.watchProcess(child.pid as number, events.push);
    for (const fd of readdirSync('/proc/self/fd')) loop.unwatchIo(Number(fd));
    child.stdin.end();
    await events.count(1);
  });

  test('knows this very process, which never ends while it looks', async () => {
    const loop = make();
    const watcher = loop.watchProcess(process.pid, () => {});
    await rounds(loop, 'integrated');
    expect(watcher.active).toBe(true);
    watcher.stop();
  });

  test('comes after signals and before timers of a round', async () => {
    const loop = make();
    // Its stdin ends when we close the other end: at once, where Node would take turns for it.
    const [read, write] = sys.pipe();
    sys.setNonBlocking(read, false);
    const child = spawn('cat', { stdio: [read, 'ignore', 'inherit'] });
    sys.close(read);
    const end = once(child, 'exit');
    const order: string[] = [];
    loop.watchTime({ after: 0 }, () => order.push('timer'));
    loop.watchProcess(child.pid as number, () => order.push('exit'));
    loop.watchSignal('USR2', () => order.push('signal'));
    sys.close(write);
    spinUntil(() => processState(child.pid as number) === 'Z');
    process.kill(process.pid, 'SIGUSR2');
    loop.runOnce(PATIENCE);
    expect(order).toEqual(['signal', 'exit', 'timer']);
    await end;
  });
});
