/** Lines for a terminal: columns of one width, colours, and nothing wider than the screen. Used by boards. */
import { stripVTControlCharacters } from 'node:util';

/** Colours a text, or not. */
export type Paint = (text: string, code: string) => string;

export function painter(colour: boolean): Paint {
  return (text, code) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
}

/** Rows with each cell as wide as its column. `left`: columns whose cells begin at the left; the others end at the right. */
export function columns(rows: readonly (readonly string[])[], left: readonly number[]): string[][] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, index) => {
      widths[index] = Math.max(widths[index] ?? 0, [...cell].length);
    });
  return rows.map((row) =>
    row.map((cell, index) => {
      const blank = ' '.repeat((widths[index] as number) - [...cell].length);
      return left.includes(index) ? cell + blank : blank + cell;
    }),
  );
}

/** A line that is too long loses its colours with its end. */
export function cut(line: string, width: number): string {
  const plain = [...stripVTControlCharacters(line)];
  return plain.length <= width ? line : plain.slice(0, width).join('');
}
