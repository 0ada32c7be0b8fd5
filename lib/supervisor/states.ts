/** The states of a service, and which may follow which. A step that is not in the table is a mistake of ours. */

export type ServiceState =
  /** Not wanted, and not there. */
  | 'down'
  /** Wanted; something that it needs is not free yet. */
  | 'gated'
  /** Its program runs; it is not ready. */
  | 'starting'
  | 'running'
  /** It runs, and its last answer was bad. */
  | 'unhealthy'
  /** Somebody ends it. */
  | 'stopping'
  /** It ended by itself; what it left behind is being ended. */
  | 'settling'
  /** The last step of a stop did not end it. */
  | 'stuck'
  /** It runs, and not as ours: another supervisor has its lock. */
  | 'elsewhere'
  /** It will be started again after a while. */
  | 'backoff'
  /** It ended as it was meant to. */
  | 'done'
  /** It will not be started again by itself. */
  | 'failed';

const NEXT: Readonly<Record<ServiceState, readonly ServiceState[]>> = {
  down: ['gated', 'elsewhere'],
  gated: ['starting', 'elsewhere', 'backoff', 'failed', 'done', 'down'],
  starting: ['running', 'elsewhere', 'gated', 'stopping', 'settling', 'backoff', 'failed', 'done', 'down'],
  elsewhere: ['gated', 'down'],
  // Elsewhere: it was let go of.
  running: ['unhealthy', 'elsewhere', 'stopping', 'settling', 'backoff', 'failed', 'done'],
  unhealthy: ['running', 'elsewhere', 'stopping', 'settling', 'backoff', 'failed', 'done'],
  stopping: ['down', 'stuck', 'gated', 'backoff', 'failed', 'done'],
  settling: ['elsewhere', 'backoff', 'failed', 'done', 'stuck', 'stopping', 'down'],
  stuck: ['stopping', 'down', 'gated', 'backoff', 'failed', 'done'],
  backoff: ['gated', 'down', 'failed'],
  done: ['gated', 'down'],
  failed: ['gated', 'down'],
};

export function mayFollow(from: ServiceState, to: ServiceState): boolean {
  return NEXT[from].includes(to);
}

/** States in which a process of the service may exist. */
export const ALIVE: readonly ServiceState[] = [
  'starting',
  'running',
  'unhealthy',
  'stopping',
  'settling',
  'stuck',
];
