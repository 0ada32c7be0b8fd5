/** The door of `forkbeard/supervisor`: what a program imports. */
export type { Clock } from './clock.ts';
export type * from './contract.ts';
export { Supervisor, type SupervisorAround } from './supervisor.ts';
