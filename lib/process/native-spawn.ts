/**
 * `native/spawn.cc` as TypeScript sees it: the layout of a request, and the names of the steps that can fail. Used by
 * spawn-options.ts, which writes requests, and spawn.ts, which sends them.
 */
import { addon } from '../native.ts';

export interface NativeSpawn {
  /**
   * 0 or a negative errno; `results` in any case. Strings are blocks in which each ends with a zero byte.
   * `environment` null is this process's own, `directory` has one string or none.
   */
  start(
    programArguments: string,
    environment: string | null,
    candidates: string,
    directory: string,
    paths: string,
    rows: Int32Array,
    settings: Float64Array,
    results: Int32Array,
  ): number;
  /** Of this process; 0 or a negative errno. A hard limit of NaN stays as it is. */
  setLimit(resource: number, soft: number, hard: number): number;
  /** Resource limits of this platform: name to number. */
  readonly limits: Readonly<Record<string, number>>;
  readonly hasDeathSignal: boolean;
}

/** What a descriptor of the child becomes. */
export const Kind = { COPY: 0, OPEN: 1, PIPE_TO_CHILD: 2, PIPE_FROM_CHILD: 3, SOCKET_PAIR: 4 } as const;

/** A row for each descriptor, ascending: target, kind, source or index of the path, flags, mode. */
export const ROW = 5;

/** Places of the settings that every request has. The groups follow, then three numbers for each limit. */
export const Setting = {
  GROUP: 0,
  GROUP_TO_JOIN: 1,
  /** From here on NaN is "not set". */
  UMASK: 2,
  NICE: 3,
  UID: 4,
  GID: 5,
  GROUPS: 6,
  GROUPS_MAY_FAIL: 7,
  DEATH_SIGNAL: 8,
  LIMITS: 9,
  COUNT: 10,
} as const;

export const Group = { INHERIT: 0, NEW: 1, SESSION: 2, JOIN: 3 } as const;

/** Places of the results. Our ends of pipes follow: one number for each row, -1 where there is none. */
export const Result = { PID: 0, PIDFD: 1, STEP: 2, FD: 3, FIRST_END: 4 } as const;

/** What may fail before the program runs, by number. */
export const STEPS = [
  '',
  'pipe',
  'fork',
  'setsid',
  'setpgid',
  'dup2',
  'open',
  'close',
  'setpriority',
  'setrlimit',
  'chdir',
  'setgroups',
  'setgid',
  'setuid',
  'parentDeathSignal',
  'exec',
] as const;

let loaded: NativeSpawn | undefined;

export function nativeSpawn(): NativeSpawn {
  loaded ??= addon<{ spawn: NativeSpawn }>().spawn;
  return loaded;
}
