/**
 * A worker's life: it boots the application, says that it is ready, serves, and leaves. The same for workers that a mold
 * forked and for those that were spawned; mold.ts and entry.ts make them. Everything that ends a worker comes through
 * `#leave`, `#endQuickly` or endings.ts.
 */
import type { Server } from 'node:net';
import { type Lifeline, startLifeline } from '../../process/lifeline.ts';
import type { Loop } from '../../process/loop.ts';
import { close } from '../../sys/index.ts';
import type { Channel } from '../channel.ts';
import type { WorkerInfo } from '../contract.ts';
import { EXIT } from '../exit-codes.ts';
import type { FromWorker, Place, ToWorker } from '../messages.ts';
import type { Plan } from '../plan.ts';
import { type Entry, fieldOffset, monotonic, type Scoreboard, textOffset } from '../scoreboard.ts';
import type { Application, Serving } from './application.ts';
import { Attachment } from './attachment.ts';
import { depart, type Leaving, sessionsOf } from './departure.ts';
import {
  codeOfBoot,
  codeOfFork,
  codeOfUncaught,
  endWhenUncaught,
  failure,
  lostOnTheWay,
  troubleOfBoot,
} from './endings.ts';
import { Fairness } from './fairness.ts';
import { Permits } from './permits.ts';
import { promotable, promote } from './promotion.ts';
import { Pulse } from './pulse.ts';
import { Requests } from './requests.ts';

/** What requests in flight get when the monitor is gone. ms */
const WITHOUT_MONITOR = 5000;
/** The monitor ends a worker that does not leave in time, and tells that so; it gets this long to do it. ms */
const AFTER_LIMIT = 1000;
/** A share that is uneven is evened out in so many beats, not at once. */
const BEATS_TO_EVEN_OUT = 5;

export interface WorkerOptions {
  loop: Loop;
  channel: Channel<ToWorker, FromWorker>;
  board: Scoreboard;
  /** Its descriptor. */
  boardFd: number;
  /** Descriptors. */
  listeners: readonly number[];
  plan: Plan;
  place: Place;
  method: 'fork' | 'spawn';
  /** Loaded by the mold already, or still to be loaded. */
  application: Application | (() => Promise<Application>);
}

interface AtWork {
  application: Application;
  serving: Serving;
  attachment: Attachment;
  requests: Requests;
  pulse: Pulse;
  leave: Omit<Leaving, 'patient'>;
}

type Stage = 'booting' | 'serving' | 'leaving';

export class Worker {
  readonly #options: WorkerOptions;
  readonly #info: WorkerInfo;
  readonly #entry: Entry;
  readonly #name: string;
  #stage: Stage = 'booting';
  #work: AtWork | undefined;
  #lifeline: Lifeline | undefined;
  /** What it leaves with; the last reason counts. */
  #code: number = EXIT.drained;
  #tired = false;
  #bornAt = monotonic();
  /** What `start` has done to this process. */
  readonly #marks: (() => void)[] = [];

  constructor(options: WorkerOptions) {
    const { place, method, board, plan } = options;
    this.#options = options;
    this.#info = { id: place.worker, pid: process.pid, generation: place.generation, method };
    this.#entry = board.entry(place.entry);
    this.#name = `forkbeard: worker ${place.worker} gen ${place.generation} [${plan.title}]`;
  }

  /** What goes wrong is told to the monitor, and ends this process. */
  async start(): Promise<void> {
    process.title = this.#name;
    process.env['FORKBEARD_WORKER'] = String(this.#info.id);
    this.#entry.set('pid', this.#info.pid);
    this.#entry.set('beat', monotonic());
    this.#options.channel.send({ type: 'hello', pid: this.#info.pid });
    this.#heedSignals();
    this.#tieLifeline();
    this.#marks.push(
      endWhenUncaught(this.#name, (error) =>
        this.#stage === 'booting' ? this.#tellFailure(error) : codeOfUncaught(error),
      ),
    );
    try {
      await this.#boot();
    } catch (error) {
      // Of onReady, say: nobody has caught it.
      if (this.#stage !== 'booting') throw error;
      process.exit(this.#tellFailure(error));
    }
  }

  onMessage(message: ToWorker, descriptors: number[]): void {
    switch (message.type) {
      case 'stop':
        if (message.how === 'quick') this.#endQuickly();
        else {
          const code = message.recycled ? EXIT.recycled : EXIT.drained;
          void this.#leave(code, { grace: AFTER_LIMIT, patient: message.patient === true });
        }
        break;
      case 'promote': {
        const fd = descriptors.shift();
        if (fd === undefined) this.#tellNotPromoted(lostOnTheWay());
        else void this.#promote(message.title, fd);
        break;
      }
      case 'reopen':
        // What programs that open their logs anew listen for; nothing is sent to one that does not.
        process.emit('SIGUSR1', 'SIGUSR1');
        break;
    }
    for (const fd of descriptors) close(fd);
  }

  /** The monitor is gone. */
  onEnd(): void {
    this.#code = EXIT.lostMonitor;
    void this.#leave(EXIT.lostMonitor, { limit: WITHOUT_MONITOR });
  }

  /** For a rehearsal, whose process goes on: nothing of this worker is left in it. */
  dispose(): void {
    this.#stage = 'leaving';
    for (const undo of this.#marks.splice(0)) undo();
    this.#lifeline?.stop();
    const { attachment, pulse, requests, serving } = this.#work ?? {};
    attachment?.stop();
    pulse?.stop();
    requests?.disown();
    serving?.server.close();
  }

  /** Ends this process with its monitor even if its loop stands still, and speaks for it then. */
  #tieLifeline(): void {
    const { channel, board, boardFd, place } = this.#options;
    this.#lifeline?.stop();
    this.#lifeline = undefined;
    try {
      this.#lifeline = startLifeline({
        fd: channel.fd,
        grace: WITHOUT_MONITOR + AFTER_LIMIT,
        code: EXIT.lostMonitor,
        memory: {
          fd: boardFd,
          bytes: board.memory.byteLength,
          request: fieldOffset(place.entry, 'stackRequest'),
          stack: textOffset(place.entry, 'stack'),
          nearHeapLimit: fieldOffset(place.entry, 'nearHeapLimit'),
        },
      });
    } catch {
      // Without a descriptor for it, or a thread, it still sees in its event loop that the monitor is gone.
    }
  }

  // ------------------------------------------------------------------------------------------ boot

  async #boot(): Promise<void> {
    const { channel, method } = this.#options;
    const application = await this.#application();
    if (method === 'fork') application.settleIn();
    await application.hooks.afterFork?.(this.#info);
    const serving = await application.serve(this.#info);
    if (this.#stage !== 'booting') return;
    this.#work = this.#attach(application, serving);
    this.#stage = 'serving';
    channel.send({ type: 'ready' });
    serving.server.emit('listening');
    await application.hooks.onReady?.(this.#info);
  }

  async #application(): Promise<Application> {
    const { application } = this.#options;
    return typeof application === 'function' ? application() : application;
  }

  #tellFailure(error: unknown): number {
    const { channel, plan } = this.#options;
    const trouble = troubleOfBoot(error, plan);
    const code = codeOfBoot(trouble);
    channel.send({ type: 'failed', error: failure(trouble, code) });
    return code;
  }

  #attach(application: Application, serving: Serving): AtWork {
    const { loop, channel, board, listeners, plan } = this.#options;
    const { server } = serving;
    const entry = this.#entry;
    const permits = new Permits(server, plan);
    const requests = new Requests(server, entry, {
      onBegin: (socket) => {
        permits.settled(socket);
        this.#countDown();
      },
      onEnd: () => attachment.reconsider(),
      onSlow: (request) => {
        channel.send({ type: 'slow-request', ...request });
        application.hooks.onRequestTimeout?.(request, this.#info);
      },
    });
    const sessions = sessionsOf(server);
    // With a listener of its own, nobody can go first.
    const fairness = new Fairness(entry, plan.reusePort ? [] : board.all());
    const attachment = new Attachment({
      loop,
      server,
      listeners,
      entry,
      fairness,
      lack: (connections) => permits.lack(connections, requests.inFlight),
      onAccepted: (socket) => permits.accepted(socket),
      onClosed: (socket) => permits.settled(socket),
      onPaused: () => channel.send({ type: 'paused', reason: 'descriptors' }),
      onResumed: () => channel.send({ type: 'resumed' }),
    });
    const pulse = new Pulse(entry, () => {
      requests.review(plan.requestTimeout);
      permits.review();
      attachment.reconsider();
      requests.part(Math.ceil(fairness.surplus / BEATS_TO_EVEN_OUT));
      this.#age();
    });
    const leave = {
      server: server as Server,
      attachment,
      requests,
      sessions,
      onStop: () => application.hooks.onStop?.(this.#info),
      onEmpty: () => serving.close?.(),
      limit: plan.gracefulTimeout,
    };
    return { application, serving, attachment, requests, pulse, leave };
  }

  // -------------------------------------------------------------------------------------- limits of its own

  #countDown(): void {
    const { maxRequests } = this.#options.place;
    if (maxRequests > 0 && this.#work !== undefined && this.#work.requests.served >= maxRequests)
      this.#tire('requests');
  }

  #age(): void {
    const { maxLifetime } = this.#options.place;
    if (maxLifetime > 0 && monotonic() - this.#bornAt >= maxLifetime) this.#tire('lifetime');
  }

  /** It serves on until its replacement is ready and the monitor says stop. */
  #tire(reason: 'requests' | 'lifetime'): void {
    if (this.#tired || this.#stage !== 'serving') return;
    this.#tired = true;
    this.#options.channel.send({ type: 'tired', reason });
  }

  // --------------------------------------------------------------------------------------- as a pattern

  async #promote(title: string, fd: number): Promise<void> {
    const { channel } = this.#options;
    try {
      if (this.#work === undefined || this.#stage !== 'serving')
        throw new Error(`This worker is ${this.#stage}`);
      const { application, requests, attachment } = this.#work;
      await promotable(this.#options.loop, requests);
      // A thread of ours, which the copy would be without.
      this.#lifeline?.stop();
      const pid = await promote({ ...this.#options, fd, title, application, requests, attachment });
      channel.send({ type: 'promoted', pid });
    } catch (error) {
      this.#tellNotPromoted(error);
    }
    close(fd);
    this.#tieLifeline();
  }

  #tellNotPromoted(error: unknown): void {
    this.#options.channel.send({ type: 'not-promoted', error: failure(error, codeOfFork(error)) });
  }

  // ------------------------------------------------------------------------------------------ the end

  #heedSignals(): void {
    const { loop, channel } = this.#options;
    const heed = (signal: string, act: () => void) => {
      const watcher = loop.watchSignal(signal, act).unref();
      this.#marks.push(() => watcher.stop());
    };
    heed('SIGTERM', () => {
      channel.send({ type: 'leaving' });
      void this.#leave(EXIT.drained);
    });
    for (const signal of ['SIGINT', 'SIGQUIT']) heed(signal, () => this.#endQuickly());
  }

  /** `grace`: how long after the limit this process ends itself. */
  async #leave(
    code: number,
    { grace = 0, limit, patient = false }: { grace?: number; limit?: number; patient?: boolean } = {},
  ): Promise<void> {
    if (this.#stage === 'leaving') return;
    const work = this.#work;
    this.#stage = 'leaving';
    if (this.#code !== EXIT.lostMonitor) this.#code = code;
    if (work !== undefined) {
      const leave = { ...work.leave, patient, limit: (limit ?? work.leave.limit) + grace };
      await depart(leave);
      work.pulse.stop();
    }
    process.exit(this.#code);
  }

  #endQuickly(): void {
    this.#stage = 'leaving';
    process.exit(EXIT.drained);
  }
}
