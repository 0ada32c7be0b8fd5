/**
 * The server as others know it: which process it is (systemd's main process, the pid file), and that there is one such
 * at a time, though it may pass from a monitor to the next. A monitor that is upgraded is the service until its
 * successor is ready, one that was started for that is not before; what `upgrade.ts` has as two sides of one channel is
 * one question here, whether the service is ours.
 */

import { ServiceNotifier } from '../../daemon/systemd.ts';
import type { Loop } from '../../process/loop.ts';
import { stateError } from '../../sys/errors.ts';
import type { Plan } from '../plan.ts';
import { removePidFile, writePidFile } from './pid-file.ts';
import type { Standing } from './standing.ts';
import type { Timers } from './timers.ts';
import { type Handover, type Inherited, Upgrade } from './upgrade.ts';

export interface ServiceHost {
  onUpgradeStarted(pid: number): void;
  onUpgradeDone(pid: number): void;
  onUpgradeFailed(message: string): void;
  /** There is no successor any more. */
  onUpgradeCancelled(): void;
  onWarning(message: string): void;
}

export class Service {
  readonly #loop: Loop;
  readonly #plan: Plan;
  readonly #standing: Standing;
  readonly #host: ServiceHost;
  readonly #handover: Handover | undefined;
  readonly #notifier = new ServiceNotifier();
  /** Not before it was handed over to us, nor after we have handed it over. */
  #isOurs: boolean;
  #upgrade: Upgrade | undefined;

  constructor(loop: Loop, plan: Plan, standing: Standing, handover: Handover | undefined, host: ServiceHost) {
    this.#loop = loop;
    this.#plan = plan;
    this.#standing = standing;
    this.#handover = handover;
    this.#host = host;
    this.#isOurs = handover === undefined;
  }

  get isOurs(): boolean {
    return this.#isOurs;
  }

  /** A successor is starting, or not gone yet. */
  get isUpgrading(): boolean {
    return this.#upgrade !== undefined;
  }

  // ------------------------------------------------------------------------------- as the server goes on

  begin(timers: Timers): void {
    if (this.#isOurs) this.#writePidFile();
    this.#handover?.begin(this.#loop, () => this.#takeOver());
    const { watchdogInterval } = this.#notifier;
    if (watchdogInterval > 0) timers.every(watchdogInterval, () => this.#notifier.alive());
  }

  ready(): void {
    if (this.#isOurs) this.#notifier.ready(this.#standing.summary);
    else this.#handover?.ready();
  }

  reloading(): void {
    this.#notifier.reloading();
  }

  reloaded(): void {
    this.#notifier.ready(this.#standing.summary);
  }

  draining(): void {
    this.#notifier.status('Draining');
  }

  stopping(): void {
    if (this.#isOurs) this.#notifier.stopping();
    void this.#cancelUpgrade();
  }

  close(): void {
    this.#handover?.close();
    if (this.#plan.pidFile !== null && this.#isOurs) removePidFile(this.#plan.pidFile);
    this.#notifier.close();
  }

  /** The monitor before us has let go: the service is ours. */
  #takeOver(): void {
    if (this.#standing.isStopping) return;
    this.#isOurs = true;
    this.#writePidFile();
    this.#notifier.ready(this.#standing.summary);
  }

  #writePidFile(): void {
    const { pidFile } = this.#plan;
    if (pidFile === null) return;
    try {
      writePidFile(pidFile);
    } catch (error) {
      this.#host.onWarning(`The pid file could not be written: ${(error as Error).message}`);
    }
  }

  // ------------------------------------------------------------------------------- hot upgrade

  /** Starts a successor and hands over to it; rejected, and the service still ours, when there is none. */
  async upgrade(listeners: readonly Inherited[], command?: readonly [string, ...string[]]): Promise<void> {
    if (this.#upgrade !== undefined) {
      throw stateError('UPGRADE_RUNNING', `An upgrade runs already, to process ${this.#upgrade.pid}`);
    }
    try {
      const upgrade = Upgrade.begin(this.#loop, listeners, this.#plan, command);
      this.#upgrade = upgrade;
      const { pid } = upgrade;
      this.#host.onUpgradeStarted(pid);
      await upgrade.ready;
      this.#standing.checkRunning();
      this.#notifier.mainPid(pid);
      this.#isOurs = false;
      this.#upgrade = undefined;
      upgrade.handOver();
      this.#host.onUpgradeDone(pid);
    } catch (error) {
      await this.#cancelUpgrade();
      this.#host.onUpgradeFailed((error as Error).message);
      throw error;
    }
  }

  /** The successor is gone afterwards, so that it never is one monitor too many. */
  async #cancelUpgrade(): Promise<void> {
    await this.#upgrade?.cancel();
    this.#upgrade = undefined;
    this.#host.onUpgradeCancelled();
  }
}
