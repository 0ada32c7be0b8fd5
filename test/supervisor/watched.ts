/** A service with a starter of its own, stopped with its test, and what it has told. */
import { Loop } from 'forkbeard';
import { onTestFinished } from 'vitest';
import { Service } from '../../dist/supervisor/service.js';
import type { ServiceEvent, ServiceOptions } from '../../dist/supervisor/service-options.js';
import { StateDirectory } from '../../dist/supervisor/state.js';
import { environment, folder, shell, within } from './support.ts';

const loop = Loop.current();

type Of<Name extends ServiceEvent['event']> = Extract<ServiceEvent, { event: Name }>;

export class Watched {
  readonly events: ServiceEvent[] = [];
  readonly state: StateDirectory;
  readonly it: Service;
  text = '';
  #changed = new Set<() => void>();

  constructor(script: string, more: Partial<ServiceOptions> = {}, path = folder()) {
    this.state = new StateDirectory(path);
    const options: ServiceOptions = {
      name: 'x',
      command: shell(script),
      env: environment({ STATE: path }),
      stdio: { stdout: 'relay', stderr: 'relay' },
      restart: {
        type: 'permanent',
        backoff: { min: 20, max: 100, jitter: 0, resetAfter: 60_000 },
        intensity: { restarts: 5, within: 60_000 },
      },
      ready: null,
      live: null,
      gates: [{ group: 'empty' }, { lock: 'free' }],
      gateTimeout: 5000,
      onGateTimeout: 'fail',
      stop: [
        { signal: 'TERM', wait: 500 },
        { signal: 'KILL', wait: 5000 },
      ],
      ...more,
    };
    this.it = new Service(options, {
      loop,
      state: this.state,
      onEvent: (event) => {
        this.events.push(event);
        for (const changed of this.#changed) changed();
      },
      onOutput: (_stream, data) => {
        this.text += data;
        for (const changed of this.#changed) changed();
      },
    });
    onTestFinished(async () => {
      await this.it.stop();
    });
  }

  of<Name extends ServiceEvent['event']>(name: Name): Of<Name>[] {
    return this.events.filter(({ event }) => event === name) as Of<Name>[];
  }

  get states(): string[] {
    return this.of('state').map(({ to }) => to);
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    if (holds()) return;
    let changed = () => {};
    const met = new Promise<void>((resolve) => {
      changed = () => {
        if (holds()) resolve();
      };
      this.#changed.add(changed);
    });
    await within(`${what}; so far ${JSON.stringify(this.events)}`, met).finally(() =>
      this.#changed.delete(changed),
    );
  }

  async nth<Name extends ServiceEvent['event']>(name: Name, count = 1): Promise<Of<Name>> {
    await this.until(`${count} ${name}`, () => this.of(name).length >= count);
    return this.of(name)[count - 1] as Of<Name>;
  }

  says(text: string): Promise<void> {
    return this.until(text, () => this.text.includes(text));
  }
}

export const pidOf = ({ it }: Watched): number => it.status().pid as number;
