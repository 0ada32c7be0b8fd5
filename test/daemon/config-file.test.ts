/** Files of options: what is read, and where it says that something is. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readConfigFile } from '../../dist/daemon/config-file.js';

const folder = mkdtempSync(join(tmpdir(), 'forkbeard-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function file(ending: string, text: string): string {
  const path = join(folder, `${files++}${ending}`);
  writeFileSync(path, text);
  return path;
}

const refusal = (path: string) =>
  readConfigFile(path).then(
    () => expect.unreachable(),
    (error: Error & { exitCode: number; code: string }) => error,
  );

describe('JSON', () => {
  const text = `{
  // what it is for
  "a": { "b": [10, 20,
    30] }, /* and
  so on */ "url": "http://x/*y*/",
\t"tab":\t"kept\\t\\"//\\"" }`;

  it('may have comments and tabs, and texts that look like them', async () => {
    const { options, base } = await readConfigFile(file('.json', text));
    expect(options).toEqual({ a: { b: [10, 20, 30] }, url: 'http://x/*y*/', tab: 'kept\t"//"' });
    expect(base).toBe(folder);
  });

  it('knows the line of every value, and of what is around one that is not there', async () => {
    const { where, path } = await readConfigFile(file('.json', text));
    expect(where(['a'])).toBe(`${path}:3`);
    expect(where(['a', 'b', 1])).toBe(`${path}:3`);
    expect(where(['a', 'b', 2])).toBe(`${path}:4`);
    expect(where(['a', 'missing', 'deeper'])).toBe(`${path}:3`);
    expect(where(['url'])).toBe(`${path}:5`);
    expect(where(['tab'])).toBe(`${path}:6`);
    expect(where([])).toBe(`${path}:1`);
  });

  it.each([
    ['{\n  "a": 1,\n  b: 2\n}', /:3: no valid JSON: /],
    ['{\n  "a": 1\n', /:2: no valid JSON: .*/],
    ['{ "a": 1,\n  "a": 2 }', /:2: Map keys must be unique$/],
    ["{ 'a': 1 }", /:1: no valid JSON: /],
    [
      '{\n  "first": "a value",\n  "second": nothing,\n  "third": "a value"\n}',
      /:3: no valid JSON: Unexpected token/,
    ],
    ['{\n  "first": "a value",\n  "second": 1\n  "third": 2\n}', /:4: no valid JSON: Expected ','/],
    ['[]', /must hold an object of options/],
    ['null', /must hold an object of options/],
    ['', /:1: no valid JSON: /],
  ])('%j is refused in one line', async (source, words) => {
    const path = file('.json', source);
    const error = await refusal(path);
    expect(error.message).toMatch(words);
    expect(error.message.startsWith(path)).toBe(true);
    expect(error.message).not.toContain('\n');
    expect(error).toMatchObject({ code: 'ERR_FORKBEARD_INVALID_OPTION', exitCode: 2 });
  });

  it('may begin with a mark of the byte order', async () => {
    expect((await readConfigFile(file('.json', '\uFEFF{ "a": 1 }'))).options).toEqual({ a: 1 });
  });
});

describe('YAML', () => {
  it('is read with its lines, anchors and merges', async () => {
    const text =
      'base: &base\n  restart: permanent\n\nservices:\n  web:\n    <<: *base\n    exitCodes:\n      42: retry\n  twin: *base\n';
    const { options, where, path } = await readConfigFile(file('.yml', text));
    expect(options).toEqual({
      base: { restart: 'permanent' },
      services: { web: { restart: 'permanent', exitCodes: { 42: 'retry' } }, twin: { restart: 'permanent' } },
    });
    expect(where(['services', 'web', 'exitCodes', '42'])).toBe(`${path}:8`);
    expect(where(['services', 'twin', 'restart'])).toBe(`${path}:2`);
  });

  it.each([
    ['a: 1\nb: [1, 2\nc: 3', /:\d: /],
    ['a: 1\na: 2', /:2: Map keys must be unique$/],
    ['a: 1\n---\nb: 2', /:2: .*multiple documents/],
    ['just text', /must hold an object of options/],
  ])('%j is refused in one line', async (source, words) => {
    const error = await refusal(file('.yaml', source));
    expect(error.message).toMatch(words);
    expect(error.message).not.toContain('\n');
  });
});

describe('a module', () => {
  it('exports its options, or a function that gives them', async () => {
    expect((await readConfigFile(file('.mjs', 'export default { a: 1 }'))).options).toEqual({ a: 1 });
    expect((await readConfigFile(file('.mjs', 'export default async () => ({ a: 2 })'))).options).toEqual({
      a: 2,
    });
  });

  it.each([
    ["\nthrow new Error('no such\\nthing')", ':2: no such'],
    ['const a = 1;\nexport default { a: b };', ':2: b is not defined'],
    ['export default {\n  a: [1 },\n};', ":2: Unexpected token '}'"],
    ["import 'no-such-package-anywhere';", ": Cannot find package 'no-such-package-anywhere' imported from "],
    ['export default 5', ': must hold an object of options (as its default export, if it is a module)'],
  ])('%j is refused in one line, with the line of it where Node knows it', async (source, words) => {
    const path = file('.mjs', source);
    const { message } = await refusal(path);
    expect(message.slice(0, path.length + words.length)).toBe(`${path}${words}`);
    expect(message).not.toContain('\n');
  });

  it('is read anew each time', async () => {
    const path = file('.mjs', 'export default { a: 1 }');
    await readConfigFile(path);
    writeFileSync(path, 'export default { a: 2 }');
    expect((await readConfigFile(path)).options).toEqual({ a: 2 });
  });
});

it('other files are none', async () => {
  expect((await refusal(file('.toml', ''))).message).toMatch(/must be \.json, \.yaml, \.yml, \.ts or \.mjs$/);
  expect((await refusal(join(folder, 'none.json'))).message).toMatch(/^there is no file /);
});
