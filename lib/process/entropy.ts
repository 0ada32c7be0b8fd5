/**
 * Randomness that a fork would hand to the child a second time: bytes that Node keeps in store for `randomUUID` and
 * `randomInt`, and the state of `Math.random`. OpenSSL itself notices a fork. `knowEntropyStores` is asked in the parent,
 * where there is time; `renewEntropy` in the child, before anything of the user's.
 */
import { randomFillSync, randomInt, randomUUID } from 'node:crypto';
import { closedOver } from './closed-over.ts';
import { nativeFork, reseed } from './native-fork.ts';

const { random } = Math;
/** How many of each are in store (Node's lib/internal/crypto/random.js). */
const STORED_UUIDS = 128;
const STORED_INTEGERS = 1024;
const UUID_BYTES = 16;
const INTEGER_BYTES = 6;
const LARGEST_RANGE = 2 ** 48 - 1;

interface Stores {
  uuids: Uint8Array | undefined;
  integers: Uint8Array | undefined;
}

/** What is renewed. */
export interface Randomness {
  stores: Stores | undefined;
  /** Math's own, by which V8's state for it is found. */
  random: () => number;
  /** Gets one of ours when that is not found. */
  math: { random(): number };
}

let stores: Stores | undefined;

export function randomness(): Randomness {
  return { stores, random, math: Math };
}

export function knowEntropyStores(): void {
  if (stores !== undefined) return;
  // The store of UUIDs is made with the first one.
  const uuid = randomUUID();
  const integer = randomInt(LARGEST_RANGE);
  const [uuids, integers] = closedOver([
    { by: randomUUID, name: 'uuidData' },
    { by: randomInt, name: 'randomCache' },
  ]);
  stores = {
    uuids: storeOf(uuids, STORED_UUIDS * UUID_BYTES, uuid.slice(-12)),
    integers: storeOf(integers, STORED_INTEGERS * INTEGER_BYTES, integer.toString(16).padStart(12, '0')),
  };
}

export function renewEntropy({ stores, random, math }: Randomness): void {
  // New bytes in the same place; or else what is there is used up.
  if (stores?.uuids !== undefined) fill(stores.uuids);
  else for (let i = 0; i < STORED_UUIDS; i++) randomUUID();
  if (stores?.integers !== undefined) fill(stores.integers);
  else for (let i = 0; i < STORED_INTEGERS; i++) randomInt(2);
  const seed = fill(new Uint8Array(16));
  if (!reseed(random, seed)) math.random = generator(seed);
}

function fill(bytes: Uint8Array): Uint8Array {
  return nativeFork().fillRandom(bytes) ? bytes : randomFillSync(bytes);
}

/** `found`, as bytes, if it has the size of the store and in it what was just drawn from there. */
function storeOf(found: unknown, size: number, drawn: string): Uint8Array | undefined {
  const bytes = found instanceof ArrayBuffer ? new Uint8Array(found) : found;
  if (!(bytes instanceof Uint8Array) || bytes.length !== size) return undefined;
  const { buffer, byteOffset, length } = bytes;
  return Buffer.from(buffer, byteOffset, length).toString('hex').includes(drawn) ? bytes : undefined;
}

/** Chris Doty-Humphrey's sfc32, for a V8 whose own state cannot be reached. */
function generator(seed: Uint8Array): () => number {
  const state = new DataView(seed.buffer, seed.byteOffset);
  let [a, b, c, counter] = [0, 4, 8, 12].map((at) => state.getInt32(at)) as [number, number, number, number];
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return sum >>> 0;
  };
  return function random() {
    return ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
  };
}
