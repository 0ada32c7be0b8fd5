/**
 * The door of `forkbeard/prefork`: what a program imports.
 */
export type * from './contract.ts';
