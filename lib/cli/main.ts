#!/usr/bin/env node
/**
 * The command line program: what it can do, and which module does it. Commands are loaded when they are asked for, so
 * that none pays for another. It never does the work itself.
 */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('forkbeard')
  .description('A native event loop for Node.js with real fork(2)')
  .version(version)
  .showHelpAfterError('(forkbeard --help shows what there is)')
  // Before the commands, which inherit it: wrong usage has an exit code of its own.
  .exitOverride();

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
  const { code, exitCode } = error as { code?: string; exitCode?: number };
  // Commander has said it already.
  if (code?.startsWith('commander.')) process.exitCode = exitCode === 0 ? 0 : 2;
  else throw error;
}
