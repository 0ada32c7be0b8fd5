import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile } from '../compiler.mjs';

test('type annotations go', () => {
  assert.equal(compile('const a: number = 1;'), 'const a = 1;');
});
