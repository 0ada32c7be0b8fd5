/** Whose turn it is to accept, as the scoreboard's figures have it. */
import { describe, expect, test } from 'vitest';
import { boardSize, type Entry, type Field, monotonic, Scoreboard } from '../../lib/prefork/scoreboard.ts';
import { Fairness } from '../../lib/prefork/worker/fairness.ts';

/** Ours with so many connections, and others that accept, unless said otherwise. */
function fairness(own: number, others: readonly Partial<Record<Field, number>>[]): Fairness {
  const memory = new ArrayBuffer(boardSize(others.length + 1));
  const board = new Scoreboard(memory);
  const entries = [{ connections: own }, ...others].map((fields) => {
    const entry = board.take() as Entry;
    const all = { accepting: 1, beat: monotonic(), ...fields };
    for (const [field, value] of Object.entries(all)) entry.set(field as Field, value);
    return entry;
  });
  return new Fairness(entries[0] as Entry, entries);
}

describe('a worker steps aside', () => {
  test.each([
    [1, 0],
    [2, 1],
    [4, 2],
    [16, 10],
    [100, 80],
  ])('with %i connections beside one with %i', (own, other) => {
    expect(fairness(own, [{ connections: other }]).aside).toBeGreaterThanOrEqual(1);
  });

  test('the longer, the more it leads', () => {
    const moment = (own: number) => fairness(own, [{ connections: 20 }]).aside;
    expect(moment(40)).toBeGreaterThan(moment(30));
    expect(moment(4000)).toBe(moment(400));
  });
});

describe('a worker takes what comes', () => {
  test.each([
    [0, 0],
    [1, 1],
    [12, 10],
    [35, 30],
  ])('with %i connections beside one with %i', (own, other) => {
    expect(fairness(own, [{ connections: other }]).aside).toBe(0);
  });

  test('when it is alone', () => {
    expect(fairness(50, []).aside).toBe(0);
  });

  test.each([
    ['leaves', { accepting: 0 }],
    ['is full', { paused: 1 }],
    ['hangs', { beat: monotonic() - 1000 }],
  ])('when the other %s', (_what, state) => {
    expect(fairness(50, [{ connections: 0, ...state }]).aside).toBe(0);
  });
});

describe('connections that stay', () => {
  test('are given up by whom has a quarter more than the others, until all have as many', () => {
    expect(fairness(30, [{ connections: 10 }]).surplus).toBe(10);
    expect(fairness(30, [{ connections: 0 }, { connections: 0 }]).surplus).toBe(20);
    expect(fairness(12, [{ connections: 10 }]).surplus).toBe(0);
    expect(fairness(30, []).surplus).toBe(0);
  });
});
