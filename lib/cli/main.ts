#!/usr/bin/env node
/**
 * The command line program: what it can do, and which module does it. Commands are loaded when they are asked for, so
 * that none pays for another. It never does the work itself.
 */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { addServeOptions } from './serve-options.ts';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const hint = (command: string) => `(${command} --help shows what there is)`;

const program = new Command('forkbeard')
  .description('A native event loop for Node.js with real fork(2)')
  .version(version)
  .showHelpAfterError(hint('forkbeard'))
  // Before the commands, which inherit it: wrong usage has an exit code of its own.
  .exitOverride();

const serve = program
  .command('serve')
  .showHelpAfterError(hint('forkbeard serve'))
  .description('Serve an application with workers that share its memory')
  .argument(
    '[application]',
    'the module whose default export is the application; a configuration file may name it',
  );
addServeOptions(serve)
  .addHelpText(
    'after',
    `
Signals: TERM stops gracefully, INT and QUIT at once, HUP reloads, USR1 opens logs anew, USR2 upgrades, WINCH drains,
TTIN and TTOU: one worker more, one less.

Exit code: 0 after a stop that was asked for; 2 for wrong usage; 41 the application does not load; 42 an address is in
use; 43 no permission; the others are in docs/prefork.md.`,
  )
  .action(async (application: string | undefined, options: Record<string, unknown>) => {
    const { serve } = await import('./serve.ts');
    process.exitCode = await serve(application, options);
  });

program
  .command('supervise')
  .showHelpAfterError(hint('forkbeard supervise'))
  .description('Keep the services of a file running')
  .argument('<file>', 'their configuration: .json, .yaml, .ts or .mjs')
  .option('--control <path>', "the control socket (one in a folder of this user's)")
  .option('--no-control', 'no control socket')
  .option(
    '--state-dir <dir>',
    "where pid files, locks and sockets are (the file's, else $XDG_RUNTIME_DIR/forkbeard)",
  )
  .option(
    '--metrics <address>',
    'where /metrics, /livez and /readyz answer, as tcp://127.0.0.1:9100 (nowhere)',
  )
  .option('--opentelemetry', 'counters, and a span for each restart, over @opentelemetry/api')
  .option('--leave-independent', 'independent services run on at the end, for the next supervisor')
  .option('--log-format <format>', 'pretty or json (pretty on a terminal, else json)')
  .option('--log-file <path>', 'where the log goes, opened anew on USR1 (standard output)')
  .option('--check', 'check everything, print the plan and end')
  .addHelpText(
    'after',
    `
Signals: TERM, INT and QUIT stop all services, each after those that depend on it; a second one kills what is left;
HUP reads the file anew: new services start, removed ones stop, changed ones restart, no other is touched; USR1 opens
logs anew.

Exit code: 0 after a stop that was asked for; 1 when something could not be ended; 2 for wrong usage, and for a
configuration that cannot be; 42 an address is in use; 43 no permission.`,
  )
  .action(async (file: string, options: Record<string, unknown>) => {
    const { supervise } = await import('./supervise.ts');
    process.exitCode = await supervise(file, options);
  });

const ctl = program
  .command('ctl')
  .showHelpAfterError(hint('forkbeard ctl'))
  .description('Ask the server or the supervisor that runs, and steer it')
  .option('--control <path>', "its control socket (the one in this user's folder)")
  .option('--json', 'print the answer as JSON')
  .addHelpText('after', '\nExit code: 0 done; 1 refused or failed; 2 wrong usage; 3 nobody there.');

for (const [group, usage, description] of [
  ['Of both:', 'status', 'what runs, and how it is'],
  ['Of both:', 'reopen-logs', 'after log files were renamed'],
  [
    'Of both:',
    'reload',
    'a server: load the application anew and replace the workers one after the other; a supervisor: read its file anew, and change what is different',
  ],
  [
    'Of both:',
    'stop [service...]',
    'a server: stop gracefully, and wait for it; a supervisor: stop these services, which it must be told',
  ],
  ['Of a server:', 'workers <n>', 'have n workers; +n and -n: so many more or fewer'],
  ['Of a server:', 'drain', 'stop all workers gracefully, keep the listeners'],
  [
    'Of a server:',
    'upgrade',
    'a new monitor, of the Node and the forkbeard that are installed now, takes over',
  ],
  ['Of a server:', 'kill <slot>', 'SIGKILL to the worker in this place; another one takes it'],
  [
    'Of a supervisor:',
    'start <service...>',
    'start them, with what they depend on, and wait until they are ready',
  ],
  ['Of a supervisor:', 'restart <service...>', 'stop and start them, each until it is ready'],
  ['Of a supervisor:', 'signal <service> <signal>', 'send its first process a signal'],
  ['Of a supervisor:', 'tree', 'the services as they hang together'],
  ['Of a supervisor:', 'logs [service]', 'its last lines, or those of all services'],
  ['Of a supervisor:', 'shutdown', 'stop all services, and the supervisor'],
] as const) {
  const command = ctl
    .command(usage)
    .description(description)
    .helpGroup(group)
    .option('--control <path>', 'its control socket')
    .option('--json', 'print the answer as JSON')
    .action(async (...given: unknown[]) => {
      const call = given.at(-1) as Command;
      const { ctl: run } = await import('./ctl.ts');
      process.exitCode = await run(call.name(), call.args, call.optsWithGlobals());
    });
  if (usage === 'stop [service...]') command.option('--quick', 'of a server: cut what is in flight');
  if (usage === 'logs [service]') command.option('-f, --follow', 'and go on, as lines come');
  // Else -1 would be an option.
  if (usage === 'workers <n>') command.allowUnknownOption();
}

program
  .command('doctor')
  .showHelpAfterError(hint('forkbeard doctor'))
  .description('Say what this machine, this Node and, if asked, an application allow; try a real fork')
  .option('--app <module>', 'an application to load, in a process of its own, and to judge')
  .option('--json', 'print the report as JSON')
  .addHelpText(
    'after',
    '\nExit code: 0 when this machine, and the application, can be forked; 1 when not; 2 for wrong usage.',
  )
  .action(async (options: { app?: string; json?: boolean }) => {
    const { doctor } = await import('./doctor.ts');
    process.exitCode = await doctor(options);
  });

try {
  await program.parseAsync();
} catch (error) {
  const { code, exitCode, message } = error as { code?: string; exitCode?: number; message: string };
  // Commander has said it already.
  if (code?.startsWith('commander.')) {
    process.exitCode = exitCode === 0 ? 0 : 2;
  } else if (exitCode !== undefined) {
    // Expected: one line says it all.
    process.stderr.write(`forkbeard: ${message}\n`);
    process.exitCode = exitCode;
  } else if (code === 'EMFILE' || code === 'ENFILE') {
    // Not even our own modules can be opened: those with the codes neither.
    process.stderr.write(`forkbeard: ${message}\n`);
    process.exitCode = 44;
  } else {
    throw error;
  }
}
