/** Which backend a loop gets, and what the calls of each are named in errors. Used by the loop and its table of descriptors. */
import { invalidValue, stateError } from '../sys/errors.ts';
import type { BackendName } from './contract.ts';
import { nativeLoop } from './native-loop.ts';

const BACKENDS: readonly string[] = ['epoll', 'kqueue', 'poll'];

/** What fails when a backend is made, waited on, told of a change of interest, and given an alarm. */
export const CALLS = {
  epoll: { create: 'epoll_create1', wait: 'epoll_wait', change: 'epoll_ctl', alarm: 'timerfd_settime' },
  kqueue: { create: 'kqueue', wait: 'kevent', change: 'kevent', alarm: 'kevent' },
  poll: { create: 'eventfd', wait: 'poll', change: 'poll', alarm: 'poll' },
} as const;

let available: readonly BackendName[] | undefined;

/** Compiled in and usable on this machine, best first. */
export function usableBackends(): readonly BackendName[] {
  available ??= Object.freeze(nativeLoop().backends());
  return available;
}

/** The one that was asked for; else the first usable one that FORKBEARD_LOOP names; else the best. */
export function chooseBackend(asked: BackendName | undefined): BackendName {
  const usable = usableBackends();
  if (asked !== undefined) {
    if (!BACKENDS.includes(asked))
      throw invalidValue('options.backend', `one of ${BACKENDS.join(', ')}`, asked);
    if (!usable.includes(asked)) {
      throw stateError(
        'BACKEND_UNAVAILABLE',
        `The backend '${asked}' is not available here; ${usable.join(', ')} are`,
      );
    }
    return asked;
  }
  const names = (process.env['FORKBEARD_LOOP'] ?? '').split(',').map((name) => name.trim());
  const found = names.find((name) => usable.includes(name as BackendName));
  for (const name of names) {
    if (name === found) break;
    // One list may serve several platforms: what only another one has is passed over in silence.
    if (name === '' || (found !== undefined && BACKENDS.includes(name))) continue;
    process.emitWarning(`FORKBEARD_LOOP names '${name}', which is not available here`, {
      code: 'FORKBEARD_BACKEND_UNAVAILABLE',
    });
  }
  return (found ?? usable[0]) as BackendName;
}
