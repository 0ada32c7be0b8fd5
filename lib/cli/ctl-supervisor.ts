/** What `forkbeard ctl` asks of a supervisor, and how the answers are told. */
import { ending, time } from '../daemon/words.ts';
import { board, tree } from '../supervisor/board.ts';
import type {
  LogLine,
  Reconfigured,
  ShutdownReport,
  StopReport,
  SupervisedStatus,
  SupervisorStatus,
} from '../supervisor/contract.ts';
import { invalidOption } from '../sys/errors.ts';
import { signalName, signalNumber } from '../sys/signals.ts';
import type { CtlFlags, Word } from './ctl.ts';
import { type Connection, CTL_EXIT } from './ctl-connection.ts';

export const SUPERVISOR_WORDS: Readonly<Record<string, Word>> = {
  status: { run: (connection, _, flags) => show(connection, flags, board) },
  tree: { run: (connection, _, flags) => show(connection, flags, tree) },
  start: aboutService('start', ({ service }: Started) => [`${service.name} is ${howItIs(service)}`, true]),
  restart: aboutService('restart', ({ service }: Started) => [
    `${service.name} is ${howItIs(service)}`,
    true,
  ]),
  stop: aboutService('stop', ({ report }: Stopped, name) => stopped(name, report)),
  signal: {
    check: ([service, signal]) => {
      signalOf(service, signal);
    },
    run: async (connection, [service, signal], flags) => {
      const number = signalOf(service, signal);
      const result = await connection.post('signal', { service, signal: number });
      tell(flags, result, `${service} was sent ${signalName(number)}`);
      return CTL_EXIT.done;
    },
  },
  logs: {
    run: async (connection, [service], { follow = false, json = false }) => {
      const query = new URLSearchParams({ ...(service && { service }), ...(follow && { follow: '1' }) });
      const print = json
        ? (line: string) => process.stdout.write(`${line}\n`)
        : (line: string) => process.stdout.write(`${lineOf(JSON.parse(line) as LogLine, service)}\n`);
      await connection.follow(`logs?${query}`, print);
      return CTL_EXIT.done;
    },
  },
  reload: {
    run: async (connection, _, flags) => {
      const result = (await connection.post('reload', {})) as { services: Reconfigured };
      const { added, removed, changed, unchanged } = result.services;
      const parts = Object.entries({ added, removed, changed })
        .filter(([, names]) => names.length > 0)
        .map(([what, names]) => `${what}: ${names.join(', ')}`);
      tell(flags, result, `reloaded; ${[...parts, `untouched: ${unchanged.length}`].join('; ')}`);
      return CTL_EXIT.done;
    },
  },
  'reopen-logs': {
    run: async (connection, _, flags) => {
      tell(flags, await connection.post('reopen-logs', {}), 'logs opened anew');
      return CTL_EXIT.done;
    },
  },
  shutdown: {
    run: async (connection, _, flags) => {
      const result = (await connection.post('shutdown', {})) as { report: ShutdownReport };
      const { services, survivors, left, took } = result.report;
      const count = Object.keys(services).length;
      const parts = [`${count} ${count === 1 ? 'service' : 'services'} stopped in ${time(took)}`];
      if (left.length > 0) parts.push(`left to run on: ${left.join(', ')}`);
      for (const [name, pids] of Object.entries(survivors))
        parts.push(`${name} did not end: ${pids.join(', ')}`);
      tell(flags, result, parts.join('; '));
      return Object.keys(survivors).length === 0 ? CTL_EXIT.done : CTL_EXIT.failed;
    },
  },
};

interface Started {
  service: SupervisedStatus;
}
interface Stopped {
  report: StopReport;
}

function tell({ json = false }: CtlFlags, result: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(result) : text}\n`);
}

/** A word that needs the names of services: one after the other, and no further when one is refused. */
function aboutService<Result>(
  action: string,
  say: (result: Result, name: string) => [text: string, isDone: boolean],
): Word {
  const named = (names: readonly string[]): readonly string[] => {
    if (names.length > 0 && !names.includes('')) return names;
    const hint = action === 'stop' ? '; shutdown stops them all, and the supervisor' : '';
    throw invalidOption('service', `${action} needs the name of a service${hint}`);
  };
  return {
    check: (names) => {
      named(names);
    },
    run: async (connection, names, flags) => {
      let code: number = CTL_EXIT.done;
      for (const service of named(names)) {
        const result = (await connection.post(action, { service })) as Result;
        const [text, isDone] = say(result, service);
        tell(flags, result, text);
        if (!isDone) code = CTL_EXIT.failed;
      }
      return code;
    },
  };
}

function howItIs({ state, pid, problem }: SupervisedStatus): string {
  return `${state}${pid === null ? '' : ` (pid ${pid})`}${problem === null ? '' : `: ${problem}`}`;
}

function stopped(name: string, { exit, steps, survivors, elsewhere }: StopReport): [string, boolean] {
  if (elsewhere !== undefined) return [`${name} runs on under another supervisor (pid ${elsewhere})`, false];
  if (survivors.length > 0) return [`${name} could not be ended: ${survivors.join(', ')} left`, false];
  const last = steps.at(-1);
  if (last === undefined) return [`${name} is down, and did not run here`, true];
  const how = exit === null ? '' : ` (${ending(exit.exitCode, exit.signal)})`;
  return [`${name} is stopped, by ${last.signal}${how}`, true];
}

function signalOf(service = '', signal = ''): number {
  if (service === '' || signal === '') throw invalidOption('signal', 'signal needs a service and a signal');
  try {
    return signalNumber(/^\d+$/.test(signal) ? Number(signal) : signal.toUpperCase());
  } catch (error) {
    throw invalidOption('signal', (error as Error).message);
  }
}

async function show(
  connection: Connection,
  { json = false }: CtlFlags,
  draw: (status: SupervisorStatus, style: { colour: boolean }) => string[],
): Promise<number> {
  const said = (await connection.get('status')) as SupervisorStatus;
  const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
  process.stdout.write(`${json ? JSON.stringify(said, null, 2) : draw(said, { colour }).join('\n')}\n`);
  return CTL_EXIT.done;
}

/** The name only where lines of several stand together. */
function lineOf({ service, at, text }: LogLine, asked: string | undefined): string {
  const clock = new Date(at).toTimeString().slice(0, 8);
  return asked ? `${clock} ${text}` : `${clock} [${service}] ${text}`;
}
