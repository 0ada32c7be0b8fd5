/** The public types of the loop's floor, as users and declaration files see them. Types only. */

export type BackendName = 'epoll' | 'kqueue' | 'poll';

export interface LoopOptions {
  /** Default: the names in env `FORKBEARD_LOOP` (comma list, first usable wins), then the platform's best. */
  backend?: BackendName;
  /**
   * When ticks and microtasks run: after every handler (default, as Node's own callbacks have it) or after every
   * batch, which raw servers choose for speed.
   */
  drain?: 'handler' | 'batch';
}

/**
 * What every watch returns. Stopping is synchronous, idempotent and legal from any callback, also for events of the
 * batch that is being dispatched right now.
 */
export interface Watcher extends Disposable {
  /** True until it is stopped, or has done what it does only once. */
  readonly active: boolean;
  stop(): void;
  /** A ref'ed watcher keeps the process alive, exactly as Node's own handles do. Default: ref'ed. */
  ref(): this;
  unref(): this;
  hasRef(): boolean;
}

export interface IoHandlers {
  onReadReady?: (fd: number) => void;
  onWriteReady?: (fd: number) => void;
  /** Peer hung up (HUP, RDHUP or EV_EOF). Runs after onReadReady of the same batch; disarms itself. */
  onHangup?: (fd: number) => void;
  /**
   * The descriptor became unusable after it was watched (closed elsewhere, ERR without a reader to tell). Without it
   * the error surfaces as a callback's would. A descriptor that is closed already makes `watchIo` itself throw EBADF.
   */
  onError?: (error: Error, fd: number) => void;
}

export interface IoOptions {
  /**
   * Edge-triggered. Default false: level-triggered. The watchers of one descriptor share the mode: mixing throws
   * `ERR_FORKBEARD_MIXED_TRIGGER`.
   */
  edge?: boolean;
  /** Disarm after the first event (read and write of the same event both run); `rearm()` arms it again. */
  oneshot?: boolean;
  /** EPOLLEXCLUSIVE for a listening socket that several processes share. Ignored where there is none. */
  exclusive?: boolean;
}

export interface IoWatcher extends Watcher {
  readonly fd: number;
  /** Arms a oneshot watcher, or a hangup that was told, again. */
  rearm(): void;
}

export interface TimeWatcher extends Watcher {
  /** Monotonic deadline in ms, comparable with `loop.now()`. */
  readonly deadline: number;
}
