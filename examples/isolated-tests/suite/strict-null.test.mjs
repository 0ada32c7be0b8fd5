import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from '../compiler.mjs';

test('null is no string', () => {
  assert.deepEqual(diagnose('const a: string = null;'), ["Type 'null' is not assignable to type 'string'."]);
});
