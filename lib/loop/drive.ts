/**
 * Drive: what Node's own event loop has to know of a loop, so that it turns it and lives as long as it. Who is watched
 * and who keeps the process alive, whether something waits for no event, and when the next timer is due. Told to the
 * native half only when it has changed. Used by the loop; it runs no callback.
 */
import { isMainThread } from 'node:worker_threads';
import { type Handle, nativeLoop } from './native-loop.ts';
import { now, type Timers, wallNow } from './time.ts';

/** How often a wall-clock deadline is looked at where the kernel does not say that the clock was set, ms. */
const WALL_RECHECK = 1000;
/** A Worker that is terminated is not told by the kernel: it must come back to JavaScript to notice, ms. */
const LONGEST_SLEEP = isMainThread ? Infinity : 100;

export class Drive {
  readonly #handle: Handle;
  readonly #timers: Timers;
  #started = false;
  #actives = 0;
  #refs = 0;

  // What was told last.
  #isHeld = false;
  #isRef = false;
  #isPending = false;
  #alarm = Infinity;
  #wallAlarm = Infinity;
  #kernelTellsWall = true;

  constructor(handle: Handle, timers: Timers) {
    this.#handle = handle;
    this.#timers = timers;
  }

  get started(): boolean {
    return this.#started;
  }

  /** Watchers that are active. */
  get actives(): number {
    return this.#actives;
  }

  /** From now on Node's loop calls `turn`. A negative errno when it cannot. */
  start(turn: (count: number) => void): number {
    const errno = nativeLoop().startDrive(this.#handle, turn);
    this.#started = errno >= 0;
    return errno;
  }

  /** One more or one less; `settleKeeping` tells it. */
  count(actives: number, refs: number): void {
    this.#actives += actives;
    this.#refs += refs;
  }

  /** Tells Node's loop whether to live for us, and the garbage collector whether we are needed. */
  settleKeeping(): void {
    if (!this.#started) return;
    const held = this.#actives > 0;
    if (held !== this.#isHeld) {
      this.#isHeld = held;
      nativeLoop().setHold(this.#handle, held);
    }
    const ref = this.#refs > 0;
    if (ref !== this.#isRef) {
      this.#isRef = ref;
      nativeLoop().setRef(this.#handle, ref);
    }
  }

  /**
   * Tells everything; `pending`: there is work that waits for no event. The kernel may have no alarm to give: then a
   * turn comes all the same, to try again, and the negative errno is returned.
   */
  settle(pending: boolean): number {
    this.settleKeeping();
    const errno = this.settleAlarms();
    this.#settlePending(pending || errno < 0);
    return errno;
  }

  /** Gives up trying again. */
  rest(pending: boolean): void {
    this.#settlePending(pending);
  }

  #settlePending(pending: boolean): void {
    if (pending === this.#isPending) return;
    this.#isPending = pending;
    nativeLoop().setPending(this.#handle, pending);
  }

  /** The alarm that wakes Node's loop may ring too early, which costs a turn, but never too late. */
  settleAlarms(): number {
    let wanted = this.#timers.nextDeadline();
    const wall = this.#timers.nextWallDeadline();
    if (wall === Infinity && wanted >= this.#alarm) return 0;
    const time = now();
    if (wall !== Infinity) {
      this.#settleWallAlarm();
      if (!this.#kernelTellsWall)
        wanted = Math.min(wanted, time + Math.min(WALL_RECHECK, Math.max(0, wall - wallNow())));
    }
    if (wanted >= this.#alarm) return 0;
    const errno = nativeLoop().setAlarm(this.#handle, Math.max(0, wanted - time));
    if (errno >= 0) this.#alarm = wanted;
    return errno;
  }

  #settleWallAlarm(): void {
    const wall = this.#timers.nextWallDeadline();
    if (wall === this.#wallAlarm || !this.#kernelTellsWall) return;
    this.#wallAlarm = wall;
    // Not within the millisecond before: our own reading of that clock has whole ones, and the alarm rings only once.
    const at = Math.ceil(Math.max(0, wall));
    this.#kernelTellsWall = nativeLoop().setWallAlarm(this.#handle, at) >= 0;
  }

  /**
   * A round is over. The alarm that rang brought it about, or was swallowed by its wait. So may have been the one on
   * the wall clock, for a time that has not come yet: the clock was set back before we looked.
   */
  rang(): void {
    if (this.#alarm <= now()) this.#alarm = Infinity;
    this.#wallAlarm = Infinity;
  }

  /** How long a wait of `limit` ms may be, with timers in mind. */
  patience(limit: number): number {
    let wait = Math.min(limit, LONGEST_SLEEP);
    const next = this.#timers.nextDeadline();
    if (next !== Infinity) wait = Math.min(wait, Math.max(0, next - now()));
    const wall = this.#timers.nextWallDeadline();
    if (wall !== Infinity) {
      this.#settleWallAlarm();
      wait = Math.min(wait, Math.max(0, wall - wallNow()));
      if (!this.#kernelTellsWall) wait = Math.min(wait, WALL_RECHECK);
    }
    return wait;
  }

  /** The kernel objects are new ones, and have been told nothing. */
  recreated(): void {
    this.#isHeld = false;
    this.#isRef = false;
    this.#isPending = false;
    this.#alarm = Infinity;
    this.#wallAlarm = Infinity;
  }
}
