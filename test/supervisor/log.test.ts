/** The log of a supervisor, in a real file: what services say in great numbers stands there like everything else. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { Log } from '../../dist/supervisor/log.js';
import { folder } from './support.ts';

const said = (text: string, service = 'x') => ({ service, stream: 'stdout' as const, at: Date.now(), text });
const TEXTS = ['plain', '', 'a "quote", a \\ and a \t', 'é 漢 \u{1f600}', 'bell \u0007', 'lone \ud800'];

async function written(logFormat: 'json' | 'pretty', act: (log: Log) => void): Promise<string[]> {
  const logFile = join(folder(), 'log');
  act(new Log({ logFormat, logFile }));
  await null;
  return readFileSync(logFile, 'utf8').trimEnd().split('\n');
}

test('lines are whole, in order with the events between them, and each of its own service', async () => {
  const lines = await written('json', (log) => {
    for (const text of TEXTS) log.output(said(text));
    log.note('warn', 'between', 'in between');
    for (const service of ['x', 'y', 'x']) log.output(said('after', service));
  });
  const parsed = lines.map((line) => JSON.parse(line) as Record<string, string>);
  expect(parsed.map(({ msg, service = '' }) => `${service} ${msg}`)).toEqual([
    ...TEXTS.map((text) => `x ${text}`),
    ' in between',
    'x after',
    'y after',
    'x after',
  ]);
  for (const one of parsed) expect(Object.keys(one).slice(0, 3)).toEqual(['level', 'time', 'event']);
  for (const { time = '' } of parsed) expect(new Date(time).toISOString()).toBe(time);
});

test('people see a service’s line as they see any other, without what moves a cursor', async () => {
  const lines = await written('pretty', (log) => {
    log.output(said('\u001b[2Jcleared'));
    log.note('info', 'noted', '[x] cleared');
  });
  const [quick, usual] = lines.map((line) => line.replace(/[\d:.]+(?=\])/, 'time'));
  expect(quick).toBe('[time] INFO: [x] cleared');
  expect(quick).toBe(usual);
});

test('a hundred thousand lines are all there, also when the process ends in the middle of a turn', () => {
  const logFile = join(folder(), 'log');
  const module = fileURLToPath(new URL('../../dist/supervisor/log.js', import.meta.url));
  const script = `const { Log } = await import(${JSON.stringify(module)});
    const log = new Log({ logFormat: 'json', logFile: ${JSON.stringify(logFile)} });
    for (let i = 0; i < 100_000; i++) log.output({ service: 'x', stream: 'stdout', at: Date.now(), text: String(i) });
    process.exit(3);`;
  expect(spawnSync(process.execPath, ['--input-type=module', '-e', script]).status).toBe(3);
  const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n');
  expect(lines).toHaveLength(100_000);
  expect(lines.every((line, index) => JSON.parse(line).msg === String(index))).toBe(true);
});
