/**
 * The stage on which the contract of a loop is played: every test of this folder runs once for each backend of this
 * build and for each of the two ways to run a loop, with the same words. `blocking` turns the loop by `runOnce` from
 * outside any promise; `integrated` lets Node's event loop drive it and waits for notes that the callbacks take.
 *
 * Nothing here sleeps to let something happen: `until` waits for what callbacks note down, `quiet` waits for a timer
 * of the loop itself and only ever stands before "nothing happened".
 */
import { type BackendName, Loop, sys } from 'forkbeard';
import { afterEach, describe, expect, test as vitest } from 'vitest';

export type Mode = 'blocking' | 'integrated';

/** How much slower than usual this run is: sanitizers, emulators. */
export const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);

const chosen = (process.env['FORKBEARD_TEST_BACKENDS'] ?? '').split(',').filter((name) => name !== '');
export const backends: readonly BackendName[] =
  chosen.length === 0 ? Loop.backends : Loop.backends.filter((name) => chosen.includes(name));
export const modes: readonly Mode[] = ['blocking', 'integrated'];

/** Long enough for any machine: only a lost event takes it. */
const PATIENCE = 20_000 * slow;

/** What one test has: a loop, a notebook, and descriptors that are closed at its end. */
export class Stage {
  readonly mode: Mode;
  readonly loop: Loop;
  /** What happened so far, in order. */
  readonly notes: unknown[] = [];
  readonly #open = new Set<number>();
  readonly #loops: Loop[] = [];
  #wake: (() => void) | undefined;

  constructor(backend: BackendName, mode: Mode) {
    this.mode = mode;
    this.loop = this.another(backend);
  }

  /** One more loop, which is closed at the end as well. */
  another(backend: BackendName = this.loop.backend, drain: 'handler' | 'batch' = 'handler'): Loop {
    const loop = new Loop({ backend, drain });
    this.#loops.push(loop);
    return loop;
  }

  readonly note = (entry: unknown): void => {
    this.notes.push(entry);
    this.#wake?.();
  };

  /** Lets the loop (or all of `loops`) work until `condition` holds; it is looked at after every round, or every note. */
  async until(condition: () => boolean, loops: readonly Loop[] = [this.loop]): Promise<void> {
    const deadline = performance.now() + PATIENCE;
    const late = () => new Error(`Waited in vain; so far: ${JSON.stringify(this.notes).slice(0, 500)}`);
    if (this.mode === 'blocking') {
      await outside(() => {
        while (!condition()) {
          const left = deadline - performance.now();
          if (left <= 0) throw late();
          for (const loop of loops) loop.runOnce(loops.length === 1 ? left : 1);
        }
      });
      return;
    }
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const guard = setTimeout(() => settle(() => reject(late())), PATIENCE);
      const settle = (end: () => void) => {
        clearTimeout(guard);
        this.#wake = undefined;
        end();
      };
      this.#wake = () => {
        if (condition()) settle(resolve);
      };
    });
  }

  /** Until this many notes have been taken. */
  async noted(count: number): Promise<unknown[]> {
    await this.until(() => this.notes.length >= count);
    return this.notes;
  }

  /** Lets the loop work for `ms` milliseconds: whatever is pending will have happened by then. */
  async quiet(ms = 30): Promise<void> {
    if (this.mode === 'blocking') {
      await outside(() => {
        const deadline = this.loop.now() + ms;
        for (let left = ms; left > 0; left = deadline - this.loop.now()) this.loop.runOnce(left);
      });
      return;
    }
    await this.loop.delay(ms);
    await new Promise(setImmediate);
  }

  /** CPU time that this process used while the loop had nothing to do for `ms` milliseconds, in ms. */
  async cpuOfQuiet(ms: number): Promise<number> {
    const before = process.cpuUsage();
    await this.quiet(ms);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000;
  }

  // ------------------------------------------------------------------------------------ descriptors

  /** Takes a descriptor over: it is closed at the end of the test unless `close` did it. */
  own(fd: number): number {
    this.#open.add(fd);
    return fd;
  }
  pair(type: 'stream' | 'dgram' | 'seqpacket' = 'stream'): [number, number] {
    const [a, b] = sys.socketpair(type);
    return [this.own(a), this.own(b)];
  }
  pipe(): [number, number] {
    const [reader, writer] = sys.pipe();
    return [this.own(reader), this.own(writer)];
  }
  close(fd: number): void {
    this.#open.delete(fd);
    sys.close(fd);
  }
  /** Two connected TCP sockets. */
  tcpPair(): [number, number] {
    const listener = sys.listen({ host: '127.0.0.1', port: 0 });
    const client = this.own(sys.socket('inet', 'stream'));
    sys.setNonBlocking(listener, false);
    sys.setNonBlocking(client, false);
    expect(sys.connect(client, sys.localAddress(listener))).toBe(0);
    const server = this.own(sys.accept(listener));
    sys.close(listener);
    sys.setNonBlocking(client, true);
    return [client, server];
  }
  write(fd: number, text = 'x'): void {
    expect(sys.write(fd, Buffer.from(text))).toBe(text.length);
  }
  /** All that is there to read, '' at the end or when nothing is. */
  read(fd: number): string {
    let text = '';
    const buffer = Buffer.alloc(65536);
    for (;;) {
      const count = sys.read(fd, buffer);
      if (count <= 0) return text;
      text += buffer.toString('latin1', 0, count);
    }
  }
  /** Writes until the kernel takes no more. */
  fill(fd: number): number {
    const chunk = Buffer.alloc(65536);
    let total = 0;
    for (;;) {
      const count = sys.write(fd, chunk);
      if (count < 0) return total;
      total += count;
    }
  }

  end(): void {
    for (const loop of this.#loops) loop.close();
    for (const fd of this.#open) sys.close(fd);
    this.#open.clear();
  }
}

/**
 * Runs `work` where no promise reaction is under way (V8 does not run microtasks inside of one), and before Node's event
 * loop takes its next turn, so that in blocking mode nobody else drives the loop.
 */
export function outside<T>(work: () => T): Promise<T> {
  return new Promise((resolve, reject) => {
    process.nextTick(() => {
      try {
        resolve(work());
      } catch (error) {
        reject(error as Error);
      }
    });
  });
}

export type Play = (stage: Stage) => void | Promise<void>;

export interface Contract {
  (promise: string, play: Play): void;
  /** Only in one of the modes, because the other has nothing of the kind. */
  blocking: (promise: string, play: Play) => void;
  integrated: (promise: string, play: Play) => void;
}

/** A theme of the contract; `tell` names its promises. */
export function contract(theme: string, tell: (test: Contract) => void): void {
  for (const backend of backends) {
    for (const mode of modes) {
      const promises: [promise: string, play: Play][] = [];
      const test = ((promise: string, play: Play) => void promises.push([promise, play])) as Contract;
      test.blocking = (promise, play) => {
        if (mode === 'blocking') test(promise, play);
      };
      test.integrated = (promise, play) => {
        if (mode === 'integrated') test(promise, play);
      };
      tell(test);
      if (promises.length === 0) continue;
      describe(`${theme} (${backend}, ${mode})`, () => {
        let stage: Stage | undefined;
        afterEach(() => {
          stage?.end();
          stage = undefined;
        });
        for (const [promise, play] of promises) {
          vitest(promise, async () => {
            stage = new Stage(backend, mode);
            await play(stage);
          });
        }
      });
    }
  }
}
