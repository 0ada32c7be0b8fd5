/**
 * A NOTIFY_SOCKET of ours: services that tell systemd when they are ready and that they live (sd_notify(3)) tell us in
 * the same way, on every platform. What comes from a process that is not the service's, or cannot be told to be, is
 * passed over. Made for one run of a service, by its starter.
 */
import { unlinkSync } from 'node:fs';
import type { IoWatcher } from '../loop/contract.ts';
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

export class NotifySocket {
  readonly path: string;
  readonly #fd: number;
  readonly #watcher: IoWatcher;
  readonly #buffer = new Uint8Array(LARGEST);
  readonly #onNotice: (notice: Notice) => void;
  readonly #isOurs: (pid: number) => boolean;

  constructor(
    loop: Loop,
    path: string,
    { isOurs, onNotice }: { isOurs: (pid: number) => boolean; onNotice: (notice: Notice) => void },
  ) {
    this.path = path;
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

  close(): void {
    if (!this.#watcher.active) return;
    this.#watcher.stop();
    close(this.#fd);
    try {
      unlinkSync(this.path);
    } catch {
      // Somebody has tidied up.
    }
  }

  #receive(): void {
    for (;;) {
      let text: string;
      try {
        const { bytes, descriptors, credentials } = receiveDescriptors(this.#fd, this.#buffer);
        // With BARRIER=1 this is the answer; we store none for anybody.
        for (const fd of descriptors) close(fd);
        // Where the kernel does not say who it was, the directory keeps others out.
        if (credentials !== undefined && !this.#isOurs(credentials.pid)) continue;
        text = Buffer.from(this.#buffer.subarray(0, bytes)).toString();
      } catch {
        return;
      }
      this.#onNotice(parse(text));
      if (!this.#watcher.active) return;
    }
  }
}

/** Whether that process came of the shim: what left its parents came to the shim, too. */
export function cameOf(shim: number, pid: number): boolean {
  for (let at = pid, depth = 0; depth < DEEPEST && at > 1; depth++) {
    if (at === shim) return true;
    const facts = factsOf(at);
    if (typeof facts === 'string') return false;
    at = facts.parent;
  }
  return false;
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
