/**
 * The doctor's other half, in a process of its own: loads an application as a server's mold would, says what stands
 * against forking it, tries, and writes a report to descriptor 3. Started by doctor.ts only.
 */
import { writeSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import type { ForkHazard } from '../process/contract.ts';
import { Loop } from '../process/loop.ts';
import * as sys from '../sys/index.ts';

export interface AppReport {
  /** The application could not be loaded. */
  error?: string;
  loadMs: number;
  rss: number;
  hazards: ForkHazard[];
  forkMs?: number;
  forkError?: string;
}

/** What an application starts while it is loaded (a timer, a connection) shall have begun. */
const SETTLE_MS = 300;

async function examine(app: string): Promise<AppReport> {
  const loop = Loop.current();
  const started = loop.now();
  const report: AppReport = { loadMs: 0, rss: 0, hazards: [] };
  try {
    await import(pathToFileURL(app).href);
  } catch (error) {
    return { ...report, error: inspect(error) };
  }
  report.loadMs = loop.now() - started;
  await loop.delay(SETTLE_MS);
  report.rss = process.memoryUsage.rss();
  const { method, hazards } = loop.forkSafety();
  report.hazards = hazards;
  if (method !== 'fork') return report;
  const before = loop.now();
  try {
    await loop.call(() => 1, { timeout: 20_000 });
    report.forkMs = loop.now() - before;
  } catch (error) {
    report.forkError = String(error);
  }
  return report;
}

const report = await examine(process.argv[2] as string);
writeSync(3, JSON.stringify(report));
sys.exit(0);
