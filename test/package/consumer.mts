// Type-checked against the packed declarations, with nothing skipped.
import { type IoWatcher, Loop, sys } from 'forkbeard';

const loop: Loop = Loop.current();
const [readEnd] = sys.pipe();
export const watcher: IoWatcher = loop.watchIo(readEnd, { onReadReady: (fd: number) => sys.close(fd) });
