/** What a service says, in lines: the last of them are kept. One for each service; fed by its starter. */
import { StringDecoder } from 'node:string_decoder';
import type { LogLine } from './contract.ts';

const KEPT = 1000;
/** A line that does not end is cut here, in characters. */
const LONGEST = 16_384;

type Stream = LogLine['stream'];

export class Lines {
  readonly #service: string;
  readonly #onLine: (line: LogLine) => void;
  readonly #open: Record<Stream, { decoder: StringDecoder; text: string }> = {
    stdout: { decoder: new StringDecoder('utf8'), text: '' },
    stderr: { decoder: new StringDecoder('utf8'), text: '' },
  };
  #kept: LogLine[] = [];

  constructor(service: string, onLine: (line: LogLine) => void) {
    this.#service = service;
    this.#onLine = onLine;
  }

  get last(): readonly LogLine[] {
    return this.#kept.slice(-KEPT);
  }

  take(stream: Stream, data: Buffer): void {
    const open = this.#open[stream];
    const parts = (open.text + open.decoder.write(data)).split('\n');
    open.text = parts.pop() as string;
    for (const text of parts) this.#put(stream, text.endsWith('\r') ? text.slice(0, -1) : text);
    while (open.text.length > LONGEST) {
      this.#put(stream, open.text.slice(0, LONGEST));
      open.text = open.text.slice(LONGEST);
    }
  }

  /** Nothing comes any more that would belong to what is there. */
  end(): void {
    for (const stream of ['stdout', 'stderr'] as const) {
      const open = this.#open[stream];
      const text = open.text + open.decoder.end();
      open.text = '';
      if (text !== '') this.#put(stream, text);
    }
  }

  #put(stream: Stream, text: string): void {
    const line = { service: this.#service, stream, at: Date.now(), text };
    this.#kept.push(line);
    // Not one by one: that would move all of them for each line.
    if (this.#kept.length > 2 * KEPT) this.#kept = this.#kept.slice(-KEPT);
    this.#onLine(line);
  }
}
