/**
 * A terminal with lines that scroll by and, below them, a board that is drawn over itself. Used by commands
 * that speak to a person; never with anything else at the other end.
 */
import { standardOutput } from './outlet.ts';

export interface Terminal {
  write(text: string): unknown;
  rows?: number;
  columns?: number;
}

/** Standard output, which stops nobody, and its size, which changes. */
export function terminal(): Terminal {
  return {
    write: (text) => standardOutput().write(text),
    get rows() {
      return process.stdout.rows;
    },
    get columns() {
      return process.stdout.columns;
    },
  };
}

export class Screen {
  readonly #terminal: Terminal;
  #frame: readonly string[] = [];

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Of a terminal that does not know its size (0), what terminals had when they were made of glass. */
  get rows(): number {
    return this.#terminal.rows || 24;
  }

  get columns(): number {
    return this.#terminal.columns || 80;
  }

  /** Whole lines, which stay. */
  write(text: string): void {
    this.#terminal.write(`${this.#erase()}${text}${this.#drawn()}`);
  }

  /** What stands below from now on. */
  draw(frame: readonly string[]): void {
    const erase = this.#erase();
    this.#frame = frame;
    this.#terminal.write(`${erase}${this.#drawn()}`);
  }

  /** Leaves the board as it is; what comes next is written below it. */
  release(): void {
    this.#frame = [];
  }

  #drawn(): string {
    return this.#frame.length === 0 ? '' : `${this.#frame.join('\n')}\n`;
  }

  /** To the frame's first line, and everything from there on gone. */
  #erase(): string {
    return this.#frame.length === 0 ? '' : `\u001b[${this.#frame.length}F\u001b[J`;
  }
}
