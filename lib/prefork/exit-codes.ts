/**
 * The exit codes of a worker, and of a monitor that ends for the same cause. Above Node's own (1 to 14) and below those
 * of shells (126 and up).
 */
import { EXIT as COMMON } from '../daemon/exit-codes.ts';
import type { ExitCause } from './contract.ts';

export const EXIT = {
  drained: 0,
  recycled: 40,
  boot: 41,
  addressInUse: COMMON.addressInUse,
  noPermission: COMMON.noPermission,
  outOfDescriptors: COMMON.outOfDescriptors,
  outOfKernelMemory: 45,
  unsafeFork: 46,
  lostMonitor: 47,
  memory: 50,
  system: 51,
  uncaught: 52,
  requestDeadline: 53,
  blockedLoop: 54,
} as const;

const causes = new Map<number, ExitCause>([
  [EXIT.drained, 'drained'],
  [EXIT.recycled, 'recycled'],
  [EXIT.boot, 'boot'],
  [EXIT.addressInUse, 'address-in-use'],
  [EXIT.noPermission, 'no-permission'],
  [EXIT.outOfDescriptors, 'out-of-descriptors'],
  [EXIT.outOfKernelMemory, 'out-of-kernel-memory'],
  [EXIT.unsafeFork, 'unsafe-fork'],
  [EXIT.lostMonitor, 'lost-monitor'],
  [EXIT.memory, 'memory'],
  [EXIT.system, 'system'],
  [EXIT.uncaught, 'uncaught'],
  [EXIT.requestDeadline, 'request-deadline'],
  [EXIT.blockedLoop, 'blocked-loop'],
]);

/** What an exit code of a worker's says; codes that are not ours are an application's own way out, or Node's. */
export function causeOf(exitCode: number): ExitCause {
  return causes.get(exitCode) ?? 'uncaught';
}
