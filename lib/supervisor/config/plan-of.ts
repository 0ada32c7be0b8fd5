/**
 * From a configuration to a plan: every default, every inherited setting, and what concerns several services (names,
 * dependencies, addresses). The same for a program's object and for a file. Starts nothing, binds nothing.
 */
import { resolve } from 'node:path';
import { becoming, LOGIN, loginOf } from '../../daemon/accounts.ts';
import { formatListen, type ListenTarget, parseListen } from '../../daemon/listen.ts';
import type { StdioTarget } from '../../process/contract.ts';
import { signalName, signalNumber } from '../../sys/signals.ts';
import type { Mode } from '../contract.ts';
import type { GateSpec } from '../gates.ts';
import { PROBE_DEFAULTS } from '../health.ts';
import type { DependencyPlan, GroupPlan, NamedListen, ServicePlan, SupervisorPlan } from '../plan.ts';
import type { Backoff, Intensity } from '../restart.ts';
import type { Guarantee } from '../service-options.ts';
import type { ServiceStdio } from '../shim.ts';
import { NAME } from '../state.ts';
import { checkDependencies, type Entry } from './dependencies.ts';
import { type CheckedGate, type CheckedService, groupSchema, rootSchema, serviceSchema } from './schema.ts';
import { check, type Path, type Source, wrong } from './source.ts';

/** A program's own object: paths begin where the process is. */
export const PROGRAM: Source = { base: '.' };

const INTENSITY: Intensity = { restarts: 5, within: 10_000 };
/** What no service says that is well, and what costs us a twentieth of a core. */
const OUTPUT = { lines: 20_000, bytes: 8 * 2 ** 20 };
const BACKOFF: Backoff = { min: 100, max: 30_000, jitter: 0.2, resetAfter: 30_000 };
const STOP_WAIT = 10_000;

/** What a group gives to those in it that say nothing else. */
interface Inherited {
  readonly intensity: Intensity;
  readonly mode: Mode;
  readonly require: Guarantee | null;
}

/**
 * Throws `ERR_FORKBEARD_INVALID_OPTION` or `ERR_FORKBEARD_UNKNOWN_OPTION`, with one line: file and line if there are any,
 * the path of the value, and what is wrong with it.
 */
export function planOf(options: unknown, source: Source = PROGRAM): SupervisorPlan {
  const root = check(rootSchema, options, source, []);
  const making = new Making(source);
  const inherited: Inherited = {
    intensity: { ...INTENSITY, ...defined(root.intensity) },
    mode: root.mode ?? 'coupled',
    require: root.require ?? null,
  };
  const members = making.members(root.services, ['services'], inherited, []);
  const tree: GroupPlan = {
    kind: 'group',
    name: '',
    strategy: root.strategy ?? 'one_for_one',
    intensity: inherited.intensity,
    backoff: BACKOFF,
    restart: 'permanent',
    dependsOn: [],
    members,
  };
  checkDependencies(tree, making.entries, source);
  const { probes, drain = DRAIN, forward = [] } = root.distributed ?? {};
  return {
    stateDir: root.stateDir === undefined ? null : resolve(source.base, root.stateDir),
    tree,
    supervised: { notifyFd: root.supervised?.notifyFd ?? null },
    distributed: {
      probes: probes === undefined ? null : probesAt(probes, source),
      drain,
      forward: forward.map((signal) => signalName(signalNumber(signal))),
    },
  };
}

/** Of readiness, before the first stop: as long as most who route by it take to ask again. */
const DRAIN = 5000;

function probesAt(text: string, source: Source): ListenTarget {
  const path = ['distributed', 'probes'];
  try {
    const target = parseListen(text, source.base);
    if (target.kind !== 'fd') return target;
  } catch (error) {
    throw wrong(source, path, (error as Error).message);
  }
  throw wrong(source, path, 'must begin with tcp:// or unix://');
}

/** One configuration on its way to a plan. */
class Making {
  /** Services and groups by name. */
  readonly entries = new Map<string, Entry>();
  readonly #addresses = new Map<string, string>();
  readonly #source: Source;

  constructor(source: Source) {
    this.#source = source;
  }

  members(
    services: Readonly<Record<string, unknown>>,
    path: Path,
    inherited: Inherited,
    around: readonly string[],
  ): (ServicePlan | GroupPlan)[] {
    // Where a module says __proto__ it is no name, but what the object inherits from.
    if (inheritsMore(services)) this.#claim('__proto__', [...path, '__proto__'], around);
    return Object.entries(services).map(([name, spec]) => {
      const at = [...path, name];
      this.#claim(name, at, around);
      const isGroup = typeof spec === 'object' && spec !== null && 'services' in spec;
      return isGroup
        ? this.#group(name, spec, at, inherited, around)
        : this.#service(name, spec, at, inherited);
    });
  }

  #claim(name: string, path: Path, around: readonly string[]): void {
    if (!NAME.test(name)) {
      throw wrong(
        this.#source,
        path,
        'must have a name of up to 64 letters, digits, dots, dashes and underscores, a letter or digit first',
      );
    }
    const other = this.entries.get(name);
    if (other !== undefined) {
      const where = this.#source.where === undefined ? '' : ` (${this.#source.where(other.path)})`;
      throw wrong(this.#source, path, `must have another name: there is a ${name} already${where}`);
    }
    this.entries.set(name, { path, around });
  }

  #group(name: string, spec: object, path: Path, above: Inherited, around: readonly string[]): GroupPlan {
    const group = check(groupSchema, spec, this.#source, path);
    const inherited: Inherited = {
      intensity: { ...above.intensity, ...defined(group.intensity) },
      mode: group.mode ?? above.mode,
      require: group.require ?? above.require,
    };
    return {
      kind: 'group',
      name,
      strategy: group.strategy ?? 'one_for_one',
      intensity: inherited.intensity,
      backoff: BACKOFF,
      restart: group.restart ?? 'permanent',
      dependsOn: (group.dependsOn ?? []) as DependencyPlan[],
      members: this.members(group.services, [...path, 'services'], inherited, [...around, name]),
    };
  }

  #service(name: string, spec: unknown, path: Path, inherited: Inherited): ServicePlan {
    const service = check(serviceSchema, spec, this.#source, path);
    const mode = service.mode ?? inherited.mode;
    if (service.lease !== undefined && mode !== 'independent')
      throw wrong(
        this.#source,
        [...path, 'lease'],
        `is for services of mode independent, and this one is ${mode}`,
      );
    const backoff = { ...BACKOFF, ...defined(service.backoff) };
    if (backoff.min > backoff.max)
      throw wrong(
        this.#source,
        [...path, 'backoff'],
        `must have a min (${backoff.min} ms) that is no longer than max (${backoff.max} ms)`,
      );
    for (const argument of ['startup', 'ready'] as const) {
      const asked = service[argument];
      if (asked === undefined || !('log' in asked)) continue;
      if ([service.stdout, service.stderr].some((output = 'log') => output === 'log')) continue;
      throw wrong(
        this.#source,
        [...path, argument, 'log'],
        'needs stdout or stderr to be log: else nobody reads it',
      );
    }
    const cwd = resolve(
      this.#source.base,
      service.cwd ?? (this.#source.where === undefined ? '.' : process.cwd()),
    );
    return {
      kind: 'service',
      name,
      command: service.command,
      env: environmentOf(service),
      stdio: { stdout: target(service.stdout, cwd), stderr: target(service.stderr, cwd) },
      output: { ...OUTPUT, ...defined(service.logLimit) },
      settings: { cwd, ...this.#account(service, path), ...settingsOf(service) },
      group: service.session ? 'session' : 'new',
      restart: {
        type: service.restart ?? 'permanent',
        backoff,
        intensity: { ...inherited.intensity, ...defined(service.intensity) },
        exitCodes: service.exitCodes ?? {},
      },
      startup:
        service.startup === undefined ? null : { ...PROBE_DEFAULTS.startup, ...defined(service.startup) },
      ready: service.ready === undefined ? null : readiness(service.ready),
      live: service.live === undefined ? null : { ...PROBE_DEFAULTS.live, ...defined(service.live) },
      gates: service.gates?.map((gate) => gateOf(gate, cwd)) ?? [{ group: 'empty' }, { lock: 'free' }],
      gateTimeout: service.gateTimeout ?? 10_000,
      onGateTimeout: service.onGateTimeout ?? 'fail',
      stop: service.stop ?? [
        { signal: 'TERM', wait: STOP_WAIT },
        { signal: 'KILL', wait: STOP_WAIT },
      ],
      mode,
      lease: service.lease ?? 60_000,
      require: service.require ?? inherited.require,
      dependsOn: (service.dependsOn ?? []) as DependencyPlan[],
      listen: (service.listen ?? []).map((one) => this.#listen(one, name, [...path, 'listen'])),
    };
  }

  /** Whom it becomes. Refused for all of the configuration: it is the same for every start. */
  #account({ user, group }: CheckedService, path: Path) {
    try {
      const { uid, gid, groups } = becoming(user, group, (option) => option);
      return {
        ...(uid === null ? {} : { uid }),
        ...(gid === null ? {} : { gid }),
        ...(groups === null ? {} : { groups }),
      };
    } catch (error) {
      const { option, message, exitCode } = error as Error & { option: string; exitCode: number };
      const [, what = message] = message.split(/^\w+: /);
      throw wrong(this.#source, [...path, option], `cannot be: ${what}`, exitCode);
    }
  }

  #listen(
    { name, address }: { name: string | null; address: string },
    service: string,
    path: Path,
  ): NamedListen {
    let parsed: ListenTarget;
    try {
      parsed = parseListen(address, this.#source.base);
    } catch (error) {
      throw wrong(this.#source, path, (error as Error).message);
    }
    const text = formatListen(parsed);
    const other = this.#addresses.get(text);
    // Port 0 is another one every time.
    if (other !== undefined && !(parsed.kind === 'tcp' && parsed.port === 0))
      throw wrong(
        this.#source,
        path,
        `has ${text}, which ${other === service ? 'it names twice' : `is ${other}'s`}`,
      );
    this.#addresses.set(text, service);
    return { name, target: parsed };
  }
}

function inheritsMore(object: object): boolean {
  const parent: unknown = Object.getPrototypeOf(object);
  return parent !== null && Object.getPrototypeOf(parent) !== null;
}

// ------------------------------------------------------------------------------------- the parts of a service

/** What systemd, or a supervisor above us, has said to this process alone. */
const OURS = new Set([
  'NOTIFY_SOCKET',
  'WATCHDOG_PID',
  'WATCHDOG_USEC',
  'LISTEN_PID',
  'LISTEN_FDS',
  'LISTEN_FDNAMES',
  'FORKBEARD_RUN_ID',
  'FORKBEARD_SERVICE',
]);

function environmentOf({ env = {}, inheritEnv = true, user }: CheckedService): Record<string, string> {
  // Our own home is none of another's.
  const others: readonly string[] = user === undefined ? [] : LOGIN;
  const isInherited = (name: string) =>
    !others.includes(name) &&
    (Array.isArray(inheritEnv) ? inheritEnv.includes(name) : inheritEnv && !OURS.has(name));
  const inherited = Object.entries(process.env).filter(
    (entry): entry is [string, string] => isInherited(entry[0]) && entry[1] !== undefined,
  );
  return { ...Object.fromEntries(inherited), ...(user === undefined ? {} : loginOf(user)), ...env };
}

function target(output: CheckedService['stdout'] = 'log', cwd: string): ServiceStdio {
  if (output === 'log') return 'relay';
  if (output === 'inherit' || output === 'ignore') return output;
  return { open: resolve(cwd, output.file), flags: 'a', mode: 0o644 } satisfies StdioTarget;
}

function settingsOf({ umask, nice, rlimits }: CheckedService) {
  const limits = Object.entries(rlimits ?? {}).map(([name, { soft, hard }]) => [
    name,
    hard === undefined ? { soft } : { soft, hard },
  ]);
  return {
    ...(umask === undefined ? {} : { umask }),
    ...(nice === undefined ? {} : { nice }),
    ...(limits.length === 0 ? {} : { rlimits: Object.fromEntries(limits) }),
  };
}

function readiness(asked: NonNullable<CheckedService['ready']>): NonNullable<ServicePlan['ready']> {
  const { every, failures, successes, ...settings } = { ...PROBE_DEFAULTS.ready, ...defined(asked) };
  // 0: not asked any more.
  return every === 0 ? settings : { ...settings, every, failures, successes };
}

function gateOf(gate: CheckedGate, cwd: string): GateSpec {
  const { port, host, unix, path, is = 'absent', exec, group, lock, name, check: isOpen } = gate;
  const limits = defined({ within: gate.within, onTimeout: gate.onTimeout });
  if (port !== undefined) return { port, ...(host === undefined ? {} : { host }), ...limits };
  if (unix !== undefined) return { unix: resolve(cwd, unix), ...limits };
  if (path !== undefined) return { path: resolve(cwd, path), is, ...limits };
  if (exec !== undefined) return { exec, ...limits };
  if (group !== undefined) return { group, ...limits };
  if (lock !== undefined) return { lock, ...limits };
  return { name: name as string, check: isOpen as () => boolean, ...limits };
}

type Defined<T> = { [Key in keyof T]: Exclude<T[Key], undefined> };

/** Without the keys that say nothing. */
function defined<T extends object>(given: T | undefined): Defined<T> {
  const entries = Object.entries(given ?? {}).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Defined<T>;
}
