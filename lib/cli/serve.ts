/**
 * `forkbeard serve`: command line over configuration file over defaults becomes a plan, the plan a server, and the server
 * what is seen of it. The process that runs this is the monitor.
 */

import { outliveTerminal } from '../daemon/lost-terminal.ts';
import { standardOutput } from '../daemon/outlet.ts';
import { Screen, terminal } from '../daemon/screen.ts';
import { board, Rates } from '../prefork/board.ts';
import type { PreforkServer } from '../prefork/contract.ts';
import { Log } from '../prefork/log.ts';
import { open } from '../prefork/open.ts';
import { findConfigFile } from '../prefork/options/config-file.ts';
import { planOf } from '../prefork/options/plan-of.ts';
import { type CheckedOptions, checkOptions } from '../prefork/options/schema.ts';
import { showPlan } from '../prefork/options/show.ts';
import type { Plan } from '../prefork/plan.ts';

export interface ServeFlags extends Record<string, unknown> {
  config?: string;
  check?: boolean;
}

const REDRAW_MS = 1000;

/** Gives the exit code. */
export async function serve(
  application: string | undefined,
  { config, check, ...flags }: ServeFlags,
): Promise<number> {
  const { plan, options } = await readPlan(
    { ...(application === undefined ? {} : { application }), ...flags },
    config,
  );
  if (check) {
    // The values are secrets as often as not.
    const shown = { ...plan, env: Object.keys(plan.env) };
    process.stdout.write(`${options.logFormat === 'json' ? JSON.stringify(shown) : showPlan(plan)}\n`);
    return 0;
  }
  // The terminal may be closed, and who reads a pipe may go: the server outlives them.
  outliveTerminal();
  process.stdout.on('error', () => {});
  const onTerminal = process.stdout.isTTY && plan.logFormat === 'pretty';
  const screen = onTerminal ? new Screen(terminal()) : undefined;
  const log = new Log(plan, screen);
  if (onTerminal) standardOutput().onLost = (lines) => log.lost(lines);
  const { server, finished } = await open(plan, { log, signals: true });
  // The log has said why, and the exit code says it again.
  server.ready.catch(() => {});
  const hide = screen === undefined ? showOnce(server, plan) : showLive(server, screen);
  const code = await finished;
  hide();
  return code;
}

interface Read {
  plan: Plan;
  /** As they were given. */
  options: CheckedOptions;
}

async function readPlan(flags: object, config: string | undefined): Promise<Read> {
  const onLine = (option: string) =>
    option === 'application'
      ? option
      : `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const fromLine = checkOptions(flags, { spell: onLine, base: process.cwd() });
  const file = await findConfigFile(config, process.cwd());
  if (file === undefined) return { plan: planOf(fromLine, onLine), options: fromLine };
  const where = (option: string) => file.where([option]);
  const inFile = (option: string) => `${where(option)}: ${option}`;
  const fromFile = checkOptions(file.options, { spell: inFile, base: file.base, where });
  const merged: CheckedOptions = { ...fromFile, ...fromLine };
  const spell = (option: string) =>
    option in fromFile && !(option in fromLine) ? inFile(option) : onLine(option);
  return { plan: planOf(merged, spell), options: merged };
}

// ------------------------------------------------------------------------------------- the board

/** For people who do not watch: the board once, when all workers are there. */
function showOnce(server: PreforkServer, { logFormat, logFile }: Plan): () => void {
  if (logFormat !== 'pretty' || logFile !== null) return () => {};
  server.once('ready', () => {
    standardOutput().write(`${board(server.status(), new Map(), { colour: false }).join('\n')}\n`);
  });
  return () => {};
}

function showLive(server: PreforkServer, screen: Screen): () => void {
  const rates = new Rates();
  const colour = process.env['NO_COLOR'] === undefined;
  let shown = true;
  const draw = () => {
    // A terminal that was told to wait shall not have a hundred of them when it goes on.
    if (!shown || standardOutput().stalled) return;
    const status = server.status();
    const rate = rates.look(status.workers, performance.now());
    screen.draw(board(status, rate, { colour, rows: screen.rows, columns: screen.columns }));
  };
  const timer = setInterval(draw, REDRAW_MS).unref();
  process.stdout.on('resize', draw);
  for (const event of ['worker-ready', 'worker-exit', 'ready', 'scaled', 'stopping'] as const)
    server.on(event, draw);
  // The one that follows has a board of its own.
  server.on('upgrade-started', () => {
    shown = false;
    screen.release();
  });
  server.on('upgrade-failed', () => {
    shown = true;
    draw();
  });
  draw();
  return () => {
    clearInterval(timer);
    process.stdout.off('resize', draw);
    if (shown) screen.draw([]);
  };
}
