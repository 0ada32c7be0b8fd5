/**
 * A folder with all above it that are missing. Used wherever a path is somebody else's to choose; never by mkdir's own
 * `recursive`, which turns for ever where the kernel says ENOENT of a parent that is there, as in /proc.
 */
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** Throws the system's error. One that is there already stays as it is. */
export function makeFolders(folder: string, mode: number): void {
  const above = dirname(folder);
  if (above !== folder && statSync(above, { throwIfNoEntry: false }) === undefined) makeFolders(above, mode);
  try {
    mkdirSync(folder, { mode });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
