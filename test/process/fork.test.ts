/**
 * What forks promise, each held against a real second process. The cases are in fixtures/fork.mjs, run in processes of
 * their own with their own descriptors (forks.ts).
 */
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type How, type Run, runForks, saw } from './forks.ts';
import { backends, fixture } from './support.ts';

async function seen<T>(...args: string[]): Promise<T> {
  return saw<T>('fork.mjs', ...args);
}

const run = (args: string[], how?: How): Promise<Run> => runForks('fork.mjs', args, how);

describe('the end of a forked child', () => {
  test('its code, its exit code, its exceptions and its signals end it as they end a Node process', async () => {
    const { result, stderr } = await run(['ends']);
    expect(result).toEqual({
      number: 5,
      promise: 6,
      nothing: 0,
      natural: 9,
      thrown: 255,
      strange: 255,
      thenable: 255,
      shy: 255,
      rejected: 255,
      unsettled: 13,
      exit: 4,
      laterError: 1,
      unhandled: 1,
      killed: 'SIGINT',
      caught: 21,
    });
    for (const text of [
      'thrown in the child',
      'thrown by then',
      'cannot be shown',
      'rejected in the child',
      'thrown later',
      'nobody cares',
      'not settled',
    ])
      expect(stderr).toContain(text);
  });

  test('is the same where process.exit was replaced', async () => {
    expect(await seen('withoutExit')).toEqual({ number: 5, promise: 6, thrown: 255, sync: [7, 0] });
  });

  test('its exit listeners run, and those of the parent do not', async () => {
    const { result, stdout } = await run(['exitListeners']);
    expect(result).toEqual({ code: 0, said: 'child 0' });
    expect(stdout).not.toContain('PARENT LISTENER');
  });
});

describe('a forked child', () => {
  test('knows its pid, its parent and its own loop', async () => {
    const context = await seen<Record<string, number | string | boolean>>('context');
    expect(context['pid']).toBe(context['real']);
    expect(context['processPid']).toBe(context['pid']);
    expect(context['parentPid']).toBe(context['parent']);
    expect(context['ppid']).toBe(context['parent']);
    expect(context['current']).toBe(true);
    expect(context['loopId']).not.toBe(context['parentLoop']);
  });

  test('runs its code in the async context of the call', async () => {
    expect(await seen('asyncContext')).toBe('the caller');
  });

  test('has the title that was given, and else that of its parent', async () => {
    const { titles, own } = await seen<{ titles: string[]; own: string }>('title');
    expect(titles).toEqual(['forkbeard: a child', own]);
    expect(own).not.toBe('forkbeard: a child');
  });

  test('reads files, hashes, compiles WebAssembly, starts programs and Workers, two generations down', async () => {
    expect(await seen('works')).toEqual({ fs: true, crypto: 16, worker: 1, wasm: true, program: 'hi\n' });
  });

  test('forks itself, asynchronously and where it stands', async () => {
    const { pids, sync } = await seen<{ pids: number[]; sync: number }>('generations');
    expect(new Set(pids).size).toBe(3);
    expect(sync).toBe(5);
  });

  test('many of them leave no zombie, no descriptor and the signal mask as it was', async () => {
    const { codes, growth, children, mask } = await seen<Record<string, unknown>>('many');
    expect(codes).toEqual(Array.from({ length: 25 }, (_, i) => i));
    // The loop's own, made with its first child.
    expect(growth).toBeLessThanOrEqual(2);
    expect({ children, mask }).toEqual({ children: '', mask: true });
  });
});

describe('forkSync', () => {
  test('forks where it stands, takes synchronous code only, and leaves the rest to the parent', async () => {
    expect(await seen('sync')).toMatchObject({
      exitCode: 3,
      right: true,
      order: ['after', 'reaction'],
      promise: 255,
      async: { name: 'TypeError', code: 'ERR_FORKBEARD_INVALID_ARG_TYPE' },
    });
  });

  test('works inside runSync, where fork refuses at once', async () => {
    expect(await seen('insideRunSync')).toMatchObject({
      refused: { code: 'ERR_FORKBEARD_IN_RUN_SYNC' },
      exitCode: 2,
    });
  });
});

describe('ForkedProcess', () => {
  test('is killed, stopped and disposed of, tells its end once, and never signals a stranger', async () => {
    expect(await seen('handle')).toMatchObject({
      alive: true,
      signal: 'SIGTERM',
      same: true,
      gone: { code: 'ESRCH', syscall: 'kill' },
      killed: 'SIGKILL',
      disposed: 'SIGTERM',
      states: ['gone', 'gone', 'gone'],
    });
  });
});

describe.each(backends)('a loop of the parent, on %s', (backend) => {
  test('refuses in the child, and nothing that the child does to it reaches the parent', async () => {
    const forked = 'ERR_FORKBEARD_LOOP_FORKED';
    expect(await seen('loops', backend)).toMatchObject({
      refused: [forked, forked, forked, forked, forked],
      got: 3,
      otherId: true,
      parentGot: 6,
      untouched: true,
    });
  });

  test('becomes the child’s by postFork, each side then hearing its own', async () => {
    expect(await seen('postFork', backend)).toEqual({ inChild: 3, otherId: true, untouched: true, got: 2 });
  });

  test('can fork from every kind of callback, and the rest of a batch is the parent’s', async () => {
    expect(await seen('fromCallbacks', backend)).toEqual({
      io: { from: 'io', handled: 0 },
      time: { from: 'time', handled: 0 },
      idle: { from: 'idle', handled: 0 },
      signal: { from: 'signal', handled: 0 },
      handled: 4,
      synced: 1,
    });
  });

  test('hears of signals that were pending at the fork, once, and the child never', async () => {
    expect(await seen('pendingSignal', backend)).toEqual({ exitCode: 0, later: 0, here: 1, node: 1 });
  });

  test('hears nothing of what it has closed while a child has it, and rests', async () => {
    expect(await seen('ghosts', backend)).toEqual({ told: 0, alive: true, idle: true });
  });

  test('has timers that fire once in it, once in a child that takes it over, and never in one that does not', async () => {
    expect(await seen('timerInBoth', backend)).toEqual({ kept: 1, dropped: 0, here: 1 });
  });

  test('is not woken by what wakes the child’s, nor the other way round', async () => {
    expect(await seen('wakeUps', backend)).toEqual({ here: true, inChild: true });
  });

  test('does not hear of signals to a child that never looks', async () => {
    const ends = ['SIGUSR1', 'SIGUSR2'];
    expect(await seen('signalToBusyChild', backend)).toEqual({ ends, here: 0 });
  });

  test('does not hear of signals to the child', async () => {
    expect(await seen('signalToChild', backend)).toEqual({ exitCode: 12, here: 0 });
  });
});

describe('a fork', () => {
  test('comes from every kind of callback of Node’s', async () => {
    const kinds = 'request fs dns crypto tick reaction immediate timeout signal exception'.split(' ');
    expect(await seen('fromNode')).toEqual(Object.fromEntries(kinds.map((kind) => [kind, 1])));
  });

  test('that waits for its moment when its loop is closed is none', async () => {
    const code = 'ERR_FORKBEARD_LOOP_CLOSED';
    expect(await seen('whileWaiting')).toEqual({ codes: [code, code], children: '' });
  });
});

describe('in the parent', () => {
  test('nothing is another after a fork, and all of it works', async () => {
    expect(await seen('unchanged')).toEqual({ codes: [3, 4], others: [], heard: 'heard\n', timer: 'fired' });
  });
});

describe('of the parent nothing runs in the child', () => {
  test('not what handles tell when they are closed, which come in every turn', async () => {
    expect(await seen('closing')).toEqual({ inChild: 0, early: true });
  });

  test('not the callback of a request that was done', async () => {
    expect(await seen('doneInPool')).toEqual({ inChild: 0, here: 4 });
  });

  test('three children at once each have their own watches', async () => {
    expect(await seen('threeChildren')).toEqual([1, 2, 3]);
  });

  test('no timer, interval, immediate, tick or reaction; and the child’s own do', async () => {
    expect(await seen('timers')).toEqual({ parents: [], own: ['immediate', 'interval', 'timeout'] });
  });

  test('but the clock of HTTP’s Date header goes on', async () => {
    expect(await seen('httpDate')).toBe(true);
  });

  test('no server, connection, file watcher, child or signal handle', async () => {
    expect(await seen('handles')).toEqual({ inChild: { seen: [], open: true }, parent: ['child', 'hello'] });
  });

  test('a connection that the parent closes is closed, though a child was forked while it was open', async () => {
    expect(await seen('closesConnections')).toBe(true);
  });

  test('connections are silent, or see their end when asked to', async () => {
    expect(await seen('parentHandles')).toEqual({ silence: 'silent', close: 'closed', parent: 'open' });
  });

  test('idle connections of http.globalAgent and of fetch are not used', async () => {
    expect(await seen('connections')).toEqual([200, 200]);
  });

  test('no listener of process, and the exit code that was set is not the child’s', async () => {
    expect(await seen('listeners')).toEqual({ heard: ['mine'], exitCode: null });
  });

  test('the IPC channel is not there', async () => {
    const messages: string[] = [];
    const { status, stderr } = await run(['ipc'], { ipc: (message) => messages.push(message) });
    expect(status, stderr).toBe(0);
    expect(messages.map((message) => JSON.parse(message))).toEqual([
      {
        seen: { send: 'undefined', connected: false, channel: false },
        parent: true,
        hazards: expect.arrayContaining(['IPC_CHANNEL']),
      },
    ]);
  });

  test('siblings are not its children', async () => {
    expect(await seen('siblings')).toEqual({ refusal: 'ERR_FORKBEARD_LOOP_FORKED', told: 0, own: 3 });
  });

  test('no random number comes twice', async () => {
    expect(await seen('entropy')).toEqual({ repeated: [], sane: true });
  });
});

describe('descriptors', () => {
  test('all plain ones stay, a list closes what it does not name, and a named one is free for the child’s handles', async () => {
    const result = await seen<Record<string, Record<string, unknown>>>('inherit');
    expect(result['all']).toEqual({ a: 'pipe:', b: 'pipe:', file: '/dev/zero', listening: false });
    expect(result['listed']).toMatchObject({ a: 'pipe:', listening: false });
    expect(result['listed']?.['b']).not.toBe('pipe:');
    expect(result['listed']?.['file']).not.toBe('/dev/zero');
    expect(result['named']).toMatchObject({ listening: true, answer: 'child' });
    expect(result['none']?.['a']).not.toBe('pipe:');
    expect(result['notOpen']).toMatchObject({ code: 'EBADF', fd: 999 });
  });

  test('a program that a child starts gets none but the first three', async () => {
    expect(await seen('programs')).toEqual({ node: [], ours: [] });
  });

  test('a worker serves on a listening socket that its parent has closed', async () => {
    expect(await seen('listedSockets')).toBe(true);
  });
});

describe('signals', () => {
  test('handlers are reset unless kept, watchers always; ignored ones stay so; a started program finds none', async () => {
    const result = await seen<Record<string, unknown>>('signals');
    expect(result).toMatchObject({
      reset: 'SIGINT',
      kept: 22,
      watched: 'SIGUSR2',
      watchedKept: 'SIGUSR2',
      pipe: 1,
      blocked: '0000000000000000',
    });
    expect(result['program']).toMatch(/SigBlk: 0{16} SigIgn: 0{16}/);
  });
});

describe('V8’s pages', () => {
  test('are left out of other forks again afterwards, in both processes', async () => {
    const { before, after, child } = await seen<Record<string, number>>('pages');
    expect(before).toBeGreaterThan(10);
    expect(after).toBeGreaterThanOrEqual((before as number) * 0.8);
    expect(child).toBeGreaterThanOrEqual((before as number) * 0.8);
  });
});

describe('V8’s chunks', () => {
  test('lie side by side once somebody has asked for forks, in both processes, instead of anywhere', async () => {
    type Grown = { chunks: number; mappings: number; kept: boolean };
    const { here, child, grandchild } = await seen<{ here: Grown; child: Grown; grandchild: number }>(
      'places',
    );
    for (const { chunks, mappings, kept } of [here, child]) {
      expect(chunks).toBe(256);
      expect(mappings).toBeLessThan(chunks / 4);
      expect(kept).toBe(true);
    }
    expect(grandchild).toBe(499_999);
  });
});

describe('safety', () => {
  test('names what blocks, refuses by it, warns or goes ahead', async () => {
    const { result, status, stderr } = await run(['hazards']);
    expect(status, stderr).toBe(0);
    const refused = (code: string) => ({
      codes: [code],
      refused: { code: 'ERR_FORKBEARD_FORK_UNSAFE', hazards: [code] },
    });
    expect(result).toMatchObject({
      quiet: [],
      method: 'fork',
      v8: 'workers-recreated',
      worker: refused('WORKER_THREADS'),
      requests: refused('UV_REQUESTS'),
      inspector: refused('INSPECTOR'),
      warn: 31,
      warning: 'FORKBEARD_FORK_UNSAFE',
      off: 32,
      timers: expect.arrayContaining(['TIMERS']),
      handles: [0, 'TCPServerWrap'],
      after: 33,
      messages: true,
    });
  });

  test('refuses where module hooks have a thread, for which a child would wait at its next import', async () => {
    const { result, status, stderr } = await run(['blocked'], {
      flags: ['--import', pathToFileURL(fixture('module-hooks.mjs')).href],
    });
    expect(status, stderr).toBe(0);
    expect(result).toMatchObject({
      codes: ['MODULE_HOOKS'],
      refused: { code: 'ERR_FORKBEARD_FORK_UNSAFE', hazards: ['MODULE_HOOKS'] },
      forced: 3,
    });
  });

  test.each(['ends', 'collects', 'works'])('works under --single-threaded: %s', async (name) => {
    const { result, status, stderr } = await run([name], { flags: ['--single-threaded'] });
    expect(status, stderr).toBe(0);
    expect(result).toMatchObject(
      {
        ends: { number: 5, promise: 6, natural: 9, killed: 'SIGINT' },
        collects: [400_000, 400_000, 400_000],
        works: { fs: true, worker: 1, wasm: true },
      }[name] as object,
    );
  });

  test('collects garbage in children and theirs', async () => {
    expect(await seen('collects')).toEqual([400_000, 400_000, 400_000]);
  });

  test('a Worker cannot fork', async () => {
    const code = 'ERR_WORKER_UNSUPPORTED_OPERATION';
    expect(await seen('worker')).toEqual({ codes: [code, code, code], method: 'spawn' });
  });

  test('bad input is a typed error, and the parent is unharmed', async () => {
    const type = 'ERR_FORKBEARD_INVALID_ARG_TYPE';
    const value = 'ERR_FORKBEARD_INVALID_ARG_VALUE';
    expect(await seen('badInput')).toEqual({
      nothing: type,
      noCode: type,
      codeString: type,
      unknown: 'ERR_FORKBEARD_UNKNOWN_OPTION',
      inherit: type,
      inheritText: type,
      handles: value,
      safety: value,
      title: type,
      timeout: 'ERR_FORKBEARD_OUT_OF_RANGE',
      onExit: type,
      call: type,
      callOption: 'ERR_FORKBEARD_UNKNOWN_OPTION',
      closed: 'ERR_FORKBEARD_LOOP_CLOSED',
      stillWorks: 1,
    });
  });

  test.skipIf(process.getuid?.() !== 0)(
    'a fork that the kernel refuses rejects with its errno, and V8 works on',
    async () => {
      const { result, status, stderr } = await run(['refusedByKernel'], {
        through: ['prlimit', '--nproc=3'],
      });
      expect(status, stderr).toBe(0);
      const refused = { code: 'EAGAIN', syscall: 'fork' };
      expect(result).toMatchObject({ refused, refusedSync: refused, wasm: true });
    },
  );

  test('without a descriptor left it rejects with EMFILE', async () => {
    const { result, status, stderr } = await run(['noDescriptors'], { through: ['prlimit', '--nofile=200'] });
    expect(status, stderr).toBe(0);
    expect(result).toMatchObject({ refused: { code: 'EMFILE' }, afterwards: 3 });
  });
});

describe('call', () => {
  test('hands back results, errors with all that is theirs, and how a child without an answer died', async () => {
    expect(await seen('call')).toEqual({
      structure: true,
      big: true,
      undefined: true,
      promise: 'late',
      error: {
        range: true,
        message: 'odd',
        code: 'E_ODD',
        extra: { a: 1 },
        callback: 'string',
        stack: true,
        cause: 'inner',
      },
      aggregate: ['one', 'two'],
      thrown: { not: 'an error' },
      round: ['why', true, true],
      unclonable: 'ERR_FORKBEARD_CALL_UNCLONABLE',
      unreadable: true,
      exited: ['ERR_FORKBEARD_CALL_DIED', 5, null],
      aborted: ['ERR_FORKBEARD_CALL_DIED', null, 'SIGABRT'],
      killed: ['ERR_FORKBEARD_CALL_DIED', null, 'SIGKILL'],
      never: ['ERR_FORKBEARD_CALL_DIED', 13, null],
    });
  });

  test('timeout, abort and memory limit kill the child and say so', async () => {
    expect(await seen('callLimits')).toEqual({
      timeout: 'ERR_FORKBEARD_CALL_TIMEOUT',
      aborted: ['AbortError', 'ABORT_ERR', 'enough'],
      already: 'ABORT_ERR',
      memory: 'ERR_FORKBEARD_CALL_MEMORY',
      enough: 'fits',
      pids: ['gone', 'gone', 'gone'],
    });
  });
});
