/** A supervisor that is stopped with its test, and what it has told. */
import { Supervisor, type SupervisorEvent, type SupervisorOptions } from 'forkbeard/supervisor';
import { onTestFinished } from 'vitest';
import { folder, within } from './support.ts';

type Name = SupervisorEvent['event'];
type Of<N extends Name> = Extract<SupervisorEvent, { event: N }>;

export const sleeper = { command: ['sleep', '1000'], backoff: { min: 10, max: 50 } } as const;
export const script = (text: string) => ({
  command: ['/bin/sh', '-c', text],
  backoff: { min: 10, max: 50 },
});

export class Overseen {
  readonly events: SupervisorEvent[] = [];
  readonly it: Supervisor;
  readonly stateDir: string;
  #changed = new Set<() => void>();

  constructor(options: SupervisorOptions, around: ConstructorParameters<typeof Supervisor>[1] = {}) {
    this.stateDir = options.stateDir ?? folder();
    this.it = new Supervisor({ ...options, stateDir: this.stateDir }, around);
    this.it.on('event', (event) => {
      this.events.push(event);
      for (const changed of this.#changed) changed();
    });
    onTestFinished(async () => {
      await this.it.stop();
    });
  }

  of<N extends Name>(name: N, service?: string): Of<N>[] {
    return this.events.filter(
      (one) => one.event === name && (service === undefined || ('service' in one && one.service === service)),
    ) as Of<N>[];
  }

  async nth<N extends Name>(name: N, service: string | undefined, count = 1): Promise<Of<N>> {
    const holds = () => this.of(name, service).length >= count;
    let changed = () => {};
    const met = new Promise<void>((resolve) => {
      changed = () => {
        if (holds()) resolve();
      };
      this.#changed.add(changed);
      changed();
    });
    await within(`${count} ${name} of ${service}; so far ${JSON.stringify(this.events)}`, met).finally(() =>
      this.#changed.delete(changed),
    );
    return this.of(name, service)[count - 1] as Of<N>;
  }

  /** Services, in the order in which they told that. */
  order(name: Name): string[] {
    return this.of(name).flatMap((one) => ('service' in one ? [one.service] : []));
  }

  pid(service: string): number {
    return this.it.status().services[service]?.pid as number;
  }

  state(service: string): string | undefined {
    return this.it.status().services[service]?.state;
  }
}
