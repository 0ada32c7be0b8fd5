import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from '../compiler.mjs';

test('a type argument is inferred', () => {
  assert.deepEqual(diagnose('const first = <T>(a: T[]) => a[0]; const b: number = first([1])!;'), []);
});
