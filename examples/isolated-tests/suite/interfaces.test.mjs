import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile } from '../compiler.mjs';

test('interfaces leave nothing', () => {
  assert.equal(compile('interface A { b: string }'), '');
});
