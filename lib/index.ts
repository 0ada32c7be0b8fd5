/**
 * The door of `forkbeard`: what a program imports.
 */
export type { Address } from './sys/address.ts';
export * as sys from './sys/index.ts';
