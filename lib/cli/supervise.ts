/**
 * `forkbeard supervise`: a file of options becomes a plan, the plan a supervisor, and the supervisor what is seen of it.
 * The process that runs this is the supervisor.
 */
import { resolve } from 'node:path';
import { readConfigFile } from '../daemon/config-file.ts';
import { defaultControlPath } from '../daemon/control-path.ts';
import { EXIT } from '../daemon/exit-codes.ts';
import { logFormat, metricsTarget } from '../daemon/kinds.ts';
import { type ListenTarget, socketPath } from '../daemon/listen.ts';
import { outliveTerminal } from '../daemon/lost-terminal.ts';
import { standardOutput } from '../daemon/outlet.ts';
import { Screen, terminal } from '../daemon/screen.ts';
import { Loop } from '../process/loop.ts';
import { board } from '../supervisor/board.ts';
import { planOf } from '../supervisor/config/plan-of.ts';
import { planAsJson, showPlan } from '../supervisor/config/show.ts';
import { Log } from '../supervisor/log.ts';
import { exitCodeOf, openSupervisor, type Running } from '../supervisor/open.ts';
import type { SupervisorPlan } from '../supervisor/plan.ts';
import { Supervisor } from '../supervisor/supervisor.ts';
import { invalidOption } from '../sys/errors.ts';

/** As commander gives them. */
export interface SuperviseFlags {
  control?: string | boolean;
  stateDir?: string;
  logFormat?: string;
  logFile?: string;
  metrics?: string;
  opentelemetry?: boolean;
  leaveIndependent?: boolean;
  check?: boolean;
}

interface Settings {
  control: string | false;
  logFormat: 'pretty' | 'json';
  logFile: string | null;
  metrics: ListenTarget | null;
}

const REDRAW_MS = 1000;
/** Of a start that was refused as a whole: where an orchestrator was to ask, perhaps. */
const EXIT_OF: Readonly<Record<string, number>> = {
  EADDRINUSE: EXIT.addressInUse,
  EACCES: EXIT.noPermission,
};

/** Gives the exit code. */
export async function supervise(file: string, flags: SuperviseFlags): Promise<number> {
  const settings = settingsOf(flags);
  const plan = await planIn(file, flags);
  if (flags.check) {
    const text = flags.logFormat === 'json' ? JSON.stringify(planAsJson(plan)) : showPlan(plan);
    process.stdout.write(`${text}\n`);
    return 0;
  }
  // The terminal may be closed, and who reads a pipe may go: the supervisor outlives them.
  outliveTerminal();
  process.stdout.on('error', () => {});
  const onTerminal = process.stdout.isTTY && settings.logFormat === 'pretty';
  const screen = onTerminal ? new Screen(terminal()) : undefined;
  const log = new Log(settings, screen);
  if (onTerminal) standardOutput().onLost = (lines) => log.lost(lines);
  const supervisor = supervisorOf(plan);
  const independent = flags.leaveIndependent ? 'leave' : 'stop';
  const opening = openSupervisor(supervisor, {
    ...settings,
    log,
    opentelemetry: flags.opentelemetry ?? false,
    independent,
    reload: async () => supervisor.follow(await planIn(file, flags)),
  });
  // From here on there is something to tidy up: what is asked for meanwhile is done as soon as it can be.
  const signals = obey(opening, log);
  const running = await opening.catch((error) => {
    signals[Symbol.dispose]();
    throw error;
  });
  const hide = screen === undefined ? () => {} : showLive(supervisor, screen);
  log.note('info', 'supervising', `supervising ${resolve(file)}`, { file: resolve(file), pid: process.pid });
  let refused: number | undefined;
  const start = () =>
    // What becomes of each service is told by its events; this is about all of them.
    supervisor.start().catch((error: NodeJS.ErrnoException) => {
      refused = (error.code === undefined ? undefined : EXIT_OF[error.code]) ?? 1;
      log.note('error', 'start-failed', error.message, { code: error.code });
      running.shutdown({ quick: true }).catch(() => {});
    });
  if (!signals.isStopping) void start();
  const report = await running.finished;
  signals[Symbol.dispose]();
  hide();
  return refused ?? exitCodeOf(report);
}

/** As it is written now. Throws one line about what is wrong in it. */
async function planIn(file: string, { stateDir }: SuperviseFlags): Promise<SupervisorPlan> {
  const { options, base, where } = await readConfigFile(resolve(file));
  const plan = planOf(options, { base, where });
  return stateDir === undefined ? plan : { ...plan, stateDir: resolve(stateDir) };
}

/** A state directory that cannot be is wrong usage, told in one line. */
function supervisorOf(plan: SupervisorPlan): Supervisor {
  try {
    return Supervisor.ofPlan(plan);
  } catch (error) {
    throw Object.assign(error as Error, { exitCode: 2 });
  }
}

// ------------------------------------------------------------------------------------- options

function settingsOf({ control, metrics, logFile, ...flags }: SuperviseFlags): Settings {
  return {
    control: control === false ? false : controlPath(control),
    metrics:
      metrics === undefined
        ? null
        : parsed('--metrics', () => metricsTarget(process.cwd()).safeParse(metrics)),
    logFile: logFile === undefined ? null : resolve(logFile),
    logFormat:
      flags.logFormat === undefined
        ? process.stdout.isTTY && logFile === undefined
          ? 'pretty'
          : 'json'
        : parsed('--log-format', () => logFormat.safeParse(flags.logFormat)),
  };
}

function controlPath(given: string | true | undefined): string {
  if (given === undefined || given === true) return defaultControlPath();
  try {
    return socketPath(given, process.cwd());
  } catch (error) {
    throw invalidOption('control', `--control ${(error as Error).message}`);
  }
}

type Parsed<T> = { success: true; data: T } | { success: false; error: { issues: { message: string }[] } };

function parsed<T>(option: string, parse: () => Parsed<T>): T {
  const outcome = parse();
  if (outcome.success) return outcome.data;
  throw invalidOption(option.slice(2), `${option} ${outcome.error.issues[0]?.message}`);
}

// ------------------------------------------------------------------------------------- signals

/** They keep the process there, also when no service runs. */
function obey(opening: Promise<Running>, log: Log): Disposable & { readonly isStopping: boolean } {
  const loop = Loop.current();
  let asked = 0;
  const stop = (signal: string) => () => {
    const quick = asked++ > 0;
    const how = quick ? 'at once' : 'in reverse order';
    log.note('info', 'stopping', `stopping all services ${how} (${signal})`, { signal, quick });
    opening.then((running) => running.shutdown({ quick })).catch(() => {});
  };
  const watchers = [
    ...['SIGTERM', 'SIGINT', 'SIGQUIT'].map((signal) => loop.watchSignal(signal, stop(signal))),
    loop.watchSignal('SIGUSR1', () => void opening.then((running) => running.reopenLogs()).catch(() => {})),
    // A terminal that closes says it as well: the services outlive that, and an unchanged file changes nothing.
    loop.watchSignal('SIGHUP', () => {
      log.note('info', 'reloading', 'the configuration is read anew (SIGHUP)', {});
      const reloaded = opening.then((running) => running.reload());
      reloaded.catch((error: NodeJS.ErrnoException) => {
        log.note('error', 'reload-failed', `the configuration stays as it was: ${error.message}`, {
          code: error.code,
        });
      });
    }),
  ];
  return {
    get isStopping() {
      return asked > 0;
    },
    [Symbol.dispose]: () => {
      for (const watcher of watchers) watcher.stop();
    },
  };
}

// ------------------------------------------------------------------------------------- the board

function showLive(supervisor: Supervisor, screen: Screen): () => void {
  const colour = process.env['NO_COLOR'] === undefined;
  const draw = () => {
    // A terminal that was told to wait shall not have a hundred of them when it goes on.
    if (standardOutput().stalled) return;
    screen.draw(board(supervisor.status(), { colour, rows: screen.rows, columns: screen.columns }));
  };
  const timer = setInterval(draw, REDRAW_MS).unref();
  process.stdout.on('resize', draw);
  supervisor.on('state', draw);
  draw();
  return () => {
    clearInterval(timer);
    process.stdout.off('resize', draw);
    supervisor.off('state', draw);
    screen.draw([]);
  };
}
