/**
 * Makes a server look as if it listened: `listening`, `address()`, `close()` and `ref()` ask the handle that a server
 * gets from Node when it listens, so it gets one that answers for the monitor's listener. Node's own cluster does the
 * same in its workers (lib/internal/cluster/child.js).
 */
import type { Server } from 'node:net';
import type { Address } from '../../sys/address.ts';
import { LISTENS_ITSELF } from './endings.ts';

interface Listening {
  _handle: LentHandle | null;
  _pipeName?: string;
  _connections: number;
  _emitCloseIfDrained(): void;
}

interface LentHandle {
  getsockname?(out: object): number;
  listen(): number;
  close(): void;
  ref(): void;
  unref(): void;
  hasRef(): boolean;
}

/** `onClose`: the application closed its server itself. */
export function lendHandle(server: Server, address: Address, onClose: () => void): void {
  const listening = server as unknown as Listening;
  const common = { listen: refuse, close: onClose, ref: () => {}, unref: () => {}, hasRef: () => true };
  if ('path' in address) {
    listening._pipeName = address.path;
    listening._handle = common;
  } else {
    const { host, port } = address;
    const family = host.includes(':') ? 'IPv6' : 'IPv4';
    listening._handle = {
      ...common,
      getsockname: (out) => {
        Object.assign(out, { address: host, family, port });
        return 0;
      },
    };
  }
}

/** A listen() that had an address to look up comes here once it has, when the server is ours already. */
function refuse(): never {
  throw new Error(LISTENS_ITSELF);
}

/** It does not listen any more; 'close' is emitted when its connections are gone. */
export function stopListening(server: Server): void {
  const listening = server as unknown as Listening;
  listening._handle = null;
  listening._emitCloseIfDrained();
}

/** It has never listened, nor had a connection. */
export function forgetListening(server: Server): void {
  const listening = server as unknown as Listening;
  listening._handle = null;
  listening._connections = 0;
}
