/** What `forkbeard ctl` asks of a server, and how the answers are told. */
import { board } from '../prefork/board.ts';
import type { PreforkStatus } from '../prefork/contract.ts';
import { invalidOption } from '../sys/errors.ts';
import type { CtlFlags, Word } from './ctl.ts';
import { type Connection, CTL_EXIT } from './ctl-connection.ts';

/** What a POST asks for, and how its result is told. */
interface Order {
  action: string;
  body: object;
  say: (result: Record<string, unknown>) => string;
}

const order = (action: string, told: string): Order => ({ action, body: {}, say: () => told });

const ORDERS: Readonly<Record<string, (argument: string, flags: CtlFlags) => Order>> = {
  reload: () => order('reload', 'reloaded'),
  drain: () => order('drain', 'drained: no worker is left, the listeners are kept'),
  upgrade: () => order('upgrade', 'upgraded: a new monitor serves'),
  'reopen-logs': () => order('reopen-logs', 'logs opened anew'),
  stop(service, { quick = false }) {
    if (service !== '') throw invalidOption('stop', `a server has no services: stop takes no '${service}'`);
    return { action: 'stop', body: { quick }, say: ({ code }) => `stopped with exit code ${code}` };
  },
  workers(wanted) {
    const [, sign, count] = /^([+-]?)(\d{1,4})$/.exec(wanted) ?? [];
    if (count === undefined || (sign === '' && Number(count) === 0))
      throw invalidOption('workers', `workers must be a number of 1 or more, +n or -n, not '${wanted}'`);
    const body = sign === '' ? { to: Number(count) } : { by: Number(`${sign}${count}`) };
    return { action: 'scale', body, say: ({ from, to }) => `${to} workers instead of ${from}` };
  },
  kill(slot) {
    if (!/^[1-9]\d{0,5}$/.test(slot))
      throw invalidOption('slot', `slot must be a worker's number, not '${slot}'`);
    const say = () => `worker ${slot} was killed; another one takes its place`;
    return { action: 'kill', body: { worker: Number(slot) }, say };
  },
};

function carryOut(ordered: (argument: string, flags: CtlFlags) => Order): Word {
  return {
    check: ([argument = ''], flags) => {
      ordered(argument, flags);
    },
    run: async (connection, [argument = ''], flags) => {
      const { action, body, say } = ordered(argument, flags);
      const result = (await connection.post(action, body)) as Record<string, unknown>;
      process.stdout.write(`${flags.json ? JSON.stringify(result) : say(result)}\n`);
      return CTL_EXIT.done;
    },
  };
}

export const SERVER_WORDS: Readonly<Record<string, Word>> = {
  status: { run: status },
  ...Object.fromEntries(Object.entries(ORDERS).map(([name, ordered]) => [name, carryOut(ordered)])),
};

async function status(
  connection: Connection,
  _: readonly string[],
  { json = false }: CtlFlags,
): Promise<number> {
  const said = (await connection.get('status')) as PreforkStatus;
  if (json) {
    process.stdout.write(`${JSON.stringify(said, null, 2)}\n`);
    return CTL_EXIT.done;
  }
  const colour = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
  const rates = await ratesOf(connection, said);
  process.stdout.write(`${board(said, rates, { colour }).join('\n')}\n`);
  return CTL_EXIT.done;
}

/** What each worker serves in a second: the difference of two looks. */
async function ratesOf(connection: Connection, first: PreforkStatus): Promise<Map<number, number>> {
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 300));
  const second = (await connection.get('status')) as PreforkStatus;
  const seconds = (performance.now() - began) / 1000;
  const before = new Map(first.workers.map(({ pid, requests }) => [pid, requests]));
  return new Map(
    second.workers.map(({ pid, requests }) => [pid, (requests - (before.get(pid) ?? requests)) / seconds]),
  );
}
