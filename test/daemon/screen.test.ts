/** A board below lines that scroll by, and columns of text. */
import { describe, expect, it } from 'vitest';
import { Screen } from '../../dist/daemon/screen.js';
import { columns, cut } from '../../dist/daemon/table.js';

describe('the board', () => {
  it('is drawn over itself, and lines of the log scroll by above it', () => {
    let written = '';
    const screen = new Screen({ write: (text) => (written += text) });
    screen.draw(['one', 'two']);
    screen.write('a line\n');
    screen.draw(['three']);
    screen.release();
    screen.write('the end\n');
    expect(written.split('\u001b')).toEqual([
      'one\ntwo\n',
      '[2F',
      '[Ja line\none\ntwo\n',
      '[2F',
      '[Jthree\nthe end\n',
    ]);
  });
});

describe('a table', () => {
  it('has columns of one width, texts at the left, figures at the right', () => {
    const rows = columns(
      [
        ['name', 'pid'],
        ['bär', '1'],
        ['x', '1234'],
      ],
      [0],
    );
    expect(rows.map((row) => row.join('|'))).toEqual(['name| pid', 'bär |   1', 'x   |1234']);
  });

  it('is cut where the screen ends', () => {
    expect(cut('\u001b[1mabcdef\u001b[0m', 3)).toBe('abc');
    expect(cut('\u001b[1mabc\u001b[0m', 3)).toBe('\u001b[1mabc\u001b[0m');
  });
});
