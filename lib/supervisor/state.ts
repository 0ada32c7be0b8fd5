/**
 * The state directory: a record, a lock and a socket for each service, under its name. The shim writes and holds them
 * (native/shim/traces.h); here they are found and read, by whoever starts a service and wants to know whether it runs
 * already. What lies there is believed only if nobody else could have put it there.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { invalidValue, stateError } from '../sys/errors.ts';
import { makeFolders } from '../sys/make-folders.ts';
import { type Match, match } from './identity.ts';

export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** What fits into a socket's address everywhere. */
const LONGEST_SOCKET = 103;
const LARGEST_RECORD = 1 << 20;

/** Largest pid that any system has. 0 and 1 are never a service, and negative ones are groups. */
const pid = z.int().min(2).max(0x7fff_ffff);
const startTime = z.int().nonnegative().nullable();

const recordSchema = z.object({
  service: z.string().regex(NAME),
  runId: z.string().min(1),
  bootId: z.string().nullable(),
  command: z.array(z.string()).min(1),
  pid,
  startTime,
  groupId: pid,
  shim: z.object({ pid, startTime }),
  /** Whose end is the service's too. Not of one that is independent. */
  supervisor: z.object({ pid: z.int().positive().max(0x7fff_ffff), startTime }).optional(),
});

/** What a shim writes down before its service's first instruction. */
export type ServiceRecord = z.infer<typeof recordSchema>;

/** The part of it that the supervisor knows. */
export type RecordHead = Pick<ServiceRecord, 'service' | 'runId' | 'bootId' | 'command' | 'supervisor'>;

export type ReadRecord =
  | { readonly kind: 'record'; readonly record: ServiceRecord }
  | { readonly kind: 'none' }
  /** There is something, and it is not to be believed. */
  | { readonly kind: 'invalid'; readonly reason: string };

/**
 * What can be said of a service from outside. `running`. `orphaned`: it runs, and its shim does not: nobody will tell of
 * its end. `settling`: its first process has ended, and its shim has not: the rest is on its way out, or its end waits to
 * be heard; or its supervisor was killed, and its shim is ending it. `stale`: nothing of it is known to run; the record is a left-over. `unknown`: a fact cannot be read.
 */
export type Verdict = 'none' | 'running' | 'orphaned' | 'settling' | 'stale' | 'unknown';

export interface Finding {
  readonly verdict: Verdict;
  readonly record: ServiceRecord | null;
  /** Of a record that is not to be believed. */
  readonly reason?: string;
}

/** By what has become of the first process (rows) and of the shim (columns). */
const VERDICTS: Readonly<Record<Match, Readonly<Record<Match, Verdict>>>> = {
  same: { same: 'running', other: 'orphaned', gone: 'orphaned', unreadable: 'running' },
  other: { same: 'settling', other: 'stale', gone: 'stale', unreadable: 'unknown' },
  gone: { same: 'settling', other: 'stale', gone: 'stale', unreadable: 'unknown' },
  unreadable: { same: 'running', other: 'unknown', gone: 'unknown', unreadable: 'unknown' },
};

export interface Traces {
  readonly record: string;
  readonly lock: string;
  readonly socket: string;
}

export class StateDirectory {
  readonly path: string;

  /** Makes the directory if need be. Throws ERR_FORKBEARD_STATE_DIR when others could write to it. */
  constructor(path = defaultPath()) {
    this.path = path;
    this.make();
  }

  /** Also before each start: whoever clears old files away may have taken it. Throws as the constructor does. */
  make(): void {
    const { path } = this;
    // Others find nothing in it, but a service of another user finds its notify socket.
    makeFolders(path, 0o711);
    const stat = lstatSync(path);
    const refuse = (why: string) => stateError('STATE_DIR', `The state directory ${path} ${why}`);
    if (!stat.isDirectory()) throw refuse('is no directory');
    if (stat.uid !== process.geteuid?.()) throw refuse(`belongs to user ${stat.uid}`);
    if ((stat.mode & 0o022) !== 0) throw refuse('can be written by others');
  }

  /** Where the traces of a service are. */
  of(service: string): Traces {
    if (!NAME.test(service)) {
      throw invalidValue(
        'service',
        'up to 64 letters, digits, dots, dashes and underscores, a letter or digit first',
        service,
      );
    }
    const socket = socketPath(join(this.path, `${service}.sock`));
    return { record: join(this.path, `${service}.pid`), lock: join(this.path, `${service}.lock`), socket };
  }

  /** Where a run of a service may tell how it is: another place for each, so that none is in another's way. */
  notifyPath(service: string, runId: string): string {
    return socketPath(join(this.path, `${service}.${runId.slice(0, 8)}.notify`));
  }

  /** Removes what earlier runs of a service left there. For who has its lock. `door`: its shim listens at its socket. */
  tidy(service: string, runId: string, door: boolean): void {
    const own = basename(this.notifyPath(service, runId));
    for (const name of readdirSync(this.path)) {
      const [, of = ''] = /^(.*)(?:\.[0-9a-f]{8}\.notify|\.sock\.[0-9a-f]{8})$/.exec(name) ?? [];
      if (of === service && name !== own) rmSync(join(this.path, name), { force: true });
    }
    if (!door) rmSync(this.of(service).socket, { force: true });
  }

  /** Services that have a lock here: each that was ever started. */
  services(): string[] {
    return readdirSync(this.path)
      .filter((name) => name.endsWith('.lock'))
      .map((name) => name.slice(0, -'.lock'.length))
      .filter((name) => NAME.test(name));
  }

  /** Whether who listens at the service's socket is its shim: it holds the lock, which is in nobody's reach but ours. */
  isShim(service: string, { pid, uid }: { readonly pid: number; readonly uid: number }): boolean {
    if (uid !== process.geteuid?.()) return false;
    const holders = lockHolders(this.of(service).lock);
    // Where the system tells neither, the directory keeps others out.
    return pid <= 0 || holders === null || holders.includes(pid);
  }

  /** What is known of a service. Sends nothing to anybody. */
  find(service: string): Finding {
    const read = readRecord(this.of(service).record);
    if (read.kind === 'none') return { verdict: 'none', record: null };
    if (read.kind === 'invalid') return { verdict: 'unknown', record: null, reason: read.reason };
    const { record } = read;
    const { bootId, shim, supervisor } = record;
    const verdict = VERDICTS[match(record)][match({ ...shim, bootId })];
    const isLeft = supervisor !== undefined && ['gone', 'other'].includes(match({ ...supervisor, bootId }));
    return { verdict: verdict === 'running' && isLeft ? 'settling' : verdict, record };
  }
}

function socketPath(path: string): string {
  if (Buffer.byteLength(path) <= LONGEST_SOCKET) return path;
  throw stateError('STATE_DIR', `${path} is longer than the ${LONGEST_SOCKET} bytes of a socket's address`);
}

function defaultPath(): string {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  if (runtime !== undefined && runtime !== '') return join(runtime, 'forkbeard');
  return join(tmpdir(), `forkbeard-${process.geteuid?.()}`);
}

/** A record, if it is one: a plain file of ours, not larger than any record, whose every field makes sense. */
export function readRecord(path: string): ReadRecord {
  const invalid = (reason: string): ReadRecord => ({ kind: 'invalid', reason: `${path} ${reason}` });
  let fd: number;
  try {
    // Not waiting for the writer of a FIFO that somebody put there.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? { kind: 'none' } : invalid(`cannot be read: ${code}`);
  }
  let text: string;
  try {
    const { uid, size } = fstatSync(fd);
    if (!fstatSync(fd).isFile()) return invalid('is no plain file');
    if (uid !== process.geteuid?.() && uid !== 0) return invalid(`belongs to user ${uid}`);
    if (size > LARGEST_RECORD) return invalid(`is of ${size} bytes`);
    const buffer = Buffer.alloc(size);
    text = buffer.toString('utf8', 0, readSync(fd, buffer));
  } finally {
    closeSync(fd);
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return invalid('is no JSON');
  }
  const result = recordSchema.safeParse(content);
  if (result.success) return { kind: 'record', record: result.data };
  const [issue] = result.error.issues;
  return invalid(`has no sound "${issue?.path.join('.')}": ${issue?.message}`);
}

/** Which file a lock is, device and inode; null when there is none. Throws when that cannot be seen. */
export function lockFile(path: string): string | null {
  const file = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return file === undefined ? null : `${file.dev}:${file.ino}`;
}

/** Who holds a lock: pids, none when nobody does; null where the system does not tell. Takes no lock itself. */
export function lockHolders(path: string): number[] | null {
  let inode: string;
  try {
    inode = String(lstatSync(path, { bigint: true }).ino);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? [] : null;
  }
  try {
    const holders: number[] = [];
    for (const line of readFileSync('/proc/locks', 'latin1').split('\n')) {
      // 1: FLOCK  ADVISORY  WRITE 2412 fe:00:393244 0 EOF. A device's number is another one in the file's own
      // stat on some filesystems, so that the inode has to do.
      const [, kind, , , holder, place] = line.split(/\s+/);
      if (kind === 'FLOCK' && place?.split(':')[2] === inode) holders.push(Number(holder));
    }
    return holders;
  } catch {
    return null;
  }
}
