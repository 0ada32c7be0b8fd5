/**
 * A monitor of the least kind, for tests of molds and workers: it binds a listener, starts processes of the application
 * with what they inherit, and lets a test say and hear each message of their channels. It decides nothing.
 */
import { EventEmitter, once } from 'node:events';
import {
  type ClientRequest,
  request as httpRequest,
  type IncomingHttpHeaders,
  type RequestOptions,
} from 'node:http';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { becomeSubreaper, type ExitStatus, Loop, type SpawnOptions, sharedMemory, sys } from 'forkbeard';
import { afterEach } from 'vitest';
import { Channel, channelPair } from '../../dist/prefork/channel.js';
import type { FromMold, FromWorker, Place, ToMold, ToWorker } from '../../dist/prefork/messages.js';
import type { Plan } from '../../dist/prefork/plan.js';
import { boardSize, type Entry, Scoreboard } from '../../dist/prefork/scoreboard.js';
import { workerEntry } from '../../dist/prefork/worker/inheritance.js';

const slow = Number(process.env['FORKBEARD_TEST_SLOW'] ?? 1);
/** Generous: only a failure takes this long. */
export const PATIENCE = 30_000 * slow;

const ENTRIES = 16;

export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

export type Method = 'fork' | 'spawn';
export const methods: Method[] = ['fork', 'spawn'];

export const plain: Plan = {
  application: '',
  title: 'app',
  workers: 1,
  listen: [{ kind: 'tcp', host: '127.0.0.1', port: 0 }],
  spawnMethod: 'auto',
  reusePort: false,
  backlog: 2048,
  bootTimeout: 30_000,
  gracefulTimeout: 10_000,
  blockedTimeout: 0,
  requestTimeout: 0,
  maxConnections: 0,
  maxRequestsInFlight: 0,
  maxRequests: 0,
  maxLifetime: 0,
  maxMemory: 0,
  jitter: 0,
  reforkAfter: [],
  control: false,
  metrics: null,
  pidFile: null,
  envFiles: [],
  env: {},
  uid: null,
  gid: null,
  groups: null,
  umask: null,
  rlimits: {},
  cwd: process.cwd(),
  logFormat: 'json',
  logFile: null,
};

/** A process, whatever is said to it. */
interface Living {
  readonly exited: Promise<ExitStatus>;
  readonly gone: boolean;
  pid: number;
  ended(exit: ExitStatus): void;
}

/** One process of the application: what it said, and its end. */
export class Peer<In extends { type: string }, Out> implements Living {
  readonly heard: In[] = [];
  readonly exited: Promise<ExitStatus>;
  pid = 0;
  readonly #channel: Channel<In, Out>;
  #settle: (exit: ExitStatus) => void = () => {};
  #waiting: { type: string; resolve: (message: In) => void }[] = [];
  #ended = false;

  constructor(loop: Loop, fd: number) {
    this.exited = new Promise((resolve) => {
      this.#settle = (exit) => {
        this.#ended = true;
        resolve(exit);
      };
    });
    this.#channel = new Channel<In, Out>(loop, fd, {
      onMessage: (message) => {
        this.heard.push(message);
        this.#waiting = this.#waiting.filter(({ type, resolve }) => {
          if (type === message.type) resolve(message);
          return type !== message.type;
        });
      },
      onEnd: () => {},
    });
  }

  ended(exit: ExitStatus): void {
    this.#settle(exit);
  }

  get gone(): boolean {
    return this.#ended;
  }

  say(message: Out, give: number[] = []): void {
    this.#channel.send(message, give);
  }

  /** The first message of that type, past or to come. */
  hears<T extends In['type']>(type: T): Promise<Extract<In, { type: T }>> {
    const past = this.heard.find((message) => message.type === type);
    const message = past
      ? Promise.resolve(past)
      : new Promise<In>((resolve) => this.#waiting.push({ type, resolve }));
    return patiently(
      message as Promise<Extract<In, { type: T }>>,
      () => `no ${type} after ${JSON.stringify(this.heard)}`,
    );
  }

  /** Its exit code, or the signal that ended it. */
  async end(): Promise<number | string | null> {
    const { exitCode, signal } = await patiently(
      this.exited,
      () => `${this.pid} lives, after ${JSON.stringify(this.heard)}`,
    );
    return exitCode ?? signal;
  }

  /** As if the monitor had died. */
  desert(): void {
    this.#channel.close();
  }
}

export type MoldPeer = Peer<FromMold, ToMold>;
export class WorkerPeer extends Peer<FromWorker, ToWorker> {
  readonly place: Place;
  readonly entry: Entry;

  constructor(loop: Loop, fd: number, place: Place, entry: Entry) {
    super(loop, fd);
    this.place = place;
    this.entry = entry;
  }
}

export class TinyMonitor {
  readonly loop = new Loop();
  readonly plan: Plan;
  readonly listener: number;
  readonly url: string;
  readonly port: number;
  readonly board: Scoreboard;
  readonly #boardFd: number;
  readonly #peers: Living[] = [];
  readonly #heard = new EventEmitter();
  /** What all of its processes wrote there. */
  stderr = '';
  #mold: MoldPeer | undefined;
  #workers = 0;

  /** Of the processes that are started from now on. */
  settings: Pick<SpawnOptions, 'rlimits' | 'uid' | 'gid' | 'groups' | 'env'> = {};

  constructor(application: string, plan: Partial<Plan> = {}) {
    becomeSubreaper();
    this.plan = { ...plain, application: pathToFileURL(fixture(application)).href, ...plan };
    this.listener = sys.listen({ host: '127.0.0.1', port: 0 }, { backlog: this.plan.backlog });
    const { port } = sys.localAddress(this.listener) as { port: number };
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    const { fd, memory } = sharedMemory(boardSize(ENTRIES));
    this.#boardFd = fd;
    this.board = new Scoreboard(memory);
  }

  mold(generation = 1): MoldPeer {
    const peer: MoldPeer = this.#start((fd) => new Peer<FromMold, ToMold>(this.loop, fd));
    peer.say({
      type: 'be-mold',
      plan: this.plan,
      generation,
      title: `forkbeard: mold gen ${generation} [app]`,
    });
    this.#mold = peer;
    return peer;
  }

  /** A worker that is ready. Forked by the mold that was started last, or a first one. */
  async worker(method: Method, limits: Partial<Place> = {}): Promise<WorkerPeer> {
    const worker = await this.begin(method, limits);
    await worker.hears('ready');
    return worker;
  }

  /** A worker that has just been told to be one. */
  async begin(method: Method, limits: Partial<Place> = {}): Promise<WorkerPeer> {
    const entry = this.board.take() as Entry;
    this.#workers++;
    const place: Place = {
      worker: this.#workers,
      generation: 1,
      entry: entry.index,
      maxRequests: 0,
      maxLifetime: 0,
      ...limits,
    };
    if (method === 'spawn') {
      const peer = this.#start((fd) => new WorkerPeer(this.loop, fd, place, entry));
      peer.say({ type: 'be-worker', plan: this.plan, place });
      return peer;
    }
    const mold = this.#mold ?? this.mold();
    await mold.hears('loaded');
    return this.fork(mold, place, entry);
  }

  /** `own`: listeners for this worker alone. */
  async fork(mold: MoldPeer, place: Place, entry: Entry, own: number[] = []): Promise<WorkerPeer> {
    const [mine, theirs] = channelPair();
    const worker = new WorkerPeer(this.loop, mine, place, entry);
    this.#peers.push(worker);
    mold.say({ type: 'fork', place }, [theirs, ...own]);
    const { pid } = await worker.hears('hello');
    this.watch(worker, pid);
    return worker;
  }

  /** A process that came to us by a detached fork. */
  watch(peer: Living, pid: number): void {
    peer.pid = pid;
    this.loop.watchProcess(pid, (exit) => peer.ended(exit)).unref();
  }

  /** The mold's end for a worker that is promoted. */
  adopt(): { mold: MoldPeer; theirs: number } {
    const [mine, theirs] = channelPair();
    const mold: MoldPeer = new Peer<FromMold, ToMold>(this.loop, mine);
    this.#peers.push(mold);
    this.#mold = mold;
    return { mold, theirs };
  }

  /** True once one of its processes has written that to stderr. */
  async said(text: string): Promise<boolean> {
    while (!this.stderr.includes(text))
      await patiently(once(this.#heard, 'text'), () => `nobody said ${text}, but ${this.stderr}`);
    return true;
  }

  #start<P extends Living>(make: (fd: number) => P): P {
    const [mine, theirs] = channelPair();
    const peer = make(mine);
    const child = this.loop.spawn({
      command: [process.execPath, workerEntry],
      stdio: { 0: 'ignore', 2: 'pipe', 3: theirs, 4: this.#boardFd, 5: this.listener },
      group: 'new',
      ...this.settings,
      onExit: (exit) => peer.ended(exit),
    });
    sys.close(theirs);
    child.stderr?.setEncoding('utf8').on('data', (text) => {
      this.stderr += text;
      this.#heard.emit('text');
    });
    this.#peers.push(peer);
    peer.pid = child.pid;
    return peer;
  }

  async close(): Promise<void> {
    const living = this.#peers.filter((peer) => !peer.gone && peer.pid > 0);
    for (const { pid } of living) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It went by itself.
      }
    }
    await Promise.all(living.map((peer) => peer.exited));
    sys.close(this.listener);
    sys.close(this.#boardFd);
    this.loop.close();
  }
}

/** A tiny monitor for each test of a file. */
export function monitorForEach(): (application: string, plan?: Partial<Plan>) => TinyMonitor {
  let made: TinyMonitor[] = [];
  afterEach(async () => {
    const all = made;
    made = [];
    for (const monitor of all) await monitor.close();
  });
  return (application, plan) => {
    const monitor = new TinyMonitor(application, plan);
    made.push(monitor);
    return monitor;
  };
}

export async function patiently<T>(promise: Promise<T>, what: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Still waiting: ${what()}`)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Looks again and again, in turns of the event loop of their own. */
export async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`Still waiting until ${done}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

/** One request; `agent: false` unless told otherwise, so a connection of its own. */
export async function ask(url: string, options: RequestOptions = {}): Promise<Answer> {
  return answer(httpRequest(url, { agent: false, ...options }).end());
}

export async function answer(request: ClientRequest): Promise<Answer> {
  const [response] = await patiently(once(request, 'response'), () => `no answer to ${request.path}`);
  let body = '';
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, headers: response.headers, body };
}
