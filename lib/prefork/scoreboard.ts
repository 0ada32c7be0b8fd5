/**
 * The scoreboard: memory that monitor and workers share, with an entry for every worker. Each entry is written by its
 * worker alone and read by the monitor at any time, so that a worker that hangs or is gone is still seen as it last was.
 * Fields are aligned 64-bit numbers, which processors store and load whole; texts are read as hints, since they may be
 * half written.
 */

/** What an entry holds, in the order in which it lies there. Times are monotonic ms (`monotonic()`), sizes bytes. */
const FIELDS = [
  'pid',
  /** When the worker's loop last came round. */
  'beat',
  /** How late its last turn was. */
  'lag',
  'connections',
  'accepted',
  'requests',
  'inFlight',
  /** Responses with a status of 500 and above. */
  'errors',
  /** When the oldest request in flight began; 0 without one. */
  'oldest',
  'heapUsed',
  'heapLimit',
  /** 1 when V8 came near its heap's limit: written by native code, in the last moments of a heap. */
  'nearHeapLimit',
  /** A `StackRequest`: the monitor asks a worker that hangs for its stack, and native code answers in `stack`. */
  'stackRequest',
  /** A number of `PAUSES`. */
  'paused',
  /** 1 while the worker takes connections; also while it is paused. */
  'accepting',
] as const;

export type Field = (typeof FIELDS)[number];

const INDEX = Object.fromEntries(FIELDS.map((field, index) => [field, index])) as Record<Field, number>;

/** Why a worker accepts nothing at the moment. */
export const PAUSES = ['', 'connections', 'requests', 'descriptors'] as const;
export type Pause = (typeof PAUSES)[number];

/** bytes */
const ENTRY_SIZE = 16 * 1024;
const TEXTS = { request: { at: 512, size: 1024 }, stack: { at: 2048, size: 14 * 1024 } } as const;

export type Text = keyof typeof TEXTS;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Bytes that a board of so many entries takes. Pages are real only once they are written. */
export function boardSize(entries: number): number {
  return entries * ENTRY_SIZE;
}

/** Where native code finds a field or text of an entry, in bytes from the board's start. */
export function fieldOffset(entry: number, field: Field): number {
  return entry * ENTRY_SIZE + INDEX[field] * Float64Array.BYTES_PER_ELEMENT;
}

export function textOffset(entry: number, text: Text): { at: number; size: number } {
  return { at: entry * ENTRY_SIZE + TEXTS[text].at, size: TEXTS[text].size };
}

/** CLOCK_MONOTONIC in ms: the same in all processes of a machine. */
export function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export class Entry {
  readonly #fields: Float64Array;
  readonly #memory: ArrayBuffer;
  /** Texts are written for every request. */
  readonly #texts: Record<Text, { length: Uint32Array; bytes: Uint8Array }>;
  readonly index: number;

  constructor(memory: ArrayBuffer, index: number) {
    this.#memory = memory;
    this.index = index;
    this.#texts = { request: this.#text('request'), stack: this.#text('stack') };
    this.#fields = new Float64Array(memory, index * ENTRY_SIZE, FIELDS.length);
  }

  get(field: Field): number {
    return this.#fields[INDEX[field]] as number;
  }

  set(field: Field, value: number): void {
    this.#fields[INDEX[field]] = value;
  }

  add(field: Field, value: number): void {
    this.set(field, this.get(field) + value);
  }

  write(text: Text, value: string): void {
    const { length, bytes } = this.#texts[text];
    length[0] = encoder.encodeInto(value, bytes).written;
  }

  read(text: Text): string {
    const { length, bytes } = this.#texts[text];
    // A copy: decoders refuse memory that is shared, and what is half written may change under them.
    return decoder.decode(bytes.slice(0, Math.min(length[0] as number, bytes.length)));
  }

  /** For the next worker. */
  clear(): void {
    new Uint8Array(this.#memory, this.index * ENTRY_SIZE, ENTRY_SIZE).fill(0);
  }

  /** Length first (4 bytes), then UTF-8, cut where the room ends. */
  #text(text: Text): { length: Uint32Array; bytes: Uint8Array } {
    const { at, size } = textOffset(this.index, text);
    const length = new Uint32Array(this.#memory, at, 1);
    return { length, bytes: new Uint8Array(this.#memory, at + 4, size - 4) };
  }
}

/** All entries; `take` and `giveBack` are the monitor's, who knows which of them are taken. */
export class Scoreboard {
  readonly memory: ArrayBuffer;
  readonly entries: number;
  readonly #free: number[];
  /** Made once: a mold makes them for all of its workers. */
  readonly #all: readonly Entry[];

  constructor(memory: ArrayBuffer) {
    this.memory = memory;
    this.entries = Math.floor(memory.byteLength / ENTRY_SIZE);
    this.#all = Array.from({ length: this.entries }, (_, index) => new Entry(memory, index));
    this.#free = Array.from({ length: this.entries }, (_, index) => this.entries - 1 - index);
  }

  entry(index: number): Entry {
    return this.#all[index] as Entry;
  }

  all(): readonly Entry[] {
    return this.#all;
  }

  /** A cleared entry, or undefined when the board is full. */
  take(): Entry | undefined {
    const index = this.#free.pop();
    if (index === undefined) return undefined;
    const entry = this.entry(index);
    entry.clear();
    return entry;
  }

  /** Only once its worker is gone. */
  giveBack(entry: Entry): void {
    this.#free.push(entry.index);
  }
}
