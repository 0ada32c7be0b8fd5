/**
 * The sockets that the server listens on: bound once, by the monitor, and inherited by everybody else. Taken over from
 * systemd or from a monitor that hands over to us where they are there already. Whoever leaves, they stay: nobody's
 * connection waits at a socket that is being closed.
 */
import { lstatSync, unlinkSync } from 'node:fs';
import type { ListenTarget } from '../../daemon/listen.ts';
import type { Loop } from '../../process/loop.ts';
import {
  type Address,
  close,
  connect,
  dup,
  ECONNREFUSED,
  listen,
  localAddress,
  setCloseOnExec,
  setNonBlocking,
  socket,
} from '../../sys/index.ts';
import { EXIT } from '../exit-codes.ts';
import type { Inherited } from './upgrade.ts';

export interface ListenerOptions {
  targets: readonly ListenTarget[];
  backlog: number;
  /** Sockets for each target, for as many places; 1: all share one. */
  copies: number;
  inherited: readonly Inherited[];
  /** Said for every attempt that was in vain. */
  onBusy(error: NodeJS.ErrnoException, delay: number): void;
}

/**
 * Waits after an attempt at an address that is in use, ms: eight seconds in all. A worker that hangs holds it for six
 * when its monitor was killed (`WITHOUT_MONITOR` and `AFTER_LIMIT` of worker.ts), and the next monitor is to outlast that.
 */
const RETRIES = [100, 200, 400, 800, 1500, 2000, 3000];

interface Bound {
  target: string;
  address: Address;
  /** One for each place, by turns. */
  fds: number[];
  /** The file that a unix socket has, if it is ours to remove. */
  inode: number | undefined;
}

export class Listeners {
  readonly #options: ListenerOptions;
  readonly #closing = new AbortController();
  #bound: Bound[] = [];
  /** Handed over to us, and nobody's yet. */
  #untaken: readonly Inherited[];
  #addresses: readonly string[] = [];

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#untaken = options.inherited;
  }

  /** Rejected, with nothing left open, with the system's error for an address, and when they are closed meanwhile. */
  async open(loop: Loop): Promise<void> {
    const { targets, inherited } = this.#options;
    const { signal } = this.#closing;
    const names = namesOf(targets);
    try {
      for (const [index, target] of targets.entries()) {
        const name = names[index] as string;
        this.#bound.push(await openOne(loop, name, target, this.#taken(name), this.#options, signal));
        // What has been closed is not added to.
        signal.throwIfAborted();
      }
    } catch (error) {
      // What was handed to us is somebody else's still.
      this.close(inherited.length > 0);
      throw error;
    }
    this.#closeUntaken();
    this.#addresses = this.#bound.map(({ address }) => describe(address));
  }

  /** As people write them, with the port that the kernel chose. They keep their names when they are closed. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /** How many places have sockets of their own. */
  get copies(): number {
    return this.#bound[0]?.fds.length ?? 1;
  }

  /** What the worker of that place listens on, in the order of the targets. */
  of(place: number): number[] {
    return this.#bound.map(({ fds }) => fds[(place - 1) % fds.length] as number);
  }

  /** For a mold: what everybody shares. */
  get shared(): number[] {
    return this.of(1);
  }

  get all(): Inherited[] {
    return this.#bound.flatMap(({ target, fds }) => fds.map((fd) => ({ target, fd })));
  }

  /** `keep`: somebody else listens there from now on. A second time does nothing, and they cannot be opened after it. */
  close(keep: boolean): void {
    this.#closing.abort();
    for (const { fds, address, inode } of this.#bound) {
      if (!keep && 'path' in address && inode !== undefined) unlinkOwn(address.path, inode);
      for (const fd of fds) close(fd);
    }
    this.#bound = [];
    this.#closeUntaken();
  }

  #taken(name: string): number[] {
    const taken = this.#untaken.filter(({ target }) => target === name);
    this.#untaken = this.#untaken.filter(({ target }) => target !== name);
    return taken.map(({ fd }) => fd);
  }

  #closeUntaken(): void {
    for (const { fd } of this.#untaken) close(fd);
    this.#untaken = [];
  }
}

/** What the server ends with when an address cannot be had. */
export function exitCodeOfBind(code: string | undefined): number {
  switch (code) {
    case 'EADDRINUSE':
      return EXIT.addressInUse;
    case 'EACCES':
    case 'EPERM':
      return EXIT.noPermission;
    case 'EMFILE':
    case 'ENFILE':
      return EXIT.outOfDescriptors;
    case 'ENOMEM':
    case 'ENOBUFS':
      return EXIT.outOfKernelMemory;
    default:
      return EXIT.system;
  }
}

/** The name of a target: what is handed over is matched by it. */
export function nameOf(target: ListenTarget): string {
  if (target.kind === 'fd') return `fd://${target.fd}`;
  return describe(target.kind === 'unix' ? { path: target.path } : { host: target.host, port: target.port });
}

/** A target may be named twice (port 0 is another one every time); its sockets are not each other's. */
function namesOf(targets: readonly ListenTarget[]): string[] {
  const names = targets.map(nameOf);
  return names.map((name, index) => {
    const before = names.slice(0, index).filter((other) => other === name).length;
    return before === 0 ? name : `${name} (${before + 1})`;
  });
}

async function openOne(
  loop: Loop,
  name: string,
  target: ListenTarget,
  inherited: number[],
  options: ListenerOptions,
  signal: AbortSignal,
): Promise<Bound> {
  for (const fd of inherited) setCloseOnExec(fd, true);
  if (inherited.length > 0) return describeBound(name, inherited);
  if (target.kind === 'fd') return takeOver(name, target.fd);
  for (let attempt = 0; ; attempt++) {
    try {
      return bindAll(name, target, options);
    } catch (error) {
      const delay = RETRIES[attempt];
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || delay === undefined) throw error;
      options.onBusy(error as NodeJS.ErrnoException, delay);
      await loop.delay(delay, { signal });
    }
  }
}

function bindAll(name: string, target: ListenTarget, { backlog, copies }: ListenerOptions): Bound {
  if (target.kind === 'unix') {
    removeStale(target.path);
    return describeBound(name, [listen({ path: target.path }, { backlog })]);
  }
  if (target.kind === 'fd') throw new TypeError('A descriptor is not bound');
  const { host, port } = target;
  const options = { backlog, reusePort: copies > 1 };
  const first = listen({ host, port }, options);
  const fds = [first];
  try {
    const bound = localAddress(first);
    while (fds.length < copies) fds.push(listen(bound, options));
    return describeBound(name, fds);
  } catch (error) {
    for (const fd of fds) close(fd);
    throw error;
  }
}

function describeBound(target: string, fds: number[]): Bound {
  const address = localAddress(fds[0] as number);
  return { target, address, fds, inode: 'path' in address ? inodeOf(address.path) : undefined };
}

/** Whoever gave it to us keeps his own, and the file that it may have is his. */
/** Throws, with the number in the message, when that is no socket of ours. */
function takeOver(name: string, fd: number): Bound {
  let copy: number | undefined;
  try {
    copy = dup(fd);
    setNonBlocking(copy, true);
    return { ...describeBound(name, [copy]), inode: undefined };
  } catch (error) {
    if (copy !== undefined) close(copy);
    (error as Error).message += ` (${name})`;
    throw error;
  }
}

/** The socket of somebody who is gone. One that still answers is in use, and nothing but a socket is ever removed. */
function removeStale(path: string): void {
  if (path.startsWith('\0') || inodeOf(path) === undefined) return;
  const probe = socket('unix', 'stream');
  try {
    if (connect(probe, { path }) === -ECONNREFUSED) unlinkSync(path);
  } finally {
    close(probe);
  }
}

function unlinkOwn(path: string, inode: number): void {
  try {
    if (inodeOf(path) === inode) unlinkSync(path);
  } catch {
    // Its directory is gone, or no longer ours to write in.
  }
}

/** Of a socket that is a file. */
function inodeOf(path: string): number | undefined {
  if (path.startsWith('\0') || path === '') return undefined;
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found?.isSocket() ? found.ino : undefined;
}

function describe(address: Address): string {
  if ('path' in address) return `unix://${address.path}`;
  const { host, port } = address;
  return `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
