/** What the doctor found, in the form in which it is printed: lines for people, or JSON. */

/** `fail`: it does not work. `warn`: it works, with something to know. `info`: a fact. */
export type Level = 'ok' | 'info' | 'warn' | 'fail';

export interface Finding {
  level: Level;
  subject: string;
  text: string;
}

export interface Section {
  title: string;
  findings: Finding[];
}

const MARKS: Record<Level, string> = { ok: '✔', info: '·', warn: '!', fail: '✘' };
const COLOURS: Record<Level, string> = { ok: '32', info: '90', warn: '33', fail: '31' };

export function print(sections: Section[], healthy: boolean, colour: boolean): string {
  const paint = (text: string, code: string) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const lines: string[] = [];
  for (const { title, findings } of sections) {
    lines.push(paint(title, '1'));
    const width = Math.max(...findings.map(({ subject }) => subject.length));
    for (const { level, subject, text } of findings) {
      const indent = ' '.repeat(width + 6);
      const [first = '', ...rest] = text.split('\n');
      lines.push(`  ${paint(MARKS[level], COLOURS[level])} ${subject.padEnd(width)}  ${first}`);
      for (const line of rest) lines.push(indent + line);
    }
    lines.push('');
  }
  lines.push(
    healthy
      ? paint('This can be forked.', '32')
      : paint('This cannot be forked: see what is marked above.', '31'),
  );
  return lines.join('\n');
}
