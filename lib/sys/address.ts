/**
 * Socket addresses as JavaScript has them. The native floor parses and prints them; this takes them apart and says
 * what is wrong with one that the native floor refused. It never resolves names: `localhost` is 127.0.0.1, every
 * other host is a literal.
 */
import { isIP } from 'node:net';
import {
  checkInteger,
  checkObject,
  invalidType,
  invalidValue,
  outOfRange,
  type SystemErrorDetails,
} from './errors.ts';
import { native } from './native.ts';

/**
 * An IP address and a port, or the path of a unix socket. IPv6 hosts take a scope (`fe80::1%eth0`). A path that begins
 * with a zero byte is a name of Linux' abstract namespace; '' is the path of a socket without a name (and makes `bind`
 * choose an abstract one).
 */
export type Address = { host: string; port: number } | { path: string };

/** `path` undefined: host and port. The native floor checks them; the types are what it wants. */
export interface Parts {
  path: string | undefined;
  host: string;
  port: number;
}

/** Reads every property once, whatever getters the address has. */
export function takeApart(address: Address, name: string): Parts {
  checkObject(address, name);
  const { path, host, port } = address as Parts;
  if (path !== undefined && host !== undefined) {
    throw invalidValue(name, 'either a host with a port or a path', address);
  }
  return { path, host, port };
}

/** For the errors of the calls that take an address, under the names that Node has for it. */
export function errorDetails({ path, host, port }: Parts): SystemErrorDetails {
  return path === undefined ? { address: host, port } : { path };
}

export function makeAddress(text: string, port: number): Address {
  return port < 0 ? { path: text } : { host: text, port };
}

/** Throws what is wrong with an address, if anything is. */
export function checkAddress({ path, host, port }: Parts, name: string): void {
  if (path === undefined) checkHost(host, port, name);
  else checkPath(path, name);
}

function checkPath(path: unknown, name: string): void {
  if (typeof path !== 'string') throw invalidType(`${name}.path`, 'a string', path);
  const abstract = path.startsWith('\0');
  if (abstract && process.platform !== 'linux') {
    throw invalidValue(`${name}.path`, 'the name of a file (only Linux has abstract names)', path);
  }
  const limit = abstract ? native.maxPath : native.maxPath - 1;
  const bytes = Buffer.byteLength(path);
  if (bytes > limit) throw outOfRange(`${name}.path`, `at most ${limit} bytes long, not ${bytes}`, path);
  if (!abstract && path.includes('\0')) throw invalidValue(`${name}.path`, 'without zero bytes', path);
}

function checkHost(host: unknown, port: unknown, name: string): void {
  if (typeof host !== 'string') throw invalidType(`${name}.host`, 'an IP address', host);
  checkInteger(port, `${name}.port`, 0, 0xffff);
  if (host === 'localhost' || isIP(host) !== 0) return;
  throw invalidValue(`${name}.host`, 'an IP address (names are not resolved here)', host);
}
