import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile } from '../compiler.mjs';

test('an enum becomes an object', () => {
  assert.match(compile('enum A { B }'), /A\[A\["B"\] = 0\] = "B"/);
});
