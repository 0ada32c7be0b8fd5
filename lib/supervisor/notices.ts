/** What one run of a service has told us over its NOTIFY_SOCKET, and ways to wait for it. Made by the starter. */
import { chownSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { span } from '../daemon/words.ts';
import type { Loop } from '../process/loop.ts';
import type { Clock } from './clock.ts';
import { cameOf, type Notice, NotifySocket } from './notify.ts';

export interface NoticesOptions {
  readonly path: string;
  /** The shim, of which everything came that may speak; null before there is one. */
  readonly shim: () => number | null;
  readonly clock: Clock;
  /** It needs so many ms more for what it does: its start, which is seen to here, or its stop. */
  readonly onExtension?: (ms: number) => void;
  /** Whom the service becomes. */
  readonly uid?: number | undefined;
}

/** How soon to look again whether what was said can be heard, ms. */
const IN_DOUBT = 100;

export class Notices {
  readonly path: string;
  /** STATUS=, the last. */
  text: string | null = null;
  readonly #clock: Clock;
  readonly #uid: number | undefined;
  readonly #socket: NotifySocket;
  /** Called when it is ready, or is not any more: while it reloads, and from when it stops. */
  onReadiness: (problem: string | null) => void = () => {};
  readonly #onExtension: (ms: number) => void;
  #ready = false;
  #beat: number;
  #unwell = false;
  #deadline = Number.POSITIVE_INFINITY;
  #changed: (() => void) | null = null;

  constructor(loop: Loop, { path, shim, clock, uid, onExtension = () => {} }: NoticesOptions) {
    this.path = path;
    this.#clock = clock;
    this.#uid = uid;
    this.#onExtension = onExtension;
    this.#beat = clock.now();
    this.#socket = new NotifySocket(loop, path, {
      isOurs: (pid) => {
        const root = shim();
        return root !== null && cameOf(root, pid);
      },
      onNotice: (notice) => this.#take(notice),
    });
    if (uid !== undefined) chownSync(path, uid, -1);
  }

  close(): void {
    this.#socket.close();
  }

  /** It may have said something that we could not hear. */
  get isInDoubt(): boolean {
    return this.#socket.isInDoubt;
  }

  /** It was ready before we listened. */
  assumeReady(): void {
    this.#ready = true;
  }

  /** Fulfilled with null when it has said that it is ready, with what is wrong when the time is over. */
  async ready(within: number, signal: AbortSignal): Promise<string | null> {
    this.#deadline = this.#clock.now() + within;
    while (!this.#ready) {
      const left = this.#deadline - this.#clock.now();
      if (left <= 0 && this.isInDoubt) {
        await this.#change(IN_DOUBT, signal);
        continue;
      }
      if (left <= 0) return `it did not say READY=1 within ${span(within)}${this.#hindrance()}`;
      await this.#change(left, signal);
    }
    this.#beat = this.#clock.now();
    return null;
  }

  /** Null when it has shown that it lives, not longer ago than `within`. */
  watchdog(within: number): string | null {
    if (this.#unwell) return 'it says itself that it is not well (WATCHDOG=trigger)';
    const silent = this.#clock.now() - this.#beat;
    return silent <= within ? null : `it has not said WATCHDOG=1 for ${Math.round(silent)} ms`;
  }

  #take({ ready, watchdog, status, extend, reloading, stopping }: Notice): void {
    if (status !== null) this.text = status;
    if (stopping) this.#turn('it says that it is stopping');
    else if (ready) this.#turn(null);
    else if (reloading) this.#turn('it says that it is reloading');
    if (watchdog === 'alive') this.#beat = this.#clock.now();
    if (watchdog === 'trigger') this.#unwell = true;
    // As with systemd: from now on, and never less than there was.
    if (extend !== null) {
      this.#deadline = Math.max(this.#deadline, this.#clock.now() + extend);
      this.#onExtension(extend);
    }
    this.#changed?.();
  }

  #turn(problem: string | null): void {
    if (this.#ready === (problem === null)) return;
    this.#ready = problem === null;
    this.onReadiness(problem);
  }

  /** Why it could not, if it is another user's and a folder above the socket is closed to that one. */
  #hindrance(): string {
    const uid = this.#uid;
    if (uid === undefined || uid === 0) return '';
    for (let folder = dirname(this.path); ; folder = dirname(folder)) {
      const stat = statSync(folder, { throwIfNoEntry: false });
      if (stat === undefined) return `; ${folder} is gone`;
      // Its groups may open it: then this is not the reason.
      if ((stat.mode & (stat.uid === uid ? 0o100 : 0o011)) === 0)
        return `; ${folder} is closed to its user (mode ${(stat.mode & 0o777).toString(8)}), and has its NOTIFY_SOCKET`;
      if (folder === dirname(folder)) return '';
    }
  }

  #change(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        timer[Symbol.dispose]();
        signal.removeEventListener('abort', settle);
        this.#changed = null;
        if (signal.aborted) reject(signal.reason);
        else resolve();
      };
      const timer = this.#clock.after(ms, settle);
      signal.addEventListener('abort', settle, { once: true });
      this.#changed = settle;
      if (signal.aborted) settle();
    });
  }
}
