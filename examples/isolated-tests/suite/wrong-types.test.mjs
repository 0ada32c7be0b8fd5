import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from '../compiler.mjs';

test('a string is no number', () => {
  assert.deepEqual(diagnose('const a: number = "1";'), ["Type 'string' is not assignable to type 'number'."]);
});
