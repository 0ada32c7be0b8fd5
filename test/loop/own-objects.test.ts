/**
 * The kernel objects of a loop's own, and what becomes of it when they are scarce, shown to users, meddled with, or
 * made anew. What may end a process, or keep it from ending, is tried in one of its own.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type BackendName, Loop, sys } from 'forkbeard';
import { describe, expect, test } from 'vitest';
import { backends, slow } from '../acceptance/contract.ts';

/** What a fixture says, a line of JSON each, once it has ended by itself with exit code 0. */
async function said(name: string, args: string[], limit?: number): Promise<Record<string, unknown>[]> {
  const script = fileURLToPath(new URL(`fixtures/${name}.mjs`, import.meta.url));
  const command = [process.execPath, script, ...args];
  if (limit !== undefined) command.unshift('sh', '-c', `ulimit -n ${limit} && exec "$0" "$@"`);
  const child = spawn(command[0] as string, command.slice(1), {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 15_000 * slow,
    killSignal: 'SIGKILL',
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece) => {
    text += piece;
  });
  expect(await once(child, 'close')).toEqual([0, null]);
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

const restful = expect.toSatisfy((cpu: number) => cpu < 60 * slow, 'the CPU time of a process that rests');

describe.each(backends)('the kernel objects of a loop (%s)', (backend: BackendName) => {
  // The emulation has descriptors where a kernel has none.
  const real = !(backend === 'kqueue' && process.platform === 'linux');
  const forks = real && Loop.current().forkSafety().v8 === 'workers-recreated';

  test.runIf(real)(
    'it has all that it needs from the beginning: no descriptor need be free for timers and repairs',
    async () => {
      const [result] = await said('no-descriptor-free', [backend], 64);
      expect(result).toEqual({ refused: 'EMFILE', errors: [], cpu: restful });
    },
  );

  test('loops inside of loops, deeper than the kernel has it, are refused, and nobody aborts over them', async () => {
    const loops = [new Loop({ backend })];
    let refusal: unknown;
    while (refusal === undefined && loops.length < 10) {
      const outer = new Loop({ backend });
      const inner = loops.at(-1) as Loop;
      loops.push(outer);
      if (inner.fd < 0) break;
      try {
        outer.watchIo(inner.fd, { onReadReady: () => {} });
      } catch (error) {
        refusal = error;
      }
    }
    if (backend === 'epoll') expect(refusal).toMatchObject({ code: 'ELOOP' });
    // Node's own loop sleeps on them all.
    await loops[0]?.delay(5);
    for (const loop of loops) loop.close();
  });

  test('the number that is shown is not its own: closed at once or later, it leaves the loop at work', async () => {
    using loop = new Loop({ backend });
    const [a, b] = sys.socketpair();
    const reading = new Promise<void>((resolve) => loop.watchIo(a, { onReadReady: () => resolve() }));
    const shown = loop.fd;
    if (shown >= 0) {
      sys.close(shown);
      // Somebody else's from now on, and closed with the loop: nobody of this process may get it meanwhile.
      expect(sys.dup(0, shown)).toBe(shown);
    }
    await loop.delay(1);
    sys.write(b, Buffer.from('x'));
    await reading;
    expect(loop.fd).toBe(shown);
    loop.postFork();
    await loop.delay(1);
    for (const fd of [a, b]) sys.close(fd);
  });

  test('its own descriptors can be watched by nobody else, or without harm', async () => {
    using loop = new Loop({ backend });
    loop.watchTime({ at: Date.now() }, () => {});
    await loop.delay(1);
    for (let fd = 0; fd < 100; fd++) {
      try {
        loop.watchIo(fd, { onReadReady: () => {} }).stop();
      } catch (error) {
        expect(['EBADF', 'EINVAL', 'ELOOP', 'EPERM']).toContain((error as NodeJS.ErrnoException).code);
      }
    }
    await loop.delay(1);
    await new Promise<void>((resolve) => loop.watchTime({ at: Date.now() + 2 }, resolve));
    const signalled = new Promise((resolve) => loop.watchSignal('SIGUSR2', resolve));
    process.kill(process.pid, 'SIGUSR2');
    await signalled;
  });

  // The fourth is more than some have.
  test.runIf(real).each([0, 1, 2, 3])(
    'whichever of them is closed by somebody else, nothing crashes or spins: %i',
    async (which) => {
      for (const reuse of [[], ['reuse']]) {
        const [result] = await said('closed-behind', [backend, String(which), ...reuse]);
        expect(result).toEqual({ own: expect.toSatisfy((own: number) => own > 0), cpu: restful });
      }
    },
  );

  test('made anew in the handler that ends the last watcher, they keep nobody alive', async () => {
    expect(await said('post-fork-in-handler', [backend])).toEqual([{ done: true }]);
  });

  test('an alarm on the wall clock that rang for nothing is set again', async () => {
    expect(await said('clock-set-back', [backend])).toEqual([{ early: false }]);
  });

  test.runIf(forks)(
    'what a child changes before it makes them its own holds there, and there alone',
    async () => {
      expect(await said('changed-in-child', [backend])).toEqual([
        { refused: 'ERR_FORKBEARD_LOOP_FORKED', shown: -1, notes: ['c'], cpu: restful },
        { exitCode: 0, notes: ['a', 'c'] },
      ]);
    },
  );
});
