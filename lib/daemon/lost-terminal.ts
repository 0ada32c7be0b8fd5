/**
 * For programs that live on when their terminal has gone. Node puts a terminal's settings back when it ends, and is ended by
 * SIGABRT where there is no terminal any more; so what led to it leads nowhere by then.
 */
import { closeSync, openSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_STREAMS = [0, 1, 2];

/** Called once, early. */
export function outliveTerminal(): void {
  const terminals = STANDARD_STREAMS.filter((fd) => isatty(fd));
  if (terminals.length === 0) return;
  process.on('exit', () => {
    for (const fd of terminals) {
      if (isatty(fd)) continue;
      try {
        closeSync(fd);
        // Gets that number, as the lowest that is free.
        openSync('/dev/null', 'r+');
      } catch {
        // Closed already: then Node leaves it alone.
      }
    }
  });
}
