/**
 * From options to a plan: every default, and what only the machine can say (processors, accounts, whether a file is there).
 * Called by the door and by the command; opens nothing, binds nothing, loads nothing.
 */
import { accessSync, constants, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, extname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { becoming } from '../../daemon/accounts.ts';
import { runsTypeScript } from '../../daemon/config-file.ts';
import { defaultControlPath, isDefaultControlPath } from '../../daemon/control-path.ts';
import type { Limits } from '../../daemon/limits.ts';
import { formatListen, type ListenTarget } from '../../daemon/listen.ts';
import { activatedListeners } from '../../daemon/systemd.ts';
import { invalidOption } from '../../sys/errors.ts';
import { announcedControl, announcedDescriptors } from '../monitor/upgrade.ts';
import type { Plan } from '../plan.ts';
import { availableProcessors } from './processors.ts';
import type { CheckedOptions } from './schema.ts';

type Spell = (option: string) => string;

const DEFAULT_LISTEN: ListenTarget = { kind: 'tcp', host: '127.0.0.1', port: 3000 };

/** Throws `ERR_FORKBEARD_INVALID_OPTION`. `spell` gives an option's name as its user wrote it. */
export function planOf(options: CheckedOptions, spell: Spell = (option) => option): Plan {
  const application = findApplication(options.application, spell);
  const listen = addresses(options, spell);
  if (options.chdir !== undefined && !isFolder(options.chdir))
    throw invalidOption('chdir', `${spell('chdir')}: there is no folder ${options.chdir}`);
  for (const file of options.envFile ?? []) {
    if (!isReadable(file)) throw invalidOption('envFile', `${spell('envFile')}: cannot read ${file}`);
  }
  return {
    application: pathToFileURL(application).href,
    title: options.title ?? basename(application, extname(application)),
    workers: typeof options.workers === 'number' ? options.workers : availableProcessors(),
    listen,
    spawnMethod: options.spawnMethod ?? 'auto',
    reusePort: options.reusePort ?? false,
    backlog: options.backlog ?? 2048,
    bootTimeout: options.bootTimeout ?? 30_000,
    gracefulTimeout: options.gracefulTimeout ?? 30_000,
    blockedTimeout: options.blockedTimeout ?? 30_000,
    requestTimeout: options.requestTimeout ?? 0,
    maxConnections: options.maxConnections ?? 0,
    maxRequestsInFlight: options.maxRequestsInFlight ?? 0,
    maxRequests: options.maxRequests ?? 0,
    maxLifetime: options.maxLifetime ?? 0,
    maxMemory: options.maxMemory ?? 0,
    jitter: options.jitter ?? 10,
    reforkAfter: options.reforkAfter ?? [],
    control: options.control ?? usualControl(),
    metrics: options.metrics ?? null,
    pidFile: options.pidFile ?? null,
    envFiles: options.envFile ?? [],
    env: options.env ?? {},
    ...becoming(options.user, options.group, spell),
    umask: options.umask ?? null,
    rlimits: asData(options.rlimits ?? {}),
    cwd: options.chdir ?? process.cwd(),
    logFormat:
      options.logFormat ?? (process.stdout.isTTY && options.logFile === undefined ? 'pretty' : 'json'),
    logFile: options.logFile ?? null,
  };
}

/** JSON has no Infinity. */
function asData(limits: Limits): Plan['rlimits'] {
  const data = (limit: number) => (limit === Number.POSITIVE_INFINITY ? 'unlimited' : limit);
  const entries = Object.entries(limits).map(([name, { soft, hard }]) => [
    name,
    { soft: data(soft), ...(hard === undefined ? {} : { hard: data(hard) }) },
  ]);
  return Object.fromEntries(entries);
}

// ------------------------------------------------------------------------------------- the application

function findApplication(url: string | undefined, spell: Spell): string {
  if (url === undefined)
    throw invalidOption('application', `${spell('application')} is missing: which module to serve`);
  const path = fileURLToPath(url);
  const found = resolveModule(path);
  if (found === undefined) {
    const why = isFolder(path)
      ? `${path} is a folder without a module of its own`
      : `there is no module ${path}`;
    throw invalidOption('application', `${spell('application')}: ${why}`);
  }
  if (/\.[cm]?ts$/.test(found) && !runsTypeScript()) {
    throw invalidOption(
      'application',
      `${spell('application')}: Node ${process.version} does not run ${found} (22.18 and later run TypeScript)`,
    );
  }
  return found;
}

/** As `node <path>` finds it, and by the endings of modules. */
function resolveModule(path: string): string | undefined {
  if (isFile(path)) return path;
  try {
    return createRequire(path).resolve(path);
  } catch {
    return ['.mjs', '.cjs', '.ts', '.mts', '/index.mjs', '/index.ts'].map((end) => path + end).find(isFile);
  }
}

// ------------------------------------------------------------------------------------- the machine

/** That of the monitor which hands over to this process, so that there is one at every moment, and never two. */
function usualControl(): string {
  const predecessors = announcedControl(process.env);
  return predecessors && isDefaultControlPath(predecessors) ? predecessors : defaultControlPath();
}

function addresses({ listen, reusePort }: CheckedOptions, spell: Spell): ListenTarget[] {
  const handed = listen === undefined ? inherited() : [];
  const targets = listen ?? (handed.length > 0 ? handed : [DEFAULT_LISTEN]);
  const seen = new Set<string>();
  for (const target of targets) {
    const text = formatListen(target);
    if (reusePort && target.kind !== 'tcp')
      throw invalidOption('reusePort', `${spell('reusePort')} is for TCP addresses, and ${text} is none`);
    // Port 0 is another one every time.
    if (seen.has(text) && !(target.kind === 'tcp' && target.port === 0))
      throw invalidOption('listen', `${spell('listen')} names ${text} twice`);
    seen.add(text);
  }
  return targets;
}

/** Sockets that are open already: systemd's, or those of a monitor that hands over to this process. */
function inherited(): ListenTarget[] {
  return [...activatedListeners(), ...announcedDescriptors(process.env)].map((fd) => ({ kind: 'fd', fd }));
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
