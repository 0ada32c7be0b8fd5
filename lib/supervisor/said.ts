/**
 * What a run says, for who waits for a certain word of it: a start that is over when the service has said so in its log.
 * A line is looked at as it grows, whatever pieces it comes in. Made by the starter, one for each run.
 */
import { StringDecoder } from 'node:string_decoder';
import { span } from '../daemon/words.ts';
import type { Clock } from './clock.ts';

/** A text that stands somewhere in a line, or a pattern that fits one. */
export type Word = string | RegExp;

/** Of a line that does not end, so much is remembered, in characters. */
const LONGEST = 16_384;

export class Said {
  readonly #clock: Clock;
  readonly #missing: Set<Word>;
  readonly #open = new Map<string, { decoder: StringDecoder; line: string }>();
  #heard: () => void = () => {};

  constructor(words: readonly Word[], clock: Clock) {
    this.#missing = new Set(words);
    this.#clock = clock;
  }

  /** It was ready before we listened. */
  assumeAll(): void {
    this.#missing.clear();
  }

  take(stream: string, data: Buffer): void {
    if (this.#missing.size === 0) return;
    const open = this.#open.get(stream) ?? { decoder: new StringDecoder('utf8'), line: '' };
    this.#open.set(stream, open);
    const lines = (open.line + open.decoder.write(data)).split('\n');
    open.line = (lines.at(-1) as string).slice(-LONGEST);
    for (const word of this.#missing) if (lines.some((line) => fits(line, word))) this.#missing.delete(word);
    this.#heard();
  }

  /** Fulfilled with null when it has said that, with what is wrong when the time is over. Rejected with the signal's reason. */
  until(word: Word, within: number, signal: AbortSignal): Promise<string | null> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        timer[Symbol.dispose]();
        signal.removeEventListener('abort', settle);
        this.#heard = () => {};
        if (signal.aborted) reject(signal.reason);
        else if (!this.#missing.has(word)) resolve(null);
        else resolve(`it did not say ${showWord(word)} within ${span(within)}`);
      };
      const timer = this.#clock.after(within, settle);
      signal.addEventListener('abort', settle, { once: true });
      this.#heard = () => {
        if (!this.#missing.has(word)) settle();
      };
      if (signal.aborted) settle();
      else this.#heard();
    });
  }
}

export function showWord(word: Word): string {
  return typeof word === 'string' ? `"${word}"` : String(word);
}

function fits(line: string, word: Word): boolean {
  // `test` would go on where a pattern with the flag g was, and change it.
  return typeof word === 'string' ? line.includes(word) : line.search(word) >= 0;
}
