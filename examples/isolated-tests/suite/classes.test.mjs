import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compile } from '../compiler.mjs';

test('a parameter property becomes a field', () => {
  assert.match(compile('class A { constructor(readonly b: number) {} }'), /this\.b = b|b;/);
});
