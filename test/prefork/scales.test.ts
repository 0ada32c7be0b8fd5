/** How often memory is looked at, and when a worker is too heavy. The worker's size is this process's; the clock is the test's. */
import { describe, expect, test } from 'vitest';
import { memoryOf, residentOf } from '../../dist/prefork/monitor/memory.js';
import { Scales } from '../../dist/prefork/monitor/scales.js';
import type { Worker } from '../../dist/prefork/monitor/worker.js';

const MB = 2 ** 20;

/** One that says of itself what is private, and counts how often it was asked. */
class Weighing {
  readonly pid = process.pid;
  uss: number;
  asked = 0;

  constructor(uss: number) {
    this.uss = uss;
  }

  readMemory() {
    this.asked++;
    return { rss: residentOf(this.pid), pss: this.uss, uss: this.uss };
  }
}

function weigh(scales: Scales, worker: Weighing, times: readonly number[]) {
  const heavy: number[] = [];
  const next = times.map((now) => scales.look(now, [worker as unknown as Worker], () => heavy.push(now)));
  return { heavy, next };
}

const every = (ms: number, until: number) => Array.from({ length: until / ms }, (_, index) => index * ms);

describe('a worker', () => {
  test('far from the limit is looked at twice a second and weighed every five seconds', () => {
    const worker = new Weighing(10 * MB);
    const { heavy, next } = weigh(new Scales({ maxMemory: 100_000 * MB }), worker, every(500, 20_000));
    expect(heavy).toEqual([]);
    expect(worker.asked).toBe(4);
    expect(Math.max(...next)).toBe(500);
  });

  test('is weighed every five seconds where there is no limit, for the record of its end', () => {
    const worker = new Weighing(10 * MB);
    const { heavy, next } = weigh(new Scales({ maxMemory: 0 }), worker, every(5000, 20_000));
    expect({ heavy, asked: worker.asked }).toEqual({ heavy: [], asked: 4 });
    expect(next).toEqual([5000, 5000, 5000, 5000]);
  });

  test('above the limit is heavy when it still is a second later, once', () => {
    const worker = new Weighing(110 * MB);
    const { heavy } = weigh(new Scales({ maxMemory: 100 * MB }), worker, every(500, 10_000));
    expect(heavy).toEqual([1000]);
  });

  test('that had a peak is not', () => {
    const worker = new Weighing(110 * MB);
    const scales = new Scales({ maxMemory: 100 * MB });
    expect(weigh(scales, worker, [0, 500])).toEqual({ heavy: [], next: [500, 500] });
    worker.uss = 90 * MB;
    expect(weigh(scales, worker, every(500, 10_000).slice(2)).heavy).toEqual([]);
  });

  test('far above the limit is heavy at once', () => {
    const { heavy } = weigh(new Scales({ maxMemory: 100 * MB }), new Weighing(130 * MB), [0, 20]);
    expect(heavy).toEqual([0]);
  });

  test('that grows is looked at sooner, and weighed before its time', () => {
    const worker = new Weighing(10 * MB);
    const scales = new Scales({ maxMemory: 80 * MB });
    weigh(scales, worker, [0]);
    const grown = Buffer.alloc(64 * MB, 1);
    worker.uss += grown.length;
    // 74 MB of 80: weighed at the first look after it, though five seconds are far.
    const { next } = weigh(scales, worker, [100]);
    expect(worker.asked).toBe(2);
    expect(next[0]).toBeLessThan(500);
    expect(grown.at(-1)).toBe(1);
  });
});

test('what is resident is told alike by the quick look and by the thorough one', () => {
  const thorough = memoryOf(process.pid)?.rss as number;
  expect(residentOf(process.pid) / thorough).toBeGreaterThan(0.8);
  expect(residentOf(process.pid) / thorough).toBeLessThan(1.25);
  expect(residentOf(2 ** 22 + 1)).toBe(0);
});
