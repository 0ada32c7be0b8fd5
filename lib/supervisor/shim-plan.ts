/**
 * What a shim is told to do, and with which descriptors: the options of a run as a plan for native/shim/plan.h, and the
 * descriptors that the shim gets for the service. Used by shim.ts alone; opens nothing.
 */

import type { SpawnOptions, StdioTarget } from '../process/contract.ts';
import { nativeSpawn, Setting } from '../process/native-spawn.ts';
import { type SpawnRequest, spawnRequest } from '../process/spawn-options.ts';
import { signalNumber } from '../sys/signals.ts';

/** A signal to everything of the service, and how long to wait for its end before the next step. */
export interface StopStep {
  readonly signal: string | number;
  /** ms */
  readonly wait: number;
}

/** `relay`: over the shim, which keeps the last of what nobody hears. Only for stdout and stderr. */
export type ServiceStdio = StdioTarget | 'relay';

export interface ShimOptions {
  readonly command: readonly [string, ...string[]];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: nothing to read, and our own stdout and stderr. */
  readonly stdio?: {
    readonly stdin?: StdioTarget;
    readonly stdout?: ServiceStdio;
    readonly stderr?: ServiceStdio;
  };
  /** Descriptors of ours that the service gets, from 3 on. With some, LISTEN_FDS and LISTEN_PID are set. */
  readonly sockets?: readonly number[];
  /** For LISTEN_FDNAMES, one for each. */
  readonly socketNames?: readonly string[];
  readonly settings?: Pick<
    SpawnOptions,
    'cwd' | 'uid' | 'gid' | 'groups' | 'umask' | 'nice' | 'rlimits' | 'title'
  >;
  readonly group?: 'new' | 'session';
  /** Held for as long as anything of the service runs. */
  readonly lock?: string;
  /** `head` is an object: the shim adds pid, startTime, groupId and itself. */
  readonly record?: { readonly path: string; readonly head: object };
  /** Lives on without us. `lease`: for so many ms after the last beat (0: for ever). `path`: where it is found again. */
  readonly independent?: { readonly path: string; readonly lease: number };
  /** Of what it says, in a second; 0: as much as it likes. Default: that. */
  readonly output?: { readonly bytes: number; readonly lines: number };
  /** What the shim does when we are gone, or the lease is over. */
  readonly orphaned: readonly StopStep[];
}

/** Where the service's further descriptors are in the shim, so that none is in another's way. */
const FIRST_GIVEN = 10;
const CONTROL = 3;
const LISTENER = 4;
const FIRST_SOCKET = 3;
/** Room for a number that only the shim will know. */
const PID_PLACE = '0000000000';

/** What tells the shim, and all of the service, from everything else. */
export function markOf(env: Readonly<Record<string, string>>): Record<string, string> {
  const { FORKBEARD_RUN_ID: runId, FORKBEARD_STATE_DIR: folder, FORKBEARD_SERVICE: service } = env;
  return {
    ...(runId === undefined ? {} : { FORKBEARD_RUN_ID: runId }),
    // Its own alone: a service may overwrite what it was started with, and others may inherit that.
    ...(folder === undefined || service === undefined ? {} : { FORKBEARD_SHIM_OF: `${folder}/${service}` }),
  };
}

const STREAMS = ['stdin', 'stdout', 'stderr'] as const;

/** The shim gets the service's own descriptors, and lets go of them when the service has them. */
export function shimStdio(
  { stdio = {}, sockets = [] }: ShimOptions,
  control: number,
  listener: number | undefined,
): Record<number, StdioTarget> {
  const targets: Record<number, StdioTarget> = { [CONTROL]: control };
  STREAMS.forEach((name, fd) => {
    const target = stdio[name] ?? (fd === 0 ? 'ignore' : 'inherit');
    targets[fd] = target === 'relay' || target === 'close' ? 'ignore' : target;
  });
  if (listener !== undefined) targets[LISTENER] = listener;
  sockets.forEach((fd, index) => {
    targets[FIRST_GIVEN + index] = fd;
  });
  return targets;
}

function requestOf(options: ShimOptions): SpawnRequest {
  const { command, env, stdio = {}, sockets = [], settings = {}, group = 'new' } = options;
  const targets: Record<number, StdioTarget> = {};
  STREAMS.forEach((name, fd) => {
    const target = stdio[name];
    targets[fd] = target === 'relay' ? 'pipe' : target === 'close' ? 'close' : fd;
  });
  sockets.forEach((_, index) => {
    targets[FIRST_SOCKET + index] = FIRST_GIVEN + index;
  });
  const activation: Record<string, string> = {};
  if (sockets.length > 0) {
    activation['LISTEN_FDS'] = String(sockets.length);
    activation['LISTEN_PID'] = PID_PLACE;
    if (options.socketNames !== undefined) activation['LISTEN_FDNAMES'] = options.socketNames.join(':');
  }
  const request = spawnRequest({
    ...settings,
    command,
    env: { ...env, ...activation },
    stdio: targets,
    group,
  });
  // Set here and not by the option, which is about this process: the one that may end is the shim.
  if (options.independent === undefined && nativeSpawn().hasDeathSignal) {
    request.settings[Setting.DEATH_SIGNAL] = signalNumber('SIGKILL');
  }
  return request;
}

export function planOf(options: ShimOptions, made: string | undefined): Buffer {
  const request = requestOf(options);
  const { lock, record, independent, orphaned, output } = options;
  const life: string[] = [];
  const runId = options.env['FORKBEARD_RUN_ID'];
  // It comes back in JSON.
  if (runId !== undefined && /^[\w-]+$/.test(runId)) life.push(`run=${runId}`);
  if (lock !== undefined) life.push(`lock=${lock}`);
  if (record !== undefined) {
    life.push(`record=${record.path}`, `record-head=${JSON.stringify(record.head).slice(0, -1)}`);
  }
  if (independent !== undefined) {
    life.push('independent=1', `lease=${milliseconds(independent.lease)}`);
    life.push(`listener=${LISTENER}`, `listener-path=${independent.path}`, `listener-made=${made}`);
  }
  if (output !== undefined) life.push(`output=${Math.ceil(output.bytes)} ${Math.ceil(output.lines)}`);
  for (const { signal, wait } of orphaned)
    life.push(`orphaned=${signalNumber(signal)} ${milliseconds(wait)}`);
  const sections = [
    request.arguments,
    request.environment ?? '',
    request.candidates,
    request.directory,
    request.paths,
    request.rows,
    request.settings,
    life.map((line) => `${line}\0`).join(''),
  ].map((part) => (typeof part === 'string' ? Buffer.from(part) : bytesOf(part)));
  return Buffer.concat(
    sections.flatMap((section) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(section.length);
      return [length, section];
    }),
  );
}

/** As the shim counts them. For ever is 24 days: no step of a stop is meant to take longer. */
export function milliseconds(ms: number): number {
  return Math.min(Math.ceil(ms), 0x7fff_ffff);
}

export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}
