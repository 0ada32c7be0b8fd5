/**
 * Socket options by their names, as numbers: booleans are 0 and 1, sizes are bytes, times are the kernel's own units.
 * The table of names is the native floor's; it holds what this platform has. Everything throws on failure.
 */
import { isIP } from 'node:net';
import { check, checkFd, checkInteger, invalidType, invalidValue, unknownName } from './errors.ts';
import { native } from './native.ts';

const indices = new Map(native.socketOptions.map((name, index) => [name, index]));
const out = new Int32Array(1);

/** setsockopt(2). 'linger' takes seconds, or `false` for off; on/off options take booleans. */
export function setSocketOption(fd: number, option: string, value: number | boolean): void {
  checkFd(fd);
  const index = indexOf(option);
  let number = value;
  if (typeof number === 'boolean') number = number ? 1 : option === 'linger' ? -1 : 0;
  checkInteger(number, 'value', -0x8000_0000, 0x7fff_ffff);
  check(native.setSocketOption(fd, index, number), 'setsockopt', { fd });
}

/** getsockopt(2). 'linger' is -1 when it is off; reading 'error' clears it. */
export function getSocketOption(fd: number, option: string): number {
  checkFd(fd);
  check(native.getSocketOption(fd, indexOf(option), out), 'getsockopt', { fd });
  return out[0] as number;
}

/** The pending SO_ERROR of a socket as a positive errno (`sys.ECONNREFUSED`), 0 if there is none. Reading clears it. */
export function socketError(fd: number): number {
  return getSocketOption(fd, 'error');
}

/** Makes a datagram socket receive what is sent to a group, on the interface named or on one that the kernel chooses. */
export function joinGroup(fd: number, group: string, device = ''): void {
  multicast(fd, true, group, device);
}

/** Ends what `joinGroup` with the same arguments began. */
export function leaveGroup(fd: number, group: string, device = ''): void {
  multicast(fd, false, group, device);
}

function multicast(fd: number, join: boolean, group: string, device: string): void {
  checkFd(fd);
  if (typeof group !== 'string') throw invalidType('group', 'an IP address', group);
  if (isIP(group) === 0) throw invalidValue('group', 'an IP address', group);
  if (typeof device !== 'string') throw invalidType('device', 'the name of an interface', device);
  check(native.multicast(fd, join, group, device), 'setsockopt', { fd });
}

function indexOf(option: unknown): number {
  if (typeof option !== 'string') throw invalidType('option', 'the name of a socket option', option);
  const index = indices.get(option);
  if (index === undefined) throw unknownName('socket option', option, native.socketOptions);
  return index;
}
