/**
 * Non-blocking system calls on plain descriptors, for servers that want readiness and nothing in between.
 * All descriptors are made close-on-exec and non-blocking. The calls of the data path (`read`, `write`, `accept`,
 * `connect`, `recv`, `send`, `recvFrom`, `sendTo`) return a count or descriptor, or `-errno` (`-sys.EAGAIN`) when the
 * kernel refuses; wrong argument types and ranges throw there too. Everything else throws on failure.
 */
export type { Address } from './address.ts';
export * from './descriptors.ts';
export * from './errno.ts';
export * from './messages.ts';
export * from './options.ts';
export * from './processes.ts';
export * from './sockets.ts';
export * from './transfer.ts';
