// As esm.mjs: a closure in a forked child, which needs the addon that knows this Node's V8.
import assert from 'node:assert/strict';
import { Loop } from 'forkbeard';

const loop = Loop.current();
assert.notEqual(loop.forkSafety().v8, 'unsupported');
assert.equal(await loop.call(() => 6 * 7), 42);
console.log('fork: 42');
