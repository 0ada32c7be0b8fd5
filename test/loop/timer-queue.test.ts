/**
 * TimerQueue against the plainest model there is, a sorted array: the same commands to both, the same answers expected.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type TimerNode, TimerQueue } from '../../dist/loop/timer-queue.js';

class Timer implements TimerNode {
  slot = 0;
  readonly deadline: number;

  constructor(deadline: number) {
    this.deadline = deadline;
  }
}

/** Earlier deadlines first, and of equal ones the one that was added first. */
class Model {
  readonly timers: Timer[] = [];

  add(timer: Timer): void {
    const later = this.timers.findIndex(({ deadline }) => deadline > timer.deadline);
    this.timers.splice(later < 0 ? this.timers.length : later, 0, timer);
  }

  remove(timer: Timer): boolean {
    const index = this.timers.indexOf(timer);
    if (index >= 0) this.timers.splice(index, 1);
    return index >= 0;
  }

  takeDue(now: number): Timer[] {
    const pending = this.timers.findIndex(({ deadline }) => deadline > now);
    return this.timers.splice(0, pending < 0 ? this.timers.length : pending);
  }
}

function deadlines(timers: readonly Timer[]): number[] {
  return timers.map(({ deadline }) => deadline);
}

function drain(queue: TimerQueue<Timer>, now = Infinity): number[] {
  const due: Timer[] = [];
  queue.takeDue(now, due);
  return deadlines(due);
}

describe('against a sorted array', () => {
  type Command =
    | { do: 'add'; after: number; times: number }
    | { do: 'addAt'; deadline: number }
    | { do: 'remove'; pick: number }
    | { do: 'removeFirst' }
    | { do: 'next' }
    | { do: 'advance'; by: number }
    | { do: 'advanceToNext' }
    | { do: 'jump'; to: number };

  // Every scale that the wheel treats in its own way, from less than a tick to more than it reaches.
  const span = fc.oneof(
    fc.constantFrom(0, 1 / 64, 1 / 128, 1, 16, 16384, 2 ** 24, 2 ** 31),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 40, noNaN: true }),
    fc.integer({ min: 0, max: 20_000 }),
    fc.double({ min: 0, max: 1e8, noNaN: true }),
    fc.double({ min: 0, max: 1e13, noNaN: true }),
  );
  const instant = fc.oneof(
    fc.constantFrom(
      0,
      -1,
      1.7e12,
      -1.7e12,
      2 ** 31,
      2 ** 53,
      1e300,
      -1e300,
      Number.MAX_VALUE,
      Infinity,
      -Infinity,
    ),
    fc.double({ min: 0, max: 1e13, noNaN: true }),
    fc.double({ noNaN: true }),
  );
  const command: fc.Arbitrary<Command> = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constant('add' as const),
        after: span,
        times: fc.integer({ min: 1, max: 5 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('addAt' as const), deadline: instant }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('remove' as const), pick: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('removeFirst' as const) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('next' as const) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), by: span }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('advanceToNext' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('jump' as const), to: instant }) },
  );

  function run(start: number, commands: readonly Command[]): void {
    const queue = new TimerQueue<Timer>(start);
    const model = new Model();
    const everybody: Timer[] = [];
    let now = start;

    const add = (deadline: number) => {
      const timer = new Timer(deadline);
      everybody.push(timer);
      queue.add(timer);
      model.add(timer);
    };
    const take = () => {
      const due: Timer[] = [];
      const count = queue.takeDue(now, due);
      const expected = model.takeDue(now);
      expect(deadlines(due)).toEqual(deadlines(expected));
      expect(due.every((timer, index) => timer === expected[index])).toBe(true);
      expect(count).toBe(expected.length);
      for (const timer of due) expect(queue.remove(timer)).toBe(false);
    };

    for (const step of commands) {
      if (step.do === 'add') for (let time = 0; time < step.times; time++) add(now + step.after);
      else if (step.do === 'addAt') add(step.deadline);
      else if (step.do === 'remove') {
        const timer = everybody[step.pick % everybody.length];
        if (timer !== undefined) expect(queue.remove(timer)).toBe(model.remove(timer));
      } else if (step.do === 'removeFirst') {
        const timer = model.timers[0];
        if (timer !== undefined) expect(queue.remove(timer)).toBe(model.remove(timer));
      } else if (step.do === 'next') {
        expect(queue.nextDeadline()).toBe(model.timers[0]?.deadline ?? Infinity);
      } else {
        if (step.do === 'advance') now += step.by;
        else if (step.do === 'jump') now = step.to;
        else now = Math.max(now, model.timers[0]?.deadline ?? now);
        // A clock that stands at infinity has no later reading to go on from.
        if (!Number.isFinite(now)) now = Math.sign(now) * Number.MAX_VALUE;
        take();
      }
      expect(queue.size).toBe(model.timers.length);
    }
    expect(queue.nextDeadline()).toBe(model.timers[0]?.deadline ?? Infinity);
    now = Infinity;
    take();
    expect(queue.size).toBe(0);
    expect(queue.nextDeadline()).toBe(Infinity);
  }

  test('adding, removing and a clock that goes both ways give what a sorted array gives', () => {
    const start = fc.oneof(
      fc.constant(0),
      fc.constant(1.7e12),
      fc.double({ min: -1e9, max: 1e13, noNaN: true }),
    );
    fc.assert(fc.property(start, fc.array(command, { maxLength: 120, size: 'max' }), run), { numRuns: 1500 });
  });

  test('a thousand timers in a bucket, half of them removed in any order, come out sorted', () => {
    const pattern = fc.record({
      seed: fc.integer(),
      spread: fc.constantFrom(0, 0.001, 1, 15, 1000, 1e6, 1e9),
      asked: fc.boolean(),
    });
    fc.assert(
      fc.property(pattern, ({ seed, spread, asked }) => {
        let state = seed | 1;
        const random = () => {
          state ^= state << 13;
          state ^= state >>> 17;
          state ^= state << 5;
          return (state >>> 0) / 2 ** 32;
        };
        const queue = new TimerQueue<Timer>(0);
        const timers = Array.from(
          { length: 1000 },
          () => new Timer(1 + Math.floor(random() * 500) * (spread / 500)),
        );
        for (const timer of timers) {
          queue.add(timer);
          if (asked) queue.nextDeadline();
        }
        const kept = timers.filter((timer) => random() < 0.5 || !queue.remove(timer));
        const expected = kept.toSorted((a, b) => a.deadline - b.deadline); // stable: FIFO among equals
        const due: Timer[] = [];
        for (let now = 0; queue.size > 0; now += 1 + spread / 7) queue.takeDue(now, due);
        expect(due.length).toBe(expected.length);
        expect(due.findIndex((timer, index) => timer !== expected[index])).toBe(-1);
      }),
      { numRuns: 60 },
    );
  });
});

describe('deadlines', () => {
  test('nothing is handed out a fraction of a microsecond early, and all of it on time', () => {
    const queue = new TimerQueue<Timer>(1000);
    const deadline = 1234.567890123;
    queue.add(new Timer(deadline));
    expect(drain(queue, deadline - 1e-9)).toEqual([]);
    expect(queue.nextDeadline()).toBe(deadline);
    expect(drain(queue, deadline)).toEqual([deadline]);
  });

  test('equal deadlines come out in the order of adding, also when they were added at different distances', () => {
    const queue = new TimerQueue<Timer>(0);
    const timers: Timer[] = [];
    const due: Timer[] = [];
    // 10 000 000 ms away, then a second, then a millisecond, then due already: each time another place in the wheel.
    for (const now of [0, 9_999_000, 9_999_999, 10_000_001]) {
      queue.takeDue(Math.min(now, 9_999_999), due);
      for (let time = 0; time < 3; time++) {
        const timer = new Timer(10_000_000);
        timers.push(timer);
        queue.add(timer);
      }
    }
    expect(due).toEqual([]);
    queue.takeDue(10_000_001, due);
    expect(due.map((timer) => timers.indexOf(timer))).toEqual(timers.map((_, index) => index));
  });

  test('months and years do not wrap around', () => {
    const day = 86_400_000;
    const ahead = [2 ** 31 + 0.5, 25 * day, 2 ** 32 + 0.5, 365 * day, 100 * 365 * day, Number.MAX_VALUE];
    const queue = new TimerQueue<Timer>(0);
    for (const deadline of ahead.toReversed()) queue.add(new Timer(deadline));
    for (const deadline of ahead) {
      expect(queue.nextDeadline()).toBe(deadline);
      expect(drain(queue, deadline * (1 - Number.EPSILON))).toEqual([]);
      expect(drain(queue, deadline)).toEqual([deadline]);
    }
  });

  test('a timer at infinity stays until it is removed', () => {
    const queue = new TimerQueue<Timer>(0);
    const never = new Timer(Infinity);
    queue.add(never);
    queue.add(new Timer(5));
    expect(drain(queue, 1e300)).toEqual([5]);
    expect(queue.size).toBe(1);
    expect(queue.nextDeadline()).toBe(Infinity);
    expect(queue.remove(never)).toBe(true);
    expect(queue.size).toBe(0);
  });

  test('a clock set forward by years hands out what became due, and set back by years holds the rest', () => {
    const year = 365 * 86_400_000;
    const now = 1.7e12;
    const queue = new TimerQueue<Timer>(now);
    for (const after of [1, year, 10 * year]) queue.add(new Timer(now + after));
    expect(drain(queue, now + 5 * year)).toEqual([now + 1, now + year]);
    queue.add(new Timer(now + 2));
    queue.add(new Timer(now + 1));
    expect(drain(queue, now)).toEqual([]);
    expect(queue.nextDeadline()).toBe(now + 1);
    expect(drain(queue, now + 1.5)).toEqual([now + 1]);
    expect(drain(queue, now + 20 * year)).toEqual([now + 2, now + 10 * year]);
  });
});

describe('membership', () => {
  test('removing what is not in the queue says so and changes nothing', () => {
    const queue = new TimerQueue<Timer>(0);
    const other = new TimerQueue<Timer>(0);
    const timer = new Timer(1);
    expect(queue.remove(timer)).toBe(false);
    queue.add(timer);
    other.add(new Timer(1));
    expect(other.remove(timer)).toBe(false);
    expect(queue.remove(timer)).toBe(true);
    expect(queue.remove(timer)).toBe(false);
    expect([queue.size, other.size]).toEqual([0, 1]);
  });

  test('what was taken is out of the queue and can be added again at once', () => {
    const queue = new TimerQueue<Timer>(0);
    const timer = new Timer(1);
    const due: Timer[] = [];
    for (let round = 1; round <= 3; round++) {
      queue.add(timer);
      expect(queue.takeDue(round, due)).toBe(1);
      expect(queue.remove(timer)).toBe(false);
      expect(queue.size).toBe(0);
    }
    expect(due).toEqual([timer, timer, timer]);
  });

  test('what is added after the clock has been read waits for the next call', () => {
    const queue = new TimerQueue<Timer>(0);
    queue.add(new Timer(1));
    const due: Timer[] = [];
    queue.takeDue(1, due);
    queue.add(new Timer(-5));
    expect(deadlines(due)).toEqual([1]);
    expect(queue.nextDeadline()).toBe(-5);
    queue.takeDue(1, due);
    expect(deadlines(due)).toEqual([1, -5]);
  });

  test('a burst of a hundred thousand comes and goes, twice', () => {
    const queue = new TimerQueue<Timer>(0);
    for (let burst = 0; burst < 2; burst++) {
      const timers = Array.from({ length: 100_000 }, (_, index) => new Timer((index * 7919) % 100_003));
      for (const timer of timers) queue.add(timer);
      for (let index = 0; index < timers.length; index += 2) queue.remove(timers[index] as Timer);
      const out = drain(queue, 200_000 * (burst + 1));
      expect(out.length).toBe(50_000);
      expect(out).toEqual(out.toSorted((a, b) => a - b));
      for (const timer of timers) queue.add(timer);
      expect(timers.every((timer) => queue.remove(timer))).toBe(true);
      expect(queue.size).toBe(0);
    }
  });
});
