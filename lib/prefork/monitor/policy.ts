/**
 * The table of what follows when a worker has ended: by the cause alone, so that it can be read, documented and tested
 * as a table. `server.ts` does what it says.
 */
import type { ExitCause } from '../contract.ts';
import { EXIT } from '../exit-codes.ts';

export interface Consequence {
  /**
   * `at-once`: the place is filled again and nothing is held against it. `back-off`: filled again, later and later from
   * failure to failure. `long`: the same, with a longer first wait. `never`: the place stays empty; when all are, the
   * server stops.
   */
  readonly respawn: 'at-once' | 'back-off' | 'long' | 'never';
  /** What the server stops with when this happens before any worker was ready ... */
  readonly exitCode: number;
  /** ... at once, or after several in a row. */
  readonly beforeReady: 'stop' | 'try-again';
  /** There is no room for so many. */
  readonly oneFewer?: boolean;
  /** Forking is what does not work. */
  readonly spawnInstead?: boolean;
}

const atOnce = (exitCode: number): Consequence => ({
  respawn: 'at-once',
  exitCode,
  beforeReady: 'try-again',
});
const backOff = (exitCode: number): Consequence => ({
  respawn: 'back-off',
  exitCode,
  beforeReady: 'try-again',
});

export const POLICY: Readonly<Record<ExitCause, Consequence>> = {
  drained: atOnce(EXIT.boot),
  recycled: atOnce(EXIT.boot),
  operator: atOnce(EXIT.boot),
  boot: { respawn: 'back-off', exitCode: EXIT.boot, beforeReady: 'stop' },
  'boot-deadline': { respawn: 'back-off', exitCode: EXIT.boot, beforeReady: 'stop' },
  'address-in-use': backOff(EXIT.addressInUse),
  'no-permission': { respawn: 'never', exitCode: EXIT.noPermission, beforeReady: 'stop' },
  'out-of-descriptors': { ...backOff(EXIT.outOfDescriptors), oneFewer: true },
  'out-of-kernel-memory': { respawn: 'long', exitCode: EXIT.outOfKernelMemory, beforeReady: 'try-again' },
  'unsafe-fork': { ...atOnce(EXIT.unsafeFork), spawnInstead: true },
  'lost-monitor': backOff(EXIT.system),
  memory: backOff(EXIT.memory),
  'heap-limit': backOff(EXIT.memory),
  'kernel-oom': backOff(EXIT.memory),
  system: backOff(EXIT.system),
  uncaught: backOff(EXIT.uncaught),
  crash: backOff(EXIT.uncaught),
  'request-deadline': backOff(EXIT.requestDeadline),
  'blocked-loop': backOff(EXIT.blockedLoop),
  'graceful-deadline': atOnce(EXIT.drained),
};

/** Failures in a row, over all places, after which a server of which no worker was ever ready gives up. */
export const GIVE_UP_AFTER = 5;
