/**
 * The file that says which process the server is. Written whole or not at all; removed only by whom it names, so that
 * a monitor that has handed over does not take its successor's away.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

export function writePidFile(path: string): void {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${process.pid}\n`, { mode: 0o644 });
  renameSync(draft, path);
}

export function removePidFile(path: string): void {
  try {
    if (Number(readFileSync(path, 'latin1')) === process.pid) rmSync(path);
  } catch {
    // Somebody was faster.
  }
}
