/** What may be asked of a supervisor over its control socket: the table below, and nothing else. */
import { on } from 'node:events';
import { z } from 'zod';
import { type ControlFace, ControlSocket, nothing, Refusal } from '../daemon/control.ts';
import { nearest } from '../sys/errors.ts';
import { signalNumber } from '../sys/signals.ts';
import type { LogLine, Reconfigured, ShutdownReport, SupervisorFace } from './contract.ts';
import { plain } from './plain.ts';

/** A supervisor and what the command that runs it can do. */
export interface Controlled {
  supervisor: SupervisorFace;
  /** Stops all, and ends the command. */
  shutdown: () => Promise<ShutdownReport>;
  reopenLogs: () => void;
  /** Reads its file anew, and follows that. */
  reload: () => Promise<Reconfigured>;
}

const named = z.strictObject({ service: z.string().min(1) });
const signalled = z.strictObject({ service: z.string().min(1), signal: z.union([z.string(), z.int()]) });
const followed = z.strictObject({
  service: z.string().min(1).optional(),
  follow: z.enum(['0', '1']).optional(),
});

type Named = z.infer<typeof named>;
type Signalled = z.infer<typeof signalled>;
type Followed = z.infer<typeof followed>;

const FACE: ControlFace<Controlled> = {
  program: 'supervisor',
  status: ({ supervisor }) => ({ version: 1, ...plain(supervisor.status()) }),
  actions: {
    start: {
      body: named,
      run: async ({ supervisor }, { service }: Named) => ({
        service: await upOrDone(supervisor, service, (name) => supervisor.startService(name)),
      }),
    },
    stop: {
      body: named,
      run: async ({ supervisor }, { service }: Named) => ({
        report: plain(await supervisor.stopService(known(supervisor, service))),
      }),
    },
    restart: {
      body: named,
      run: async ({ supervisor }, { service }: Named) => ({
        service: await upOrDone(supervisor, service, (name) => supervisor.restartService(name)),
      }),
    },
    signal: {
      body: signalled,
      run: async ({ supervisor }, { service, signal }: Signalled) => {
        signalNumber(signal);
        await supervisor.signal(known(supervisor, service), signal);
      },
    },
    reload: { body: nothing, run: async ({ reload }) => ({ services: await reload() }) },
    shutdown: { body: nothing, run: async ({ shutdown }) => ({ report: plain(await shutdown()) }) },
    'reopen-logs': { body: nothing, run: ({ reopenLogs }) => reopenLogs() },
  },
  feeds: {
    logs: {
      query: followed,
      open: ({ supervisor }, { service, follow }: Followed, signal) => {
        const name = service === undefined ? undefined : known(supervisor, service);
        return lines(supervisor, name, follow === '1' ? signal : null);
      },
    },
    events: { query: nothing, open: ({ supervisor }, _: unknown, signal) => events(supervisor, signal) },
  },
};

/** Throws `ERR_FORKBEARD_INVALID_OPTION` when the path cannot be had: another program's, or no socket at all. */
export function openControl(path: string): Promise<ControlSocket<Controlled>> {
  return ControlSocket.openFor(path, FACE);
}

function known(supervisor: SupervisorFace, service: string): string {
  const { services } = supervisor.status();
  if (Object.hasOwn(services, service)) return service;
  const names = Object.keys(services);
  const near = nearest(service, names);
  const hint = near === undefined ? `there are ${names.join(', ')}` : `did you mean ${near}?`;
  throw new Refusal(404, `There is no service ${service}; ${hint}`);
}

/** What ended well at once did what it was started for. */
async function upOrDone(
  supervisor: SupervisorFace,
  service: string,
  start: (name: string) => Promise<object>,
): Promise<object> {
  const name = known(supervisor, service);
  try {
    return plain(await start(name));
  } catch (error) {
    const status = supervisor.status().services[name];
    if (status?.state !== 'done' || status.lastExit?.exitCode !== 0) throw error;
    return plain(status);
  }
}

/** What was said, and with a signal what is said until then. */
async function* lines(
  supervisor: SupervisorFace,
  service: string | undefined,
  signal: AbortSignal | null,
): AsyncGenerator<LogLine> {
  const names = service === undefined ? Object.keys(supervisor.status().services) : [service];
  // Listened to first, so that no line falls between.
  const following = signal === null ? null : on(supervisor, 'log', { signal });
  const before = names.flatMap((name) => [...supervisor.logs(name)]);
  yield* before.sort((one, other) => one.at - other.at);
  if (following === null) return;
  try {
    for await (const [line] of following as AsyncIterable<[LogLine]>) {
      if (service === undefined || line.service === service) yield line;
    }
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}

async function* events(supervisor: SupervisorFace, signal: AbortSignal): AsyncGenerator<object> {
  try {
    for await (const [event] of on(supervisor, 'event', { signal })) yield plain(event);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
