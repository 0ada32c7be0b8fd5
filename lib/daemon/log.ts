/**
 * Where a log goes: lines for people or JSON, one object a line, to standard output, a file or a screen. Lines are
 * written before the next thing happens, so that the last one is there however its program ends; but for those that the
 * reader of standard output does not take (`outlet.ts`). Made by a program's own log, which knows what to say.
 */
import { Writable } from 'node:stream';
import pino, { type DestinationStream, type Logger } from 'pino';
import pretty from 'pino-pretty';
import { invalidOption } from '../sys/errors.ts';
import { standardOutput } from './outlet.ts';
import type { Level } from './words.ts';

export interface LogTarget {
  logFormat: 'pretty' | 'json';
  /** Absolute; null: standard output. */
  logFile: string | null;
}

type Destination = ReturnType<typeof pino.destination>;

export class LogWriter {
  readonly #logger: Logger;
  readonly #file: Destination | undefined;

  /** `screen` takes the lines in the place of standard output. Throws when the file cannot be opened. */
  constructor({ logFormat, logFile }: LogTarget, screen?: { write(text: string): void }) {
    let stream: DestinationStream;
    if (logFile === null) {
      const target = screen ?? this.#onStandardOutput();
      stream = new Writable({
        write(chunk, _encoding, done) {
          target.write(String(chunk));
          done();
        },
      });
    } else {
      this.#file = openFile(logFile);
      // The disk is full: the program outlives that.
      this.#file.on('error', () => {});
      stream = this.#file;
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

  write(level: Level, fields: object, text: string): void {
    this.#logger[level](fields, text);
  }

  /** What nobody read in time. */
  lost(lines: number): void {
    const message = `${lines} ${lines === 1 ? 'line' : 'lines'} of this log ${lines === 1 ? 'is' : 'are'} lost: nobody read them in time`;
    this.write('warn', { event: 'warning', code: 'LOG_LINES_LOST', lines, message }, message);
  }

  #onStandardOutput(): { write(text: string): void } {
    const outlet = standardOutput();
    outlet.onLost = (lines) => this.lost(lines);
    return outlet;
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
