/**
 * What each signal to the monitor means. Used by `forkbeard serve`; a program that calls `prefork()` keeps its signals.
 */
import { isatty } from 'node:tty';
import type { Loop } from '../../process/loop.ts';
import type { PreforkServer } from '../contract.ts';

type Meaning = (server: PreforkServer) => unknown;

export const SIGNALS: Readonly<Record<string, Meaning>> = {
  SIGTERM: (server) => server.stop(),
  SIGINT: (server) => server.stop({ quick: true }),
  SIGQUIT: (server) => server.stop({ quick: true }),
  SIGHUP: (server) => server.reload(),
  SIGUSR1: (server) => server.reopenLogs(),
  SIGUSR2: (server) => server.upgrade(),
  SIGWINCH: (server) => server.drain(),
  SIGTTIN: (server) => server.scale(server.status().target + 1),
  SIGTTOU: (server) => server.scale(server.status().target - 1),
};

/** Until the server is closed. What a signal asks for and cannot be done is told as an event, and is no crash. */
export function obeySignals(loop: Loop, server: PreforkServer): Disposable {
  // A terminal says SIGWINCH whenever its window changes, and means nothing by it.
  const obeyed = Object.entries(SIGNALS).filter(([signal]) => signal !== 'SIGWINCH' || !onTerminal());
  const watchers = obeyed.map(([signal, meaning]) =>
    loop
      .watchSignal(signal, ({ count }) => {
        for (let turn = 0; turn < count; turn++) Promise.resolve(meaning(server)).catch(() => {});
      })
      .unref(),
  );
  return {
    [Symbol.dispose]: () => {
      for (const watcher of watchers) watcher.stop();
    },
  };
}

function onTerminal(): boolean {
  return [0, 1, 2].some((fd) => isatty(fd));
}
