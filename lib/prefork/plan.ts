/** The options of a server, checked and with every default filled in: what all of its processes go by. */
import type { ListenTarget } from '../daemon/listen.ts';

type Limit = number | 'unlimited';

/** Times in ms, sizes in bytes; 0 where a limit is off. Plain data: it travels to the application's processes as JSON. */
export interface Plan {
  /** Absolute file URL of the application's module. */
  application: string;
  title: string;
  workers: number;
  listen: ListenTarget[];
  spawnMethod: 'auto' | 'fork' | 'spawn';
  reusePort: boolean;
  backlog: number;
  bootTimeout: number;
  gracefulTimeout: number;
  blockedTimeout: number;
  requestTimeout: number;
  maxConnections: number;
  maxRequestsInFlight: number;
  maxRequests: number;
  maxLifetime: number;
  maxMemory: number;
  /** Percent. */
  jitter: number;
  reforkAfter: number[];
  control: string | false;
  metrics: ListenTarget | null;
  pidFile: string | null;
  /** Of the files and `env` together; read again at every reload. */
  envFiles: string[];
  env: Record<string, string>;
  /** Null: stay who we are. */
  uid: number | null;
  gid: number | null;
  /** Supplementary groups that go with `uid`; null: stay. */
  groups: number[] | null;
  umask: number | null;
  /** A hard limit that is not there stays as it is. */
  rlimits: Record<string, { soft: Limit; hard?: Limit }>;
  /** Absolute. */
  cwd: string;
  logFormat: 'pretty' | 'json';
  logFile: string | null;
}
