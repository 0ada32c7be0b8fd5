import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Action, type Member, Pool } from '../../dist/prefork/monitor/pool.js';

const started = (actions: Action[]) =>
  actions.filter((one) => one.do === 'start').map(({ member }) => member);
const retired = (actions: Action[]) =>
  actions.filter((one) => one.do === 'retire').map(({ member }) => member);

/** A pool of which all workers are ready. */
function full(target: number): Pool {
  const pool = new Pool(target);
  for (const member of started(pool.settle(0))) pool.ready(member);
  pool.settle(0);
  return pool;
}

describe('a pool', () => {
  test('starts a worker for each place, once', () => {
    const pool = new Pool(3);
    expect(started(pool.settle(0)).map(({ place }) => place)).toEqual([1, 2, 3]);
    expect(pool.settle(0)).toEqual([]);
    expect(pool.complete).toBe(false);
  });

  test('fills the place of one that has ended, under the same number', () => {
    const pool = full(3);
    pool.ended(pool.serving[1] as Member);
    expect(started(pool.settle(0)).map(({ place }) => place)).toEqual([2]);
  });

  test('waits where it was told to', () => {
    const pool = full(2);
    pool.ended(pool.serving[0] as Member);
    pool.postpone(1, 100);
    expect(pool.settle(99)).toEqual([]);
    expect(pool.nextStart).toBe(100);
    expect(started(pool.settle(100)).map(({ place }) => place)).toEqual([1]);
  });

  test('retires a worker only when its replacement is ready', () => {
    const pool = full(2);
    const [first] = pool.serving as [Member];
    pool.tired(first);
    const [next] = started(pool.settle(0)) as [Member];
    expect(next.place).toBe(1);
    expect(first.state).toBe('ready');
    pool.ready(next);
    expect(pool.settle(0)).toEqual([{ do: 'retire', member: first, why: 'recycled' }]);
  });

  test('goes on when the one that is replaced ends first', () => {
    const pool = full(1);
    const [first] = pool.serving as [Member];
    pool.tired(first);
    const [next] = started(pool.settle(0)) as [Member];
    pool.ended(first);
    expect(pool.settle(0)).toEqual([]);
    pool.ready(next);
    expect(pool.serving).toEqual([next]);
    expect(pool.complete).toBe(true);
  });

  test('renews one place after the other, and goes back when told to', () => {
    const pool = full(3);
    pool.renew(2);
    const [first] = started(pool.settle(0)) as [Member];
    expect(first).toMatchObject({ place: 1, generation: 2 });
    pool.ready(first);
    const actions = pool.settle(0);
    expect(started(actions).map(({ place }) => place)).toEqual([2]);
    pool.renew(1);
    const [second] = started(actions) as [Member];
    pool.ended(second);
    expect(started(pool.settle(0))).toMatchObject([{ place: 1, generation: 1 }]);
  });

  test('retires the highest places when there are to be fewer', () => {
    const pool = full(4);
    pool.resize(2);
    expect(retired(pool.settle(0)).map(({ place }) => place)).toEqual([3, 4]);
    expect(pool.complete).toBe(true);
  });

  test('keeps those whose places are gone while too few serve at the others', () => {
    const pool = new Pool(2);
    const [first, second] = started(pool.settle(0)) as [Member, Member];
    pool.ready(second);
    pool.resize(1);
    expect(pool.settle(0)).toEqual([]);
    pool.ready(first);
    expect(retired(pool.settle(0))).toEqual([second]);
  });

  test('fills the place of one that leaves of its own accord at once', () => {
    const pool = full(1);
    const [first] = pool.serving as [Member];
    pool.left(first);
    expect(started(pool.settle(0))).toHaveLength(1);
    pool.ended(first);
    expect(pool.settle(0)).toEqual([]);
  });
});

type Step =
  | { do: 'ready' | 'end' | 'tire' | 'leave'; which: number }
  | { do: 'resize' | 'renew'; to: number }
  | { do: 'postpone'; place: number }
  | { do: 'pass' | 'close' | 'reopen' };

const which = fc.nat(100);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('ready' as const), which }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('end' as const, 'tire', 'leave'), which }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('resize' as const), to: fc.integer({ min: 1, max: 25 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('renew' as const), to: fc.integer({ min: 1, max: 3 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('postpone' as const), place: fc.integer({ min: 1, max: 25 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('pass' as const, 'close', 'reopen') }) },
);

/** The world around a pool: carries out what it says, and knows who lives. */
class World {
  readonly pool: Pool;
  readonly living = new Set<Member>();
  now = 0;

  constructor(target: number) {
    this.pool = new Pool(target);
    this.settle();
  }

  pick(states: Member['state'][], at: number): Member | undefined {
    const found = [...this.living].filter(({ state }) => states.includes(state));
    return found[at % Math.max(1, found.length)];
  }

  take(one: Step): void {
    const { pool } = this;
    switch (one.do) {
      case 'ready': {
        const member = this.pick(['starting'], one.which);
        if (member) pool.ready(member);
        break;
      }
      case 'end': {
        const member = this.pick(['starting', 'ready', 'draining'], one.which);
        if (member) this.end(member);
        break;
      }
      case 'leave': {
        const member = this.pick(['ready'], one.which);
        if (member) pool.left(member);
        break;
      }
      case 'tire': {
        const member = this.pick(['ready', 'starting'], one.which);
        if (member) pool.tired(member);
        break;
      }
      case 'resize':
        pool.resize(one.to);
        break;
      case 'renew':
        pool.renew(one.to);
        break;
      case 'postpone':
        pool.postpone(one.place, this.now + 10);
        break;
      case 'pass':
        this.now += 20;
        break;
      case 'close':
        pool.close();
        break;
      case 'reopen':
        pool.reopen();
    }
    this.settle();
  }

  end(member: Member): void {
    this.living.delete(member);
    this.pool.ended(member);
  }

  settle(): void {
    const { pool } = this;
    const serving = pool.serving.length;
    const wanted = pool.open ? Math.min(serving, pool.target) : 0;
    const actions = pool.settle(this.now);
    for (const member of started(actions)) this.living.add(member);
    // Whatever is decided, nobody who serves goes before another serves in his place.
    expect(pool.serving.length).toBeGreaterThanOrEqual(wanted);
    expect(pool.settle(this.now)).toEqual([]);
    this.check();
  }

  check(): void {
    const { pool, living } = this;
    expect(new Set(pool.members)).toEqual(living);
    const present = [...living].filter(({ state }) => state !== 'draining');
    for (const { place } of present) {
      const there = present.filter((member) => member.place === place);
      expect(there.length).toBeLessThanOrEqual(2);
      // Two of them only while one takes over from the other.
      if (there.length === 2) expect(there.filter(({ state }) => state === 'starting')).not.toEqual([]);
      expect(pool.open).toBe(true);
    }
  }

  /** As if nothing failed any more. */
  calm(): void {
    for (let round = 0; round < 200 && !this.pool.complete; round++) {
      this.now += 20;
      for (const member of this.living) {
        if (member.state === 'starting') this.pool.ready(member);
        else if (member.state === 'draining') this.end(member);
      }
      this.settle();
    }
  }
}

const story = fc.array(step, { maxLength: 80 });

describe('a pool, whatever happens', () => {
  test('never has two workers at a place for good, and never fewer serving by a decision of its own', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 25 }), story, (target, steps) => {
        const world = new World(target);
        for (const one of steps) world.take(one);
      }),
    );
  });

  test('renews no more than a tenth of the places at a time', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), story, (target, steps) => {
        const world = new World(target);
        world.calm();
        const { limit } = world.pool;
        expect(limit).toBe(Math.max(1, Math.floor(target / 10)));
        for (const one of steps.filter(({ do: what }) => what !== 'resize')) {
          world.take(one);
          expect(world.pool.renewing).toBeLessThanOrEqual(limit);
        }
      }),
    );
  });

  test('is complete in the end, with workers of the generation that was asked for last', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 25 }), story, (target, steps) => {
        const world = new World(target);
        for (const one of steps) world.take(one);
        world.pool.reopen();
        world.calm();
        const { pool } = world;
        expect(pool.complete).toBe(true);
        expect(pool.serving.map(({ place }) => place)).toEqual(
          Array.from({ length: pool.target }, (_, index) => index + 1),
        );
        expect(pool.serving.every(({ generation }) => generation === pool.generation)).toBe(true);
      }),
    );
  });

  test('is empty after a stop, once everybody has ended', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 25 }), story, (target, steps) => {
        const world = new World(target);
        for (const one of steps) world.take(one);
        world.pool.close();
        world.settle();
        expect([...world.living].every(({ state }) => state === 'draining')).toBe(true);
        for (const member of [...world.living]) world.end(member);
        world.settle();
        expect(world.pool.empty).toBe(true);
      }),
    );
  });
});
