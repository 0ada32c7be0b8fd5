/**
 * What each event means, for people: one level and one sentence. The table is complete by its type, so that an event
 * without a sentence does not compile. Used by the log; knows no server.
 */
import { ending, error, info, plural, type Sentences, time, times, warn } from '../daemon/words.ts';
import type { ExitCause, ExitRecord, PreforkEvents } from './contract.ts';

export const SENTENCES: Sentences<PreforkEvents> = {
  listening: ({ listen }) => info(`listening at ${listen.map(asUrl).join(', ')}`),
  method: ({ method, reason }) =>
    info(
      reason === ''
        ? `workers are ${method === 'fork' ? 'forked' : 'spawned'}`
        : `workers are ${method === 'fork' ? 'forked' : 'spawned'}: ${reason}`,
    ),
  'mold-ready': ({ pid, generation, ms }) =>
    info(`generation ${generation} loaded in ${time(ms)} (mold ${pid})`),
  'mold-exit': ({ pid, generation, cause, exitCode, signal, message, stack }) => [
    EXPECTED.has(cause) ? 'info' : 'error',
    `mold ${pid} of generation ${generation} ended: ${ending(exitCode, signal)}${why(message, stack)}`,
  ],
  'worker-started': ({ id, pid, generation, method }) =>
    info(`worker ${id} ${method === 'fork' ? 'forked' : 'spawned'} (pid ${pid}, generation ${generation})`),
  'worker-ready': ({ id, pid, ms }) => info(`worker ${id} ready in ${time(ms)} (pid ${pid})`),
  'worker-exit': (record) => [EXPECTED.has(record.cause) ? 'info' : 'error', exit(record)],
  'worker-paused': ({ worker, reason }) => warn(`worker ${worker} accepts nothing for now: ${reason}`),
  'worker-resumed': ({ worker }) => info(`worker ${worker} accepts again`),
  'worker-slow': ({ worker, pid, reason, age, request, stack }) => {
    const what =
      reason === 'request'
        ? `a request takes ${time(age)}`
        : `its event loop has stood still for ${time(age)}`;
    return warn(
      `worker ${worker} (pid ${pid}): ${what}${request === undefined ? '' : `: ${request}`}${below(stack)}`,
    );
  },
  backoff: ({ worker, cause, delay, failures }) =>
    warn(`worker ${worker} comes back in ${time(delay)} (${cause}, ${times(failures)} in a row)`),
  ready: ({ workers, generation, ms }) =>
    info(`ready: ${workers} ${plural('worker', workers)} of generation ${generation} in ${time(ms)}`),
  'reload-started': ({ generation }) => info(`reload: generation ${generation} is being loaded`),
  'reload-done': ({ generation, ms }) => info(`reload: generation ${generation} serves, after ${time(ms)}`),
  'reload-failed': ({ generation, message }) =>
    error(`reload: generation ${generation} failed, the old one serves on: ${message}`),
  refork: ({ worker, generation }) =>
    info(`refork: worker ${worker} is the mold of generation ${generation} now`),
  'upgrade-started': ({ pid }) => info(`upgrade: monitor ${pid} is starting`),
  'upgrade-done': ({ pid }) => info(`upgrade: monitor ${pid} has taken over`),
  'upgrade-failed': ({ message }) => error(`upgrade failed, this monitor serves on: ${message}`),
  scaled: ({ from, to }) => info(`${to} ${plural('worker', to)} instead of ${from}`),
  'logs-reopened': ({ cause }) => info(`logs opened anew (${cause})`),
  stopping: ({ how, cause }) => [
    ASKED.has(cause) ? 'info' : 'error',
    `stopping ${how === 'quick' ? 'at once' : 'gracefully'} (${cause})`,
  ],
  stopped: ({ code }) => [code === 0 ? 'info' : 'error', `stopped with exit code ${code}`],
  warning: ({ message }) => warn(message),
};

export const EVENTS = Object.keys(SENTENCES) as (keyof PreforkEvents)[];

/** Ends that somebody asked for. */
const EXPECTED = new Set<ExitCause>(['drained', 'recycled']);

/** Why a server stops that has not failed. */
const ASKED = new Set(['asked', 'upgrade']);

function exit(record: ExitRecord): string {
  const { worker, pid, cause, reason, exitCode, signal, age, requests, request, message, stack } = record;
  const how = `${cause}${reason === undefined ? '' : ` (${reason})`}, ${ending(exitCode, signal)}`;
  const life = `after ${time(age)} and ${requests} ${plural('request', requests)}`;
  return `worker ${worker} (pid ${pid}) ended: ${how}, ${life}${request ? `, at ${request}` : ''}${why(message, stack)}`;
}

/** For a browser or curl. */
export function asUrl(address: string): string {
  return address.replace(/^tcp:/, 'http:');
}

/** An error's stack repeats its message, that of a worker that hung does not. */
function why(message: string | undefined, stack: string | undefined): string {
  const said = message === undefined || stack?.includes(message) ? '' : `: ${message}`;
  return `${said}${below(stack)}`;
}

function below(stack: string | undefined): string {
  return stack === undefined || stack === '' ? '' : `\n${stack.trimEnd()}`;
}
