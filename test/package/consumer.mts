// Type-checked against the packed declarations, with nothing skipped.
import { type IoWatcher, Loop, sys } from 'forkbeard';

const loop: Loop = Loop.current();
const [readEnd] = sys.pipe();
export const watcher: IoWatcher = loop.watchIo(readEnd, { onReadReady: (fd: number) => sys.close(fd) });

import { type PreforkOptions, type PreforkServer, prefork } from 'forkbeard/prefork';

const options: PreforkOptions = { application: './app.mjs', workers: 'auto', maxMemory: '300mb' };
export const server: Promise<PreforkServer> = prefork(options);
void server.then((it) => it.on('worker-exit', ({ cause, stack }) => [cause satisfies string, stack]));
