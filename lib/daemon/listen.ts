/**
 * Addresses to listen at, from text and to text. Called by the schema of the options and by whoever prints an address;
 * opens nothing and asks nobody for a name.
 */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { activatedSockets } from './systemd.ts';

export type ListenTarget =
  | { kind: 'tcp'; host: string; port: number }
  | { kind: 'unix'; path: string }
  /** Inherited; of systemd's or named by number. */
  | { kind: 'fd'; fd: number };

const FORMS = 'tcp://127.0.0.1:3000, tcp://[::1]:3000, unix:///run/app.sock or fd://3';
/** sun_path without the zero byte at its end. */
const LONGEST_PATH = process.platform === 'linux' ? 107 : 103;

/** Of a unix socket's path, one that is not absolute begins at `base`. `host:port` is short for `tcp://host:port`. */
export function parseListen(text: string, base: string): ListenTarget {
  const [, scheme = 'tcp', rest = ''] = /^(?:([a-z][a-z0-9+.-]*):\/\/)?(.*)$/is.exec(text.trim()) ?? [];
  switch (scheme.toLowerCase()) {
    case 'tcp':
      return tcp(rest, text);
    case 'unix':
      return { kind: 'unix', path: socketPath(rest, base) };
    case 'fd': {
      const fd = /^\d{1,7}$/.test(rest) ? Number(rest) : named(rest);
      if (fd >= 3) return { kind: 'fd', fd };
      throw new Error(
        `must name a descriptor of 3 or more, or a socket that systemd hands to this process, as fd://3 and fd://http do, not '${text}'`,
      );
    }
    default:
      throw new Error(`must begin with tcp://, unix:// or fd://, not '${text}'`);
  }
}

/** Of systemd's sockets the one with that FileDescriptorName=, or -1. */
function named(name: string): number {
  return activatedSockets().find((socket) => socket.name === name)?.fd ?? -1;
}

function tcp(rest: string, text: string): ListenTarget {
  const [, inBrackets, plain, port] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})\/?$/.exec(rest) ?? [];
  if (port === undefined) {
    if (isIP(rest) === 6) throw new Error(`must have an IPv6 address in brackets: tcp://[${rest}]:3000`);
    throw new Error(`must be an address such as ${FORMS}, not '${text}'`);
  }
  if (Number(port) > 0xffff) throw new Error(`must have a port of 0 to 65535, not '${text}'`);
  const host = inBrackets ?? plain ?? '';
  if (inBrackets !== undefined && isIP(host) !== 6)
    throw new Error(`must have an IPv6 address in its brackets, not '${text}'`);
  if (host !== 'localhost' && isIP(host) === 0)
    throw new Error(`must have an IP address or localhost as host (0.0.0.0 for all), not '${text}'`);
  return { kind: 'tcp', host: host === 'localhost' ? '127.0.0.1' : host, port: Number(port) };
}

/** The absolute path of a unix socket, if a socket can have it. */
export function socketPath(path: string, base: string): string {
  if (path === '') throw new Error('must have a path, as unix:///run/app.sock does');
  if (path.includes('\0')) throw new Error('must have a path without zero bytes');
  const absolute = resolve(base, path);
  const length = Buffer.byteLength(absolute);
  if (length > LONGEST_PATH)
    throw new Error(`must have a path of at most ${LONGEST_PATH} bytes, and '${absolute}' has ${length}`);
  return absolute;
}

/** What `parseListen` takes. */
export function formatListen(target: ListenTarget): string {
  switch (target.kind) {
    case 'tcp':
      return `tcp://${isIP(target.host) === 6 ? `[${target.host}]` : target.host}:${target.port}`;
    case 'unix':
      return `unix://${target.path}`;
    case 'fd':
      return `fd://${target.fd}`;
  }
}
