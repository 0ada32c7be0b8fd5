/**
 * Sockets that a service gets from us, as systemd gives them (sd_listen_fds(3)): bound here once, before its first start,
 * and kept over all its restarts. While it is away the kernel keeps its clients waiting, and refuses none. Made by the
 * service's starter. Nobody here ever accepts a connection.
 */
import { fstatSync, linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import { invalidValue } from '../sys/errors.ts';
import {
  type Address,
  close,
  connect,
  dup,
  ECONNREFUSED,
  listen,
  localAddress,
  setNonBlocking,
  socket,
} from '../sys/index.ts';
import { isShortage } from './attempt.ts';
import type { Gate, GatePolicy, Holder, Obstacle } from './gates.ts';
import type { NamedListen } from './plan.ts';
import { listeningInodes } from './ports.ts';
import type { Probe } from './probes.ts';

type Target = NamedListen['target'];

interface Held {
  readonly fd: number;
  readonly address: Address;
  readonly inode: string;
  /** Of the file that a unix socket of ours has. */
  readonly file: bigint | null;
}

/** What one may call a socket: it stands between colons in LISTEN_FDNAMES. */
const NAME = /^[\x20-\x39\x3b-\x7e]{1,255}$/;

export class HeldSockets {
  readonly #targets: readonly Target[];
  readonly names: readonly string[];
  #held: (Held | null)[];

  /** `name`: of those that have none. Opens nothing. */
  constructor(listens: readonly NamedListen[], name: string) {
    this.#targets = listens.map(({ target }) => target);
    this.#held = listens.map(() => null);
    this.names = listens.map((one) => {
      const called = one.name ?? name;
      if (NAME.test(called)) return called;
      throw invalidValue('listen', 'named by up to 255 printable ASCII characters without colons', called);
    });
  }

  /** Of all, when all are there. */
  get descriptors(): readonly number[] {
    return this.#held.flatMap((held) => (held === null ? [] : [held.fd]));
  }

  get addresses(): readonly Address[] {
    return this.#held.flatMap((held) => (held === null ? [] : [held.address]));
  }

  /** Open when all are bound, which it does; nobody goes past it without. `holders`: who listens on a port. */
  gate(holders: (port: number) => readonly Holder[], policy: GatePolicy): Gate {
    let busy: Target | null = null;
    return {
      onTimeout: policy === 'wait' ? 'wait' : 'fail',
      name: `listen ${this.#targets.map(nameOf).join(', ')}`,
      look: () => {
        for (const [index, target] of this.#targets.entries()) {
          if (this.#held[index] !== null) continue;
          const opened = open(target);
          if ('reason' in opened) {
            busy = target;
            return { ...opened, reason: `${nameOf(target)}: ${opened.reason}` };
          }
          this.#held[index] = opened;
        }
        return null;
      },
      holders: () => (busy?.kind === 'tcp' ? holders(busy.port) : []),
    };
  }

  /** All that listens on this port is ours: whoever gets it from us is in nobody's way. */
  areAllOn(port: number): boolean {
    const own = this.#held.filter(
      (held) => held !== null && 'port' in held.address && held.address.port === port,
    );
    if (own.length === 0) return false;
    const all = listeningInodes(port);
    return all === null || all.every((inode) => own.some((held) => held?.inode === inode));
  }

  has(path: string): boolean {
    return this.addresses.some((address) => 'path' in address && address.path === path);
  }

  /** Throws when a question is no question: to connect to what we hold succeeds whatever the service does. */
  checkProbe(probe: Probe, argument: string): void {
    const always = this.#targets.some((target) => {
      if ('tcp' in probe) return target.kind === 'tcp' && target.port === probe.tcp;
      return 'unix' in probe && !('http' in probe) && target.kind === 'unix' && target.path === probe.unix;
    });
    if (!always) return;
    throw invalidValue(
      argument,
      'asked by http, exec, notify or log: to connect to a socket that the supervisor holds always succeeds',
      probe,
    );
  }

  /** Those of a service that was adopted, so that its clients can wait when it ends. What is not what we want is closed. */
  take(fds: readonly number[]): void {
    const isOpen = this.#held.some((held) => held !== null);
    const held = isOpen || fds.length !== this.#targets.length ? [] : this.#described(fds);
    if (held.length > 0) this.#held = held;
    else for (const fd of fds) close(fd);
  }

  #described(fds: readonly number[]): Held[] {
    try {
      const held = fds.map((fd, index) => describe(fd, this.#targets[index]?.kind === 'unix'));
      return held.every(({ address }, index) => isAt(address, this.#targets[index] as Target)) ? held : [];
    } catch {
      // The file of one is not there any more.
      return [];
    }
  }

  /** The service goes on with them, and their files stay. */
  letGo(): void {
    for (const held of this.#held) {
      if (held !== null) close(held.fd);
    }
    this.#held = this.#held.map(() => null);
  }

  close(): void {
    for (const held of this.#held) {
      if (held === null) continue;
      if (held.file !== null && 'path' in held.address) removeIf(held.address.path, held.file);
      close(held.fd);
    }
    this.#held = this.#held.map(() => null);
  }
}

function nameOf(target: Target): string {
  if (target.kind === 'fd') return `fd://${target.fd}`;
  if (target.kind === 'unix') return `unix://${target.path}`;
  return `tcp://${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`;
}

function isAt(address: Address, target: Target): boolean {
  if (target.kind === 'fd') return true;
  if (target.kind === 'unix') return 'path' in address && address.path === target.path;
  return (
    'port' in address && address.host === target.host && (target.port === 0 || target.port === address.port)
  );
}

function open(target: Target): Held | Obstacle {
  let fd: number | undefined;
  try {
    if (target.kind === 'fd') {
      // Whoever gave it to us has said how it is to be.
      fd = dup(target.fd, 3);
      return describe(fd, false);
    }
    if (target.kind === 'unix') {
      const obstacle = clear(target.path);
      if (obstacle !== null) return obstacle;
    }
    fd = listen(target.kind === 'unix' ? { path: target.path } : { host: target.host, port: target.port });
    // As systemd does: a program that knows nothing else blocks in accept(2).
    setNonBlocking(fd, false);
    return describe(fd, target.kind === 'unix');
  } catch (error) {
    if (fd !== undefined) close(fd);
    const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    return { reason, holders: [], isShortage: isShortage(error) };
  }
}

function describe(fd: number, withFile: boolean): Held {
  const address = localAddress(fd);
  const file = withFile && 'path' in address ? lstatSync(address.path, { bigint: true }).ino : null;
  return { fd, address, inode: String(fstatSync(fd, { bigint: true }).ino), file };
}

/** Takes away what a listener that is gone has left at the path. Null when nothing is there then. */
function clear(path: string): Obstacle | null {
  const there = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (there === undefined) return null;
  if (!there.isSocket()) return { reason: 'there is a file that is no socket', holders: [] };
  const asking = socket('unix', 'stream');
  try {
    if (connect(asking, { path }) !== -ECONNREFUSED) return { reason: 'somebody listens', holders: [] };
  } finally {
    close(asking);
  }
  removeIf(path, there.ino);
  return null;
}

/** Somebody else may have put his own there since: looked at where nobody else finds it, and put back. */
function removeIf(path: string, inode: bigint): void {
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
    if (lstatSync(aside, { bigint: true }).ino !== inode) linkSync(aside, path);
  } catch {
    // Gone, or another one is there already.
  }
  rmSync(aside, { force: true });
}
