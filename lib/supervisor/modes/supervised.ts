/**
 * `supervised`: systemd looks after the supervisor, or s6 or runit do. It is told when all services are ready and not
 * before, how they are at every change, that we live for as long as our loop turns, and that we stop. Does nothing
 * where nobody has asked for it (NOTIFY_SOCKET, a notification descriptor).
 */
import { activatedSockets, ServiceNotifier } from '../../daemon/systemd.ts';
import type { Watcher } from '../../loop/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { close, setCloseOnExec, write } from '../../sys/index.ts';
import type { ModeObject, Standing } from './standing.ts';

export interface SupervisedSettings {
  readonly loop: Loop;
  readonly notifier?: ServiceNotifier;
  /** Gets a line and is closed when all are ready: s6's `notification-fd`. */
  readonly notifyFd?: number | null;
}

/** How much time is asked for while services start or stop, which have limits of their own, and how often; ms. */
const EXTENSION = 30_000;
const EXTENDING = 10_000;

export class Supervised implements ModeObject {
  readonly #notifier: ServiceNotifier;
  readonly #loop: Loop;
  #beat: Watcher | undefined;
  #extending: Watcher | undefined;
  #notifyFd: number | null;
  /** READY=1 is owed: at first, and after RELOADING=1. */
  #owed = true;
  #said = '';

  constructor({ loop, notifier = new ServiceNotifier(), notifyFd = null }: SupervisedSettings) {
    this.#loop = loop;
    this.#notifier = notifier;
    this.#notifyFd = notifyFd;
    // They are for the services that name them, and for nobody else that anybody here starts.
    for (const { fd } of activatedSockets()) setCloseOnExec(fd, true);
    if (notifier.watchdogInterval > 0) this.#live(loop);
    this.#extend();
  }

  changed({ ready, text }: Standing): void {
    if (ready && this.#owed) {
      this.#owed = false;
      this.#extending?.stop();
      this.#said = text;
      this.#notifier.ready(text);
      this.#tell();
    } else if (text !== this.#said) {
      this.#said = text;
      this.#notifier.status(text);
    }
  }

  /** Until the next `changed` that says that all are ready. */
  reloading(): void {
    this.#owed = true;
    this.#notifier.reloading();
    this.#extend();
  }

  async stopping(): Promise<void> {
    this.#owed = false;
    this.#notifier.stopping();
    this.#extend();
  }

  close(): void {
    this.#beat?.stop();
    this.#extending?.stop();
    this.#notifier.close();
    if (this.#notifyFd !== null) close(this.#notifyFd);
    this.#notifyFd = null;
  }

  #live(loop: Loop): void {
    this.#notifier.alive();
    this.#beat = loop.watchTime({ after: this.#notifier.watchdogInterval }, () => this.#live(loop)).unref();
  }

  /** Whoever waits for us shall not end us in the middle of what takes its time. */
  #extend(): void {
    this.#extending?.stop();
    this.#notifier.extend(EXTENSION);
    this.#extending = this.#loop.watchTime({ after: EXTENDING }, () => this.#extend()).unref();
  }

  #tell(): void {
    if (this.#notifyFd === null) return;
    write(this.#notifyFd, Buffer.from('\n'));
    close(this.#notifyFd);
    this.#notifyFd = null;
  }
}
