/**
 * `forkbeard ctl`: asks the server or the supervisor that runs, over its control socket. Who answers there decides which
 * words it knows.
 */
import { invalidOption } from '../sys/errors.ts';
import { Connection, CTL_EXIT, Failed } from './ctl-connection.ts';
import { SERVER_WORDS } from './ctl-server.ts';
import { SUPERVISOR_WORDS } from './ctl-supervisor.ts';

export interface CtlFlags {
  control?: string;
  json?: boolean;
  quick?: boolean;
  follow?: boolean;
}

/** One thing that may be asked. `run` gives the exit code. */
export interface Word {
  /** Throws what is wrong before anybody is asked. */
  check?: (args: readonly string[], flags: CtlFlags) => void;
  run: (connection: Connection, args: readonly string[], flags: CtlFlags) => Promise<number>;
}

const PROGRAMS: Readonly<Record<string, Readonly<Record<string, Word>>>> = {
  server: SERVER_WORDS,
  supervisor: SUPERVISOR_WORDS,
};

/** Gives the exit code; throws errors that have one. */
export async function ctl(name: string, args: readonly string[], flags: CtlFlags): Promise<number> {
  // Whoever reads may have seen enough, as `head` has.
  process.stdout.on('error', () => process.exit(CTL_EXIT.done));
  const owners = Object.keys(PROGRAMS).filter((program) => wordOf(program, name) !== undefined);
  // What only one of them knows is checked before anybody is looked for.
  if (owners.length === 1) wordOf(owners[0] as string, name)?.check?.(args, flags);
  const connection = await Connection.find(flags.control);
  const { program, path } = connection;
  const word = wordOf(program, name);
  if (word === undefined) {
    const known = Object.keys(PROGRAMS[program] ?? {});
    if (known.length === 0) throw new Failed(`${path} is no server and no supervisor of forkbeard's`);
    throw invalidOption(
      'ctl',
      `${name} is for a ${owners[0]}, and at ${path} there is a ${program}: it knows ${known.join(', ')}`,
    );
  }
  word.check?.(args, flags);
  return word.run(connection, args, flags);
}

function wordOf(program: string, name: string): Word | undefined {
  const words = PROGRAMS[program];
  return words !== undefined && Object.hasOwn(words, name) ? words[name] : undefined;
}
