/** The log of a server: its events, as lines. Reads nothing but events. */
import { LogWriter } from '../daemon/log.ts';
import type { PreforkEvents, PreforkServer } from './contract.ts';
import { EVENTS, SENTENCES } from './sentences.ts';

export class Log extends LogWriter {
  /** Writes every event of the server's from now on. */
  follow(server: PreforkServer): void {
    for (const event of EVENTS) {
      server.on(event, (fields: PreforkEvents[typeof event][0]) => {
        if (event === 'logs-reopened') this.reopen();
        this.tell(event, fields);
      });
    }
  }

  tell<E extends keyof PreforkEvents>(event: E, fields: PreforkEvents[E][0]): void {
    const [level, text] = SENTENCES[event](fields);
    this.write(level, { event, ...asLogged(fields) }, text);
  }
}

/** A worker's place has one name in all lines. */
function asLogged(fields: object): object {
  if (!('id' in fields)) return fields;
  const { id: worker, ...others } = fields;
  return { worker, ...others };
}
