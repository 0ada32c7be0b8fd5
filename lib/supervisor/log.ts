/**
 * The log of a supervisor: its events, and what its services say, as lines for people or as JSON. Reads nothing but
 * events.
 */
import { stripVTControlCharacters } from 'node:util';
import { type LogTarget, LogWriter } from '../daemon/log.ts';
import type { LogLine, SupervisorEvent, SupervisorFace } from './contract.ts';
import { plain } from './plain.ts';
import { sentence } from './sentences.ts';

export class Log extends LogWriter {
  readonly #forPeople: boolean;
  /** By stream and service. */
  readonly #speakers = new Map<string, object>();

  /** `screen` takes the lines in the place of standard output. Throws when the file cannot be opened. */
  constructor(target: LogTarget, screen?: { write(text: string): void }) {
    super(target, screen);
    this.#forPeople = target.logFormat === 'pretty';
  }

  /** Writes everything that happens from now on. */
  follow(supervisor: SupervisorFace): void {
    supervisor.on('event', (event) => this.tell(event));
    supervisor.on('log', (line) => this.output(line));
  }

  /** Machines get every event; people those that no other says better. */
  tell(event: SupervisorEvent): void {
    const [level, text, aside] = sentence(event);
    if (aside !== undefined && this.#forPeople) return;
    this.write(level, plain(event), text);
  }

  /** What moves a terminal's cursor is not passed on: a board may stand below. */
  output({ service, stream, at, text }: LogLine): void {
    const key = `${stream} ${service}`;
    let fields = this.#speakers.get(key);
    if (fields === undefined) {
      fields = { event: 'output', service, stream };
      this.#speakers.set(key, fields);
    }
    const said = this.#forPeople
      ? `[${service}] ${text.includes('\u001b') || text.includes('\u009b') ? stripVTControlCharacters(text) : text}`
      : JSON.stringify(text).slice(1, -1);
    this.writeQuickly(at, fields, said);
  }

  /** Something of the command's own, as an event of a supervisor's. */
  note(level: 'info' | 'warn' | 'error', event: string, text: string, fields: object = {}): void {
    this.write(level, { event, ...fields }, text);
  }
}
