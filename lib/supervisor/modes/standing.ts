/** How the whole stands, as those outside want to know it: in one word, in one line, and by name. Of a status, anew each time. */
import { plural } from '../../daemon/words.ts';
import type { SupervisorStatus } from '../contract.ts';

export interface Standing {
  /** Every service that is wanted may be used, or has done what it was for. */
  readonly ready: boolean;
  /** The outermost group has given up: only a new start of the supervisor changes that. */
  readonly failed: boolean;
  /** For people: `5 services, 4 ready; cache: starting`. */
  readonly text: string;
  /** Of each service that keeps it from being ready: why. */
  readonly problems: Readonly<Record<string, string>>;
}

/** What an outer supervisor is told, and when. Made when the supervisor starts; `changed` comes at every change. */
export interface ModeObject {
  changed(standing: Standing): void;
  /** Other services are on their way. */
  reloading?(): void;
  /** Fulfilled when the first service may be stopped. */
  stopping(): Promise<void>;
  /** Nobody wants to wait for that any more. */
  hurry?(): void;
  /** When all are stopped. */
  close(): void;
}

export function standingOf({ services, tree }: Pick<SupervisorStatus, 'services' | 'tree'>): Standing {
  const all = Object.entries(services);
  // Stopped by hand: nobody wants it. While all are started, its turn has not come.
  const waited = all.filter(([, { state }]) => state !== 'down' || tree.state === 'starting');
  const problems = Object.fromEntries(
    waited
      .filter(([, { ready, state }]) => !ready && state !== 'done')
      .map(([name, { state, problem }]) => [name, problem === null ? state : `${state}: ${problem}`]),
  );
  const ready = Object.keys(problems).length === 0 && tree.state === 'running';
  const names = Object.entries(problems).map(([name, problem]) => `; ${name}: ${problem}`);
  return {
    ready,
    failed: tree.state === 'failed',
    problems,
    text: `${all.length} ${plural('service', all.length)}, ${waited.length - names.length} ready${names.join('')}`,
  };
}
