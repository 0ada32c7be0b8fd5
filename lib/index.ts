/**
 * The door of `forkbeard`: what a program imports.
 */

export type {
  BackendName,
  IoHandlers,
  IoOptions,
  IoWatcher,
  LoopOptions,
  TimeWatcher,
  Watcher,
} from './loop/contract.ts';
export type {
  CallOptions,
  ChildProcess,
  ExitStatus,
  ForkContext,
  ForkedProcess,
  ForkHazard,
  ForkOptions,
  ForkSafety,
  RunProcessOptions,
  RunProcessResult,
  SignalInfo,
  SignalName,
  SpawnedProcess,
  SpawnOptions,
  StdioTarget,
} from './process/contract.ts';
export type { LifelineMemory, LifelineOptions } from './process/lifeline.ts';
export { Lifeline, StackRequest, startLifeline } from './process/lifeline.ts';
export { becomeSubreaper, setParentDeathSignal } from './process/lineage.ts';
export { Loop } from './process/loop.ts';
export { type Orphans, reapOrphans } from './process/orphans.ts';
export { mapSharedMemory, sharedMemory } from './process/shared-memory.ts';
export type { Address } from './sys/address.ts';
export * as sys from './sys/index.ts';
