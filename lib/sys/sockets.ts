/**
 * Sockets: making them, their addresses, their connections. `accept` and `connect` belong to the data path and return
 * `-errno` when the kernel refuses; everything else throws. Every socket made here is close-on-exec and non-blocking.
 */
import { type Address, checkAddress, errorDetails, makeAddress, type Parts, takeApart } from './address.ts';
import {
  check,
  checkBoolean,
  checkFd,
  checkInteger,
  checkKeys,
  checkObject,
  invalidValue,
  type SystemErrorDetails,
  systemError,
} from './errors.ts';
import { native } from './native.ts';
import { setSocketOption } from './options.ts';

export type SocketFamily = 'inet' | 'inet6' | 'unix';
export type SocketType = 'stream' | 'dgram' | 'seqpacket';

export interface ListenOptions {
  /** Connections that may wait to be accepted. Default 511. */
  backlog?: number;
  /** Let several sockets listen on this address, each with a share of the connections. Default false. */
  reusePort?: boolean;
  /** Take an address whose old connections still linger. Default true. */
  reuseAddress?: boolean;
  /** Leave IPv4 alone when listening on `::`. Default false. */
  v6Only?: boolean;
  /** Default 'stream'; 'seqpacket' for a unix path. */
  type?: 'stream' | 'seqpacket';
}

const families = new Map<unknown, number>([
  ['inet', native.AF_INET],
  ['inet6', native.AF_INET6],
  ['unix', native.AF_UNIX],
]);
const types = new Map<unknown, number>([
  ['stream', native.SOCK_STREAM],
  ['dgram', native.SOCK_DGRAM],
  ['seqpacket', native.SOCK_SEQPACKET],
]);
const directions = new Map<unknown, number>([
  ['read', 0],
  ['write', 1],
  ['both', 2],
]);

const out = new Int32Array(2);
const { accept: nativeAccept, connect: nativeConnect } = native;

/** accept4(2). Returns a new descriptor, or `-errno` (`-EAGAIN`: nobody is waiting). */
export function accept(fd: number): number {
  const result = nativeAccept(fd);
  if (result === undefined) {
    checkFd(fd);
    throw invalidValue('fd', 'a descriptor', fd);
  }
  return result;
}

/**
 * connect(2). Returns 0, or `-errno`; after `-EINPROGRESS` the socket becomes writable when it is decided, and
 * `socketError` says how.
 */
export function connect(fd: number, address: Address): number {
  const parts = takeApart(address, 'address');
  const { path, host, port } = parts;
  const result = path === undefined ? nativeConnect(fd, host, port) : nativeConnect(fd, path);
  if (result === undefined) throw badAddressCall(fd, parts);
  return result;
}

/** socket(2). */
export function socket(family: SocketFamily, type: SocketType): number {
  return check(native.socket(pick(families, family, 'family'), pick(types, type, 'type')), 'socket');
}

/** socketpair(2): two unix sockets that are connected to each other. Default type: 'stream'. */
export function socketpair(type: SocketType = 'stream'): [number, number] {
  check(native.socketpair(pick(types, type, 'type'), out), 'socketpair');
  return [out[0] as number, out[1] as number];
}

/** bind(2). A path that exists is EADDRINUSE, also when nobody listens there any more. */
export function bind(fd: number, address: Address): void {
  checkFd(fd);
  bindTo(fd, takeApart(address, 'address'));
}

function bindTo(fd: number, parts: Parts): void {
  const { path, host, port } = parts;
  const result = path === undefined ? native.bind(fd, host, port) : native.bind(fd, path);
  if (result === undefined) throw badAddressCall(fd, parts);
  if (result < 0) throw systemError(result, 'bind', { fd, ...errorDetails(parts) });
}

/** A socket that is bound and listening. What only IP sockets have means nothing for a path. */
export function listen(address: Address, options: ListenOptions = {}): number {
  const parts = takeApart(address, 'address');
  checkAddress(parts, 'address');
  checkObject(options, 'options');
  checkKeys(options, ['backlog', 'reusePort', 'reuseAddress', 'v6Only', 'type'], 'listen option');
  const { backlog = 511, reusePort = false, reuseAddress = true, v6Only = false, type = 'stream' } = options;
  checkInteger(backlog, 'options.backlog', 0, 0x7fff_ffff);
  checkBoolean(reusePort, 'options.reusePort');
  checkBoolean(reuseAddress, 'options.reuseAddress');
  checkBoolean(v6Only, 'options.v6Only');

  const family = parts.path !== undefined ? 'unix' : parts.host.includes(':') ? 'inet6' : 'inet';
  const fd = socket(family, type);
  try {
    if (family !== 'unix') setSocketOption(fd, 'reuseAddress', reuseAddress);
    if (family !== 'unix' && reusePort) setSocketOption(fd, 'reusePort', true);
    // Said in any case: the default is the administrator's on Linux, and true on some BSDs.
    if (family === 'inet6') setSocketOption(fd, 'v6Only', v6Only);
    bindTo(fd, parts);
    check(native.listen(fd, backlog), 'listen', errorDetails(parts));
  } catch (error) {
    native.close(fd);
    // The caller never saw that number, and by the time he reads the error it may be another file's.
    delete (error as SystemErrorDetails).fd;
    throw error;
  }
  return fd;
}

/** shutdown(2): ends one direction of a connection, or both, whoever else has the socket open. */
export function shutdown(fd: number, how: 'read' | 'write' | 'both'): void {
  checkFd(fd);
  check(native.shutdown(fd, pick(directions, how, 'how')), 'shutdown', { fd });
}

/** getsockname(2). */
export function localAddress(fd: number): Address {
  checkFd(fd);
  return addressOf(native.localAddress(fd, out), 'getsockname', fd);
}

/** getpeername(2). ENOTCONN when there is no peer. */
export function peerAddress(fd: number): Address {
  checkFd(fd);
  return addressOf(native.peerAddress(fd, out), 'getpeername', fd);
}

function addressOf(result: number | string, syscall: string, fd: number): Address {
  if (typeof result === 'number') throw systemError(result, syscall, { fd });
  return makeAddress(result, out[1] as number);
}

function pick(names: ReadonlyMap<unknown, number>, value: unknown, argument: string): number {
  const number = names.get(value);
  if (number !== undefined) return number;
  throw invalidValue(argument, `one of ${[...names.keys()].map((name) => `'${name}'`).join(', ')}`, value);
}

function badAddressCall(fd: unknown, parts: Parts): Error {
  checkFd(fd);
  checkAddress(parts, 'address');
  return invalidValue('address', 'an address', parts);
}
