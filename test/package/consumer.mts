// Type-checked against the packed declarations, with nothing skipped.
import { type IoWatcher, Loop, sys } from 'forkbeard';

const loop: Loop = Loop.current();
const [readEnd] = sys.pipe();
export const watcher: IoWatcher = loop.watchIo(readEnd, { onReadReady: (fd: number) => sys.close(fd) });

import { type PreforkOptions, type PreforkServer, prefork } from 'forkbeard/prefork';
import { Supervisor, type SupervisorOptions } from 'forkbeard/supervisor';

const options: PreforkOptions = { application: './app.mjs', workers: 'auto', maxMemory: '300mb' };
export const server: Promise<PreforkServer> = prefork(options);
void server.then((it) => it.on('worker-exit', ({ cause, stack }) => [cause satisfies string, stack]));

export async function keepsRunning(options: SupervisorOptions): Promise<number | null> {
  const supervisor: AsyncDisposable & Supervisor = new Supervisor(options);
  supervisor.on('failed', ({ service, cause, message }) => console.error(service, cause, message));
  supervisor.on('group-failed', ({ group, final }) => console.error(group, final));
  const { services } = await supervisor.start();
  return services['cache']?.pid ?? null;
}
