import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from '../compiler.mjs';

test('a name that nobody declared', () => {
  assert.deepEqual(diagnose('nobody;'), ["Cannot find name 'nobody'."]);
});
