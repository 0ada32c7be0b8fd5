/**
 * Whether a service could listen on a port now, and who is in its way. The question is put as the service will put it:
 * the same addresses, bound as a server binds. Asked by gates.ts; never connects to anybody, and never listens.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { type Address, bind, close, type SocketFamily, setSocketOption, socket } from '../sys/index.ts';

export interface PortHolder {
  readonly pid: number;
  readonly address: string;
}

/**
 * Null when the port can be bound on all of `hosts`, else what the kernel said: EADDRINUSE, EACCES, EADDRNOTAVAIL.
 * Remains of old connections (TIME_WAIT) are in nobody's way, as for any server that sets SO_REUSEADDR.
 */
export function portProblem(port: number, hosts: readonly string[]): string | null {
  for (const host of hosts) {
    const code = bindProblem({ host, port });
    if (code !== null) return code;
  }
  return null;
}

/** Every address of the machine, in both families; where there is no IPv6, in one. */
export const WILDCARDS: readonly string[] = ['0.0.0.0', '::'];

function bindProblem(address: { host: string; port: number }): string | null {
  const v6 = address.host.includes(':');
  const family: SocketFamily = v6 ? 'inet6' : 'inet';
  let fd: number;
  try {
    fd = socket(family, 'stream');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A machine without IPv6 has nobody on it either.
    return code === 'EAFNOSUPPORT' ? null : (code ?? 'EUNKNOWN');
  }
  try {
    setSocketOption(fd, 'reuseAddress', true);
    // The other family has its own turn. Not SO_REUSEPORT: a sibling that has it would let us in beside it.
    if (v6) setSocketOption(fd, 'v6Only', true);
    bind(fd, address satisfies Address);
    return null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return v6 && code === 'EADDRNOTAVAIL' && address.host === '::' ? null : (code ?? 'EUNKNOWN');
  } finally {
    close(fd);
  }
}

/**
 * Who listens on the port, of the processes whose descriptors we may see. Null where the system does not tell. Looks
 * through all processes: not to be asked in every round.
 */
export function portHolders(port: number): PortHolder[] | null {
  const inodes = addressesByInode(port);
  if (inodes === null) return null;
  const holders: PortHolder[] = [];
  if (inodes.size === 0) return holders;
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    const address = socketsOf(pid)
      .map((inode) => inodes.get(inode))
      .find((found) => found !== undefined);
    if (address !== undefined) holders.push({ pid, address });
  }
  return holders;
}

/** The sockets that listen on the port, by the number that fstat(2) has for each. Null where the system does not tell. */
export function listeningInodes(port: number): string[] | null {
  const found = addressesByInode(port);
  return found === null ? null : [...found.keys()];
}

function addressesByInode(port: number): Map<string, string> | null {
  const inodes = new Map<string, string>();
  try {
    for (const file of ['/proc/net/tcp', '/proc/net/tcp6']) listeners(file, port, inodes);
  } catch {
    return null;
  }
  return inodes;
}

const LISTENING = '0A';

function listeners(file: string, port: number, found: Map<string, string>): void {
  let text: string;
  try {
    text = readFileSync(file, 'latin1');
  } catch (error) {
    // A machine without IPv6 has no second file.
    if (file.endsWith('6')) return;
    throw error;
  }
  for (const line of text.split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/);
    const [, local = '', , state] = fields;
    const [host = '', hex = ''] = local.split(':');
    if (state !== LISTENING || Number.parseInt(hex, 16) !== port) continue;
    found.set(fields[9] as string, `${hostOf(host)}:${port}`);
  }
}

/** In 32-bit words, each in the machine's own order, which is little-endian wherever this runs. */
function hostOf(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => (word.match(/../g) ?? []).reverse());
  if (bytes.length === 4) return bytes.map((byte) => Number.parseInt(byte, 16)).join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    Number.parseInt(`${bytes[2 * i]}${bytes[2 * i + 1]}`, 16),
  );
  return `[${groups
    .map((group) => group.toString(16))
    .join(':')
    .replace(/(^|:)0(:0)+(:|$)/, '::')}]`;
}

function socketsOf(pid: number): string[] {
  const inodes: string[] = [];
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch {
    // Another user's, or it has just ended.
    return inodes;
  }
  for (const name of names) {
    try {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${name}`)) ?? [];
      if (inode !== undefined) inodes.push(inode);
    } catch {
      // Closed meanwhile.
    }
  }
  return inodes;
}
