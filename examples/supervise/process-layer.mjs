// forkbeard as the process layer of somebody else's supervisor: that one decides what runs and what follows from an end;
// this one starts, stops and tells, and sees to it that there is never a second instance, that a stop ends all of the
// service's processes, and that nothing is left when whoever used it is killed.
import { once } from 'node:events';
import { Supervisor } from 'forkbeard/supervisor';

/**
 * What such supervisors want to have below them.
 * @typedef {{ start(name: string, command: string[], environment?: Record<string, string>): Promise<number>,
 *   stop(name: string): Promise<void>,
 *   onExit: (name: string, code: number | null, signal: string | null) => void }} ProcessLayer
 */

/** @implements {ProcessLayer} */
export class ForkbeardLayer {
  #services = new Map();
  #stateDir;
  /** Of each end, a stop's as well. */
  onExit = () => {};

  /** @param {string} stateDir where locks and records are: one for all who shall not start the same service twice */
  constructor(stateDir) {
    this.#stateDir = stateDir;
  }

  /** Gives its pid. Rejected with the error of the system, and its step, when it cannot be started. */
  async start(name, command, environment = {}) {
    if (this.#services.has(name)) throw new Error(`${name} runs already`);
    const supervisor = new Supervisor({
      stateDir: this.#stateDir,
      // Whether it is started again is not decided here.
      services: { [name]: { command, env: environment, restart: 'temporary' } },
    });
    this.#services.set(name, supervisor);
    supervisor.on('exit', ({ exit }) => {
      // When nothing of it is left, and not before, its place is free.
      const free = ({ to }) => {
        if (to !== 'done' && to !== 'down') return;
        supervisor.off('state', free);
        this.#services.delete(name);
        this.onExit(name, exit.exitCode, exit.signal);
      };
      supervisor.on('state', free);
    });
    const started = once(supervisor, 'started').then(([{ pid }]) => pid);
    const found = supervisor.startService(name).then(async ({ pid, owned }) => {
      if (owned) return pid;
      await supervisor.stopService(name);
      throw new Error(`${name} runs already, as process ${pid} of another supervisor`);
    });
    try {
      // What ends as soon as it runs has been started, and its end is told.
      return await Promise.race([started, found]);
    } catch (error) {
      this.#services.delete(name);
      throw error;
    }
  }

  /** Fulfilled when all that it has started is gone. */
  async stop(name) {
    const { survivors } = (await this.#services.get(name)?.stopService(name)) ?? { survivors: [] };
    if (survivors.length > 0) throw new Error(`${name} cannot be ended: ${survivors.join(', ')} are left`);
  }
}

/** Somebody else's supervisor: knows nothing of processes, restarts what fails, three times. */
export class Foreman {
  #layer;
  #jobs = new Map();
  onGivenUp = () => {};

  /** @param {ProcessLayer} layer */
  constructor(layer) {
    this.#layer = layer;
    layer.onExit = (name, code) => this.#ended(name, code);
  }

  async run(name, command) {
    this.#jobs.set(name, { command, failures: 0 });
    return this.#layer.start(name, command);
  }

  async dismiss(name) {
    this.#jobs.delete(name);
    await this.#layer.stop(name);
  }

  #ended(name, code) {
    const job = this.#jobs.get(name);
    if (job === undefined || code === 0) return;
    job.failures++;
    if (job.failures > 3) this.onGivenUp(name);
    else this.#layer.start(name, job.command).catch(() => this.#ended(name, null));
  }
}
