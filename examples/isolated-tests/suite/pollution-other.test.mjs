import assert from 'node:assert/strict';
import { test } from 'node:test';
import '../compiler.mjs';

test('what another file did to the globals is not seen here', () => {
  assert.equal(globalThis.polluted, undefined);
  assert.deepEqual([3, 20, 100].sort(), [100, 20, 3]);
  globalThis.polluted = true;
  Array.prototype.sort = () => 'spoilt';
});
