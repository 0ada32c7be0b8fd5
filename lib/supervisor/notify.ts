/**
 * A NOTIFY_SOCKET of ours: services that tell systemd when they are ready and that they live (sd_notify(3)) tell us in
 * the same way, on every platform. What comes from a process that is not the service's, or cannot be told to be, is
 * passed over. Made for one run of a service, by its starter.
 */
import { unlinkSync } from 'node:fs';
import type { IoWatcher, TimeWatcher } from '../loop/contract.ts';
import type { Loop } from '../process/loop.ts';
import { bind, close, receiveDescriptors, setSocketOption, socket } from '../sys/index.ts';
import { factsOf } from './identity.ts';

export interface Notice {
  /** READY=1: once, at the end of its start. */
  readonly ready: boolean;
  /** WATCHDOG=1: it lives. `trigger`: it knows itself that it is not well. */
  readonly watchdog: 'alive' | 'trigger' | null;
  readonly stopping: boolean;
  readonly reloading: boolean;
  /** For people. */
  readonly status: string | null;
  /** EXTEND_TIMEOUT_USEC, as ms: it needs so much more time. */
  readonly extend: number | null;
}

const LARGEST = 8192;
/** Nobody's ancestors are so many; a chain that goes on is not to be believed. */
const DEEPEST = 64;
/** How soon to look again for who it was, ms, and how much is kept until then. */
const AGAIN = 50;
const MOST_DOUBTFUL = 64;

export class NotifySocket {
  readonly path: string;
  readonly #fd: number;
  readonly #watcher: IoWatcher;
  readonly #buffer = new Uint8Array(LARGEST);
  readonly #onNotice: (notice: Notice) => void;
  readonly #isOurs: (pid: number) => boolean | null;
  readonly #loop: Loop;
  #again: TimeWatcher | undefined;
  /** Of whom it could not be seen who they are: what they said, in its order, and all that was said since. */
  #doubtful: { readonly pid: number; readonly notice: Notice }[] = [];

  /** `isOurs`: null is for what cannot be said now, and is asked again. */
  constructor(
    loop: Loop,
    path: string,
    { isOurs, onNotice }: { isOurs: (pid: number) => boolean | null; onNotice: (notice: Notice) => void },
  ) {
    this.path = path;
    this.#loop = loop;
    this.#isOurs = isOurs;
    this.#onNotice = onNotice;
    this.#fd = socket('unix', 'dgram');
    try {
      if (process.platform === 'linux') setSocketOption(this.#fd, 'passCredentials', true);
      bind(this.#fd, { path });
      this.#watcher = loop.watchIo(this.#fd, { onReadReady: () => this.#receive() }).unref();
    } catch (error) {
      close(this.#fd);
      throw error;
    }
  }

  /** Somebody has said something, and we lack what it takes to see who. */
  get isInDoubt(): boolean {
    return this.#doubtful.length > 0;
  }

  close(): void {
    if (!this.#watcher.active) return;
    this.#watcher.stop();
    this.#again?.stop();
    close(this.#fd);
    try {
      unlinkSync(this.path);
    } catch {
      // Somebody has tidied up.
    }
  }

  #receive(): void {
    for (;;) {
      let notice: Notice;
      let pid: number | undefined;
      try {
        const { bytes, descriptors, credentials } = receiveDescriptors(this.#fd, this.#buffer);
        // With BARRIER=1 this is the answer; we store none for anybody.
        for (const fd of descriptors) close(fd);
        pid = credentials?.pid;
        notice = parse(Buffer.from(this.#buffer.subarray(0, bytes)).toString());
      } catch {
        return;
      }
      this.#weigh(pid, notice);
      if (!this.#watcher.active) return;
    }
  }

  #weigh(pid: number | undefined, notice: Notice): void {
    // Where the kernel does not say who it was, the directory keeps others out.
    const isOurs = pid === undefined || (this.#doubtful.length > 0 ? null : this.#isOurs(pid));
    if (isOurs === true) this.#onNotice(notice);
    if (isOurs !== null || this.#doubtful.length >= MOST_DOUBTFUL) return;
    this.#doubtful.push({ pid: pid as number, notice });
    this.#again ??= this.#loop.watchTime({ after: AGAIN }, () => this.#weighAgain()).unref();
  }

  #weighAgain(): void {
    this.#again = undefined;
    const doubtful = this.#doubtful;
    this.#doubtful = [];
    for (const { pid, notice } of doubtful) if (this.#watcher.active) this.#weigh(pid, notice);
  }
}

/** Whether that process came of the shim: what left its parents came to the shim, too. Null when we lack what it takes to see. */
export function cameOf(shim: number, pid: number): boolean | null {
  for (let at = pid, depth = 0; depth < DEEPEST && at > 1; depth++) {
    if (at === shim) return true;
    const facts = factsOf(at);
    if (typeof facts === 'string') return facts === 'unreadable' && !canSee() ? null : false;
    at = facts.parent;
  }
  return false;
}

function canSee(): boolean {
  return typeof factsOf(process.pid) !== 'string';
}

function parse(text: string): Notice {
  const fields = new Map(
    text.split('\n').map((line) => {
      const at = line.indexOf('=');
      return at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)];
    }) as [string, string][],
  );
  const watchdog = fields.get('WATCHDOG');
  const microseconds = Number(fields.get('EXTEND_TIMEOUT_USEC'));
  return {
    ready: fields.get('READY') === '1',
    watchdog: watchdog === '1' ? 'alive' : watchdog === 'trigger' ? 'trigger' : null,
    stopping: fields.get('STOPPING') === '1',
    reloading: fields.get('RELOADING') === '1',
    status: fields.get('STATUS') ?? null,
    extend: fields.has('EXTEND_TIMEOUT_USEC') && microseconds >= 0 ? microseconds / 1000 : null,
  };
}
