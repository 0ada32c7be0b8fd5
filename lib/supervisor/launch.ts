/** What a starter tells the shim of a run: the service's environment, its traces and its life. Used by ascent.ts. */
import { withoutUs } from './attempt.ts';
import { bootId, identify } from './identity.ts';
import type { HeldSockets } from './listen.ts';
import type { ServiceOptions } from './service-options.ts';
import type { ShimOptions } from './shim.ts';
import type { RecordHead, StateDirectory } from './state.ts';

export interface LaunchAround {
  readonly runId: string;
  readonly state: StateDirectory;
  readonly notifyPath: string;
  readonly held: HeldSockets;
}

export function shimOptions(service: ServiceOptions, around: LaunchAround): ShimOptions {
  const { name, command, env, stop, live, stdio, output, settings, group, independent = null } = service;
  const { runId, state, notifyPath, held } = around;
  const traces = state.of(name);
  const watchdog: Record<string, string> =
    live !== null && 'notify' in live ? { WATCHDOG_USEC: String(live.every * 1000) } : {};
  const own = {
    FORKBEARD_RUN_ID: runId,
    FORKBEARD_SERVICE: name,
    FORKBEARD_STATE_DIR: state.path,
    NOTIFY_SOCKET: notifyPath,
  };
  const head: RecordHead = {
    service: name,
    runId,
    bootId: bootId(),
    command: [...command],
    ...(independent === null ? { supervisor: ourselves() } : {}),
  };
  return {
    command,
    env: { ...withoutOurs(env), ...watchdog, ...own },
    sockets: held.descriptors,
    socketNames: held.names,
    lock: traces.lock,
    record: { path: traces.record, head },
    orphaned: withoutUs(stop),
    ...(independent === null ? {} : { independent: { path: traces.socket, lease: independent.lease } }),
    ...(stdio === undefined ? {} : { stdio }),
    ...(output === undefined ? {} : { output }),
    ...(settings === undefined ? {} : { settings }),
    ...(group === undefined ? {} : { group }),
  };
}

/** What whoever runs us has told us alone. */
function withoutOurs(env: ServiceOptions['env']): Record<string, string> {
  const { LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES, WATCHDOG_USEC, WATCHDOG_PID, ...theirs } = env;
  return theirs;
}

function ourselves(): RecordHead['supervisor'] {
  return { pid: process.pid, startTime: identify(process.pid)?.startTime ?? null };
}
