/**
 * The log of a server: its events as lines for people or as JSON, one object a line, to standard output or a file. Reads
 * nothing but events. Lines are written before the next thing happens, so that the last one is there however it ends.
 */
import { Writable } from 'node:stream';
import pino, { type DestinationStream, type Logger } from 'pino';
import pretty from 'pino-pretty';
import { invalidOption } from '../sys/errors.ts';
import type { PreforkEvents, PreforkServer } from './contract.ts';
import type { Plan } from './plan.ts';
import { EVENTS, SENTENCES } from './sentences.ts';

export interface LogTarget {
  logFormat: Plan['logFormat'];
  logFile: Plan['logFile'];
}

type Destination = ReturnType<typeof pino.destination>;

export class Log {
  readonly #logger: Logger;
  readonly #file: Destination | undefined;

  /** `screen` takes the lines in the place of standard output. Throws when the file cannot be opened. */
  constructor({ logFormat, logFile }: LogTarget, screen?: { write(text: string): void }) {
    let stream: DestinationStream;
    if (screen !== undefined && logFile === null) {
      stream = new Writable({
        write(chunk, _encoding, done) {
          screen.write(String(chunk));
          done();
        },
      });
    } else {
      const destination = logFile === null ? pino.destination({ dest: 1, sync: true }) : openFile(logFile);
      // Whoever read the log is gone, or the disk is full: the server outlives that.
      destination.on('error', () => {});
      if (logFile !== null) this.#file = destination;
      stream = destination;
    }
    const lines =
      logFormat === 'json'
        ? stream
        : pretty({
            sync: true,
            colorize: logFile === null && process.stdout.isTTY && process.env['NO_COLOR'] === undefined,
            destination: stream as never,
            hideObject: true,
            ignore: 'pid,hostname',
            translateTime: 'SYS:HH:MM:ss.l',
          });
    this.#logger = pino(
      {
        base: null,
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (level) => ({ level }) },
      },
      lines,
    );
  }

  /** Writes every event of the server's from now on. */
  follow(server: PreforkServer): void {
    for (const event of EVENTS) {
      server.on(event, (fields: PreforkEvents[typeof event][0]) => {
        if (event === 'logs-reopened') this.reopen();
        this.write(event, fields);
      });
    }
  }

  write<E extends keyof PreforkEvents>(event: E, fields: PreforkEvents[E][0]): void {
    const [level, text] = SENTENCES[event](fields);
    this.#logger[level]({ event, ...asLogged(fields) }, text);
  }

  /** After somebody has renamed the file. */
  reopen(): void {
    this.#file?.reopen();
  }
}

function openFile(dest: string): Destination {
  try {
    return pino.destination({ dest, append: true, sync: true });
  } catch (error) {
    throw invalidOption('logFile', `The log file cannot be opened: ${(error as Error).message}`);
  }
}

/** A worker's place has one name in all lines. */
function asLogged(fields: object): object {
  if (!('id' in fields)) return fields;
  const { id: worker, ...others } = fields;
  return { worker, ...others };
}
