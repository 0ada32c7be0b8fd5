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

const program = new Command('forkbeard')
  .description('A native event loop for Node.js with real fork(2)')
  .version(version)
  .showHelpAfterError('(forkbeard --help shows what there is)')
  // Before the commands, which inherit it: wrong usage has an exit code of its own.
  .exitOverride();

const serve = program
  .command('serve')
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

const ctl = program
  .command('ctl')
  .description('Ask the server that runs, and steer it')
  .option('--control <path>', "its control socket (the one in this user's folder)")
  .option('--json', 'print the answer as JSON')
  .addHelpText('after', '\nExit code: 0 done; 1 refused or failed; 2 wrong usage; 3 no server there.');

for (const [usage, description] of [
  ['status', 'workers, requests, memory'],
  ['reload', 'load the application anew and replace the workers one after the other'],
  ['workers <n>', 'have n workers; +n and -n: so many more or fewer'],
  ['drain', 'stop all workers gracefully, keep the listeners'],
  ['upgrade', 'a new monitor, of the Node and the forkbeard that are installed now, takes over'],
  ['reopen-logs', 'after log files were renamed'],
  ['stop', 'stop gracefully, and wait for it'],
  ['kill <slot>', 'SIGKILL to the worker in this place; another one takes it'],
] as const) {
  const command = ctl
    .command(usage)
    .description(description)
    .option('--control <path>', "the server's control socket")
    .option('--json', 'print the answer as JSON')
    .action(async (...given: unknown[]) => {
      const call = given.at(-1) as Command;
      const { ctl: run } = await import('./ctl.ts');
      process.exitCode = await run(call.name(), call.args, call.optsWithGlobals());
    });
  if (usage === 'stop') command.option('--quick', 'cut what is in flight');
  // Else -1 would be an option.
  if (usage === 'workers <n>') command.allowUnknownOption();
}

program
  .command('doctor')
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
