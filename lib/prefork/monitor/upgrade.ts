/**
 * Hot upgrade: a monitor starts its own successor, perhaps of another version or on another Node, with the listeners
 * inherited. The successor says when all its workers are ready; then the service is handed over, and the old monitor
 * drains. Until then the old one serves as ever, and if the successor ends, or takes too long, nothing has happened.
 * `Upgrade` is the old monitor's side, `Handover` the new one's.
 */
import type { ListenTarget } from '../../daemon/listen.ts';
import type { SpawnedProcess } from '../../process/contract.ts';
import type { Loop } from '../../process/loop.ts';
import { stateError } from '../../sys/errors.ts';
import { close } from '../../sys/index.ts';
import { Channel, channelPair } from '../channel.ts';
import type { Plan } from '../plan.ts';
import { deadline } from './patience.ts';

/** A socket that is handed over, and the target that it is for. */
export interface Inherited {
  target: string;
  fd: number;
}

/** What a successor is told of its predecessor when it starts. */
interface Announced {
  channel: number;
  listeners: Inherited[];
  /** The path of its control socket. */
  control: string | false;
  /** Where its metrics are. */
  metrics: ListenTarget | null;
}

/** Where the successor finds it, as JSON. */
const VARIABLE = 'FORKBEARD_UPGRADE';
const CHANNEL = 3;
const FIRST_LISTENER = 4;
/** What a successor that is not wanted any more gets to end its workers. ms */
const CANCEL_GRACE = 3000;
/** Beyond what its mold and its workers may take to boot. ms */
const MARGIN = 5000;

type Environment = Readonly<Record<string, string | undefined>>;

type FromSuccessor = { type: 'ready' };
type ToSuccessor = { type: 'yours' };

export class Upgrade {
  /** Fulfilled when the successor's workers are ready; rejected when that will not be. */
  readonly ready: Promise<void>;
  readonly #child: SpawnedProcess;
  readonly #channel: Channel<unknown, ToSuccessor>;
  readonly #timeout: Disposable;

  /** Throws what keeps a successor from being started. */
  static begin(
    loop: Loop,
    listeners: readonly Inherited[],
    plan: Plan,
    command: readonly [string, ...string[]] = ownCommand(),
  ): Upgrade {
    if (process.pid === 1) {
      throw stateError(
        'UPGRADE_PID_1',
        'Process 1 cannot be upgraded: with its end everything here ends. Replace the container instead',
      );
    }
    return new Upgrade(loop, listeners, plan, command);
  }

  private constructor(
    loop: Loop,
    listeners: readonly Inherited[],
    plan: Plan,
    command: readonly [string, ...string[]],
  ) {
    const [ours, theirs] = channelPair();
    let reject: (error: Error) => void = () => {};
    let resolve: () => void = () => {};
    this.ready = new Promise((fulfil, refuse) => {
      resolve = fulfil;
      reject = refuse;
    });
    this.ready.catch(() => {});
    const renumbered = listeners.map(({ target }, index) => ({ target, fd: FIRST_LISTENER + index }));
    const { control, metrics } = plan;
    const handover: Announced = { channel: CHANNEL, listeners: renumbered, control, metrics };
    try {
      this.#child = loop.spawn({
        command,
        stdio: Object.fromEntries(
          [theirs, ...listeners.map(({ fd }) => fd)].map((fd, i) => [CHANNEL + i, fd]),
        ),
        env: { ...process.env, [VARIABLE]: JSON.stringify(handover) },
        onExit: ({ exitCode, signal }) =>
          reject(
            new Error(
              `The new monitor ended (${signal ?? `exit code ${exitCode}`}) before it was ready; the log says why`,
            ),
          ),
      });
    } catch (error) {
      close(ours);
      throw error;
    } finally {
      close(theirs);
    }
    this.#channel = new Channel<unknown, ToSuccessor>(loop, ours, {
      onMessage: (message, descriptors) => {
        for (const fd of descriptors) close(fd);
        if ((message as FromSuccessor | null)?.type === 'ready') resolve();
      },
      // Its end says more.
      onEnd: () => {},
    });
    this.#timeout = deadline(loop, 2 * plan.bootTimeout + MARGIN, () =>
      reject(new Error('The new monitor was not ready in time')),
    );
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** The service is the successor's from now on. */
  handOver(): void {
    this.#channel.send({ type: 'yours' });
    this.#finish();
    this.#child.unref();
  }

  /** Fulfilled when the successor has ended, whatever it was about. */
  async cancel(): Promise<void> {
    const ended = this.#child.stop({ graceMs: CANCEL_GRACE });
    this.#finish();
    await ended.catch(() => {});
  }

  #finish(): void {
    this.#timeout[Symbol.dispose]();
    this.#channel.close();
  }
}

export class Handover {
  readonly listeners: readonly Inherited[];
  readonly #channel: number;
  #open: Channel<unknown, FromSuccessor> | undefined;

  /** What a monitor that hands over has left for us: once. */
  static received(): Handover | undefined {
    const handover = announced(process.env);
    delete process.env[VARIABLE];
    return handover === undefined ? undefined : new Handover(handover.channel, handover.listeners);
  }

  private constructor(channel: number, listeners: readonly Inherited[]) {
    this.#channel = channel;
    this.listeners = listeners;
  }

  /** `onOurs`: the service is ours, because the other says so or is gone. */
  begin(loop: Loop, onOurs: () => void): void {
    const ours = () => {
      this.close();
      onOurs();
    };
    this.#open = new Channel<unknown, FromSuccessor>(loop, this.#channel, {
      onMessage: (_, descriptors) => {
        for (const fd of descriptors) close(fd);
        ours();
      },
      onEnd: ours,
    });
  }

  ready(): void {
    this.#open?.send({ type: 'ready' });
  }

  close(): void {
    this.#open?.close();
  }
}

/** The descriptors by number that a successor listens on like the monitor before it. */
export function announcedDescriptors(env: Environment): number[] {
  const targets = announced(env)?.listeners.map(({ target }) => /^fd:\/\/(\d+)$/.exec(target)?.[1]) ?? [];
  return targets.filter((fd) => fd !== undefined).map(Number);
}

/** The control socket of the monitor before it: a successor has the same one, unless it is told another. */
export function announcedControl(env: Environment): string | false | undefined {
  return announced(env)?.control;
}

/** Whether the monitor before it has that address for its metrics, so that it will be free. */
export function willBeFree(env: Environment, { kind, ...target }: ListenTarget): boolean {
  const metrics = announced(env)?.metrics;
  if (metrics?.kind !== kind) return false;
  // Another address of the same port may be the same one: 0.0.0.0 has all of them.
  const place = (at: object) => ('port' in at ? at.port : 'path' in at ? at.path : undefined);
  return place(metrics) === place(target);
}

function announced(env: Environment): Announced | undefined {
  const text = env[VARIABLE];
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as Announced;
  } catch {
    return undefined;
  }
}

function ownCommand(): [string, ...string[]] {
  return [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
}
