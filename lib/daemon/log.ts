/**
 * Where a log goes: lines for people or JSON, one object a line, to standard output, a file or a screen. Lines are
 * written before the next thing happens, so that the last one is there however its program ends; but for those that the
 * reader of standard output does not take (`outlet.ts`). Made by a program's own log, which knows what to say.
 */
import { Writable } from 'node:stream';
import pino, { type DestinationStream, type Logger } from 'pino';
import pretty, { type PrettyOptions } from 'pino-pretty';
import { invalidOption } from '../sys/errors.ts';
import { standardOutput } from './outlet.ts';
import type { Level } from './words.ts';

export interface LogTarget {
  logFormat: 'pretty' | 'json';
  /** Absolute; null: standard output. */
  logFile: string | null;
}

/** Lines that are said one after the other are written together, up to so much. characters */
const TOGETHER = 65_536;
/** Stands where the text of a line will be. */
const PLACE = '\u{f8ff}';

type Destination = ReturnType<typeof pino.destination>;

export class LogWriter {
  readonly #logger: Logger;
  readonly #file: Destination | undefined;
  readonly #stream: { write(text: string): unknown };
  readonly #frame: (at: number, fields: object) => string;
  #quick = '';
  #at = 0;
  /** Around a text, by the object of its fields: of this millisecond. */
  readonly #frames = new Map<object, readonly [string, string]>();

  /** `screen` takes the lines in the place of standard output. Throws when the file cannot be opened. */
  constructor({ logFormat, logFile }: LogTarget, screen?: { write(text: string): void }) {
    let stream: DestinationStream;
    if (logFile === null) {
      const target = screen ?? this.#onStandardOutput();
      stream = new Writable({
        decodeStrings: false,
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
    this.#stream = stream;
    const style: PrettyOptions = {
      sync: true,
      colorize: logFile === null && process.stdout.isTTY && process.env['NO_COLOR'] === undefined,
      hideObject: true,
      ignore: 'pid,hostname',
      translateTime: 'SYS:HH:MM:ss.l',
    };
    const lines = logFormat === 'json' ? stream : pretty({ ...style, destination: stream as never });
    const show = logFormat === 'json' ? (line: object) => `${JSON.stringify(line)}\n` : prettyLine(style);
    this.#frame = (at, fields) =>
      show({ level: 'info', time: new Date(at).toISOString(), ...fields, msg: PLACE });
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
    this.#flush();
    this.#logger[level](fields, text);
  }

  /**
   * A line such as there may be hundreds of thousands in a second: looks as if it were written by `write`, at a fraction of
   * the cost. `fields` is the same object each time, `text` has no line's end, and is as it shall stand there (in
   * JSON: escaped). Written before the turn of the loop is over.
   */
  protected writeQuickly(at: number, fields: object, text: string): void {
    if (at !== this.#at) {
      // Whoever ends the process in the middle of a turn.
      if (this.#at === 0) process.on('exit', () => this.#flush());
      this.#at = at;
      this.#frames.clear();
    }
    let frame = this.#frames.get(fields);
    if (frame === undefined) {
      const [before = '', after = ''] = this.#frame(at, fields).split(PLACE);
      frame = [before, after];
      this.#frames.set(fields, frame);
    }
    if (this.#quick === '') queueMicrotask(() => this.#flush());
    this.#quick += frame[0] + text + frame[1];
    if (this.#quick.length >= TOGETHER) this.#flush();
  }

  #flush(): void {
    const text = this.#quick;
    if (text === '') return;
    this.#quick = '';
    this.#stream.write(text);
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
    this.#flush();
    this.#file?.reopen();
  }
}

function prettyLine(style: PrettyOptions): (line: object) => string {
  const show = pretty.prettyFactory(style);
  return (line) => show(line) ?? '';
}

function openFile(dest: string): Destination {
  try {
    return pino.destination({ dest, append: true, sync: true });
  } catch (error) {
    throw invalidOption('logFile', `The log file cannot be opened: ${(error as Error).message}`);
  }
}
