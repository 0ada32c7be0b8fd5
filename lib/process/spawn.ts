/**
 * Starting programs. `launch` sends a checked request to the native floor and words its refusal; SpawnedProgram is
 * what `loop.spawn` returns. When they return, the program runs: there is nothing between "started" and "failed".
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import { type SystemErrorDetails, systemError } from '../sys/errors.ts';
import { ChildHandle } from './child.ts';
import type { SpawnedProcess } from './contract.ts';
import { Kind, nativeSpawn, Result, ROW, STEPS } from './native-spawn.ts';
import { type PipeKind, PipeStream } from './pipe-stream.ts';
import type { Programs } from './programs.ts';
import { pathOf, type SpawnRequest } from './spawn-options.ts';

export interface Launched {
  readonly pid: number;
  /** -1 where there are none. */
  readonly pidfd: number;
  /** Our end of each descriptor of the child that is a pipe. The caller closes them. */
  readonly ends: ReadonlyMap<number, number>;
}

/** Starts the program. Throws, with nothing left behind, what failed before it ran. */
export function launch(request: SpawnRequest): Launched {
  const { rows } = request;
  const count = rows.length / ROW;
  const results = new Int32Array(Result.FIRST_END + count);
  const errno = nativeSpawn().start(
    request.arguments,
    request.environment,
    request.candidates,
    request.directory,
    request.paths,
    rows,
    request.settings,
    results,
  );
  if (errno < 0) throw refusal(errno, request, results);
  const ends = new Map<number, number>();
  for (let index = 0; index < count; index++) {
    const end = results[Result.FIRST_END + index] as number;
    if (end >= 0) ends.set(rows[index * ROW] as number, end);
  }
  return { pid: results[Result.PID] as number, pidfd: results[Result.PIDFD] as number, ends };
}

function refusal(errno: number, request: SpawnRequest, results: Int32Array): Error {
  const step = STEPS[results[Result.STEP] as number];
  const fd = results[Result.FD] as number;
  const details: SystemErrorDetails = {};
  if (step) details.step = step;
  if (fd >= 0) details.fd = fd;
  const path = step === 'exec' ? request.program : step === 'chdir' ? request.cwd : pathOf(request, fd);
  if (path !== undefined) details.path = path;
  return systemError(errno, 'spawn', details);
}

/** What our end of a pipe can do. */
const DIRECTIONS: Readonly<Record<number, PipeKind>> = {
  [Kind.PIPE_TO_CHILD]: 'writable',
  [Kind.PIPE_FROM_CHILD]: 'readable',
  [Kind.SOCKET_PAIR]: 'socket',
};

/** A running program and the streams that lead to it. */
export class SpawnedProgram extends ChildHandle implements SpawnedProcess {
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  readonly stdio: ReadonlyArray<Duplex | null>;

  constructor(programs: Programs, request: SpawnRequest) {
    const { pid, pidfd, ends } = launch(request);
    const { leadsGroup, onExit, rows } = request;
    const streams: (PipeStream | null)[] = [null, null, null];
    super(programs.exits, {
      pid,
      pidfd,
      leadsGroup,
      onExit: (exit) => {
        // What was not written yet never will be read; as with Node's own children this is no error.
        this.stdin?.destroy();
        for (const stream of streams) stream?.childEnded();
        onExit?.(exit);
      },
    });
    for (let at = 0; at < rows.length; at += ROW) {
      const fd = rows[at] as number;
      const end = ends.get(fd);
      if (end === undefined) continue;
      while (streams.length <= fd) streams.push(null);
      streams[fd] = new PipeStream(programs, end, DIRECTIONS[rows[at + 1] as number] as PipeKind);
    }
    this.stdio = streams;
    this.stdin = streams[0] ?? null;
    this.stdout = streams[1] ?? null;
    this.stderr = streams[2] ?? null;
  }
}
