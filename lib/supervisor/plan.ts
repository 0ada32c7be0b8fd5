/**
 * A supervisor's configuration, checked and complete: times in ms, users as numbers, paths absolute, names unique and
 * dependencies known. Made by config/, carried out by supervisor.ts. Types only.
 */
import type { ListenTarget } from '../daemon/listen.ts';
import type { Mode, Strategy } from './contract.ts';
import type { DistributedPlan } from './modes/distributed.ts';
import type { Backoff, Intensity } from './restart.ts';
import type { Guarantee, ServiceOptions } from './service-options.ts';

export interface SupervisorPlan {
  /** Null: the usual place. */
  readonly stateDir: string | null;
  /** Its name is ''. */
  readonly tree: GroupPlan;
  /** For the modes that services have; of another one it means nothing. */
  readonly supervised?: { readonly notifyFd: number | null };
  readonly distributed?: DistributedPlan;
}

export interface GroupPlan {
  readonly kind: 'group';
  readonly name: string;
  readonly strategy: Strategy;
  readonly intensity: Intensity;
  /** Between its restarts, as a member of the group around it. */
  readonly backoff: Backoff;
  readonly restart: 'permanent' | 'temporary';
  readonly dependsOn: readonly DependencyPlan[];
  /** As they are written. */
  readonly members: readonly (ServicePlan | GroupPlan)[];
}

export interface DependencyPlan {
  readonly name: string;
  readonly until: 'ready' | 'done';
}

/** `stdio`: 'log' is 'relay'. */
export interface ServicePlan extends Omit<ServiceOptions, 'independent' | 'require' | 'listen'> {
  readonly kind: 'service';
  readonly mode: Mode;
  /** ms; 0: for ever. Only for what is independent. */
  readonly lease: number;
  readonly require: Guarantee | null;
  readonly dependsOn: readonly DependencyPlan[];
  readonly listen: readonly NamedListen[];
}

export interface NamedListen {
  /** For LISTEN_FDNAMES. */
  readonly name: string | null;
  readonly target: ListenTarget;
}
