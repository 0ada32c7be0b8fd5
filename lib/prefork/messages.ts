/**
 * What monitor, mold and workers say to each other, one message a packet of their channel (`channel.ts`). State goes
 * through the scoreboard; a message is something that happened or that is to be done.
 */
import type { ForkHazard } from '../process/contract.ts';
import type { Plan } from './plan.ts';

/** What a process of the application is told first. */
export type Assignment =
  | { type: 'be-mold'; plan: Plan; generation: number; title: string }
  | { type: 'be-worker'; plan: Plan; place: Place };

/** Where a worker sits. */
export interface Place {
  /** Its number in the pool, from 1; two workers share one while the first is replaced. */
  worker: number;
  generation: number;
  /** Its own entry of the scoreboard. */
  entry: number;
  /** Limits of its own, jitter included; 0: none. */
  maxRequests: number;
  /** ms */
  maxLifetime: number;
}

/** monitor -> mold */
export type ToMold =
  | Assignment
  /**
   * With descriptors: the worker's end of its channel, then the listeners that are its own, if it does not share those
   * that the mold has (`reusePort`).
   */
  | { type: 'fork'; place: Place }
  | { type: 'leave' };

/** mold -> monitor */
export type FromMold =
  /** `cutOff`: names of handles that are open and that its workers will not have. */
  | {
      type: 'loaded';
      pid: number;
      ms: number;
      hazards: ForkHazard[];
      method: 'fork' | 'spawn';
      cutOff: string;
    }
  | { type: 'failed'; error: Failure }
  | { type: 'forked'; entry: number; pid: number }
  | { type: 'not-forked'; entry: number; error: Failure };

/** monitor -> worker */
export type ToWorker =
  | Assignment
  /** `patient`: others serve meanwhile, so that clients who are slow to ask again may be waited for. */
  | { type: 'stop'; how: 'graceful' | 'quick'; recycled: boolean; patient?: boolean }
  /** Fork a mold of yourself. With one descriptor: the mold's end of its channel. */
  | { type: 'promote'; generation: number; title: string }
  | { type: 'reopen' };

/** worker -> monitor */
export type FromWorker =
  | { type: 'hello'; pid: number }
  | { type: 'ready' }
  | { type: 'failed'; error: Failure }
  | { type: 'paused'; reason: 'descriptors' }
  | { type: 'resumed' }
  /** The worker asks for its own replacement: it has served or lived long enough. */
  | { type: 'tired'; reason: 'requests' | 'lifetime' }
  /** A signal of its own told it to: it drains as if the monitor had said so, and ends with 0. */
  | { type: 'leaving' }
  | { type: 'slow-request'; method: string; url: string; age: number }
  | { type: 'promoted'; pid: number }
  | { type: 'not-promoted'; error: Failure };

export interface Failure {
  message: string;
  stack?: string;
  code?: string;
  /** What the process ends with for it. */
  exitCode: number;
}
