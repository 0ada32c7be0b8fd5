/**
 * What a process takes of the memory: resident, its share of what is shared, and what is its own alone, from
 * /proc/PID/smaps_rollup (Linux 4.14). Null where there is none, or when the process is gone.
 */
import { readFileSync } from 'node:fs';
import type { WorkerMemory } from '../contract.ts';

/** What is resident alone, bytes: a moment's work for the kernel. 0 when the process is gone. */
export function residentOf(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'latin1');
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

export function memoryOf(pid: number): WorkerMemory | null {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    const size = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024;
    // One that has ended has a file and nothing in it.
    if (size('Rss') === 0) return null;
    return { rss: size('Rss'), pss: size('Pss'), uss: size('Private_Clean') + size('Private_Dirty') };
  } catch {
    return null;
  }
}
