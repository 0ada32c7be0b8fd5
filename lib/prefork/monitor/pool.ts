/**
 * The bookkeeping of places and workers: who serves at which place, who is about to take over from whom, who is on the
 * way out. It is told what has happened (`ready`, `ended`, `tired`) and what is wanted (`resize`, `renew`, `close`);
 * `settle` then says what has to be done, each thing once. It knows no processes, sockets or clocks, and times only as
 * numbers that it is given. `server.ts` carries out what it says.
 *
 * What it holds to, whatever happens in whatever order: at most two workers at a place, and two only while one of them
 * is still starting; a worker that serves is retired only when its replacement is ready, its place is no longer wanted
 * or all is to stop; not more than a tenth of the places (one at least) are being renewed at a time.
 */

export interface Member {
  /** Its number in the pool, from 1. */
  readonly place: number;
  readonly generation: number;
  state: 'starting' | 'ready' | 'draining' | 'ended';
  /** It has served or lived long enough: it stays until somebody is ready to take over. */
  tired: boolean;
}

/** Why a worker is told to leave. */
export type Leaving = 'replaced' | 'recycled' | 'unwanted';

export type Action =
  | { readonly do: 'start'; readonly member: Member; readonly replaces: Member | undefined }
  | { readonly do: 'retire'; readonly member: Member; readonly why: Leaving };

interface Place {
  readonly number: number;
  /** Who serves there, or is the first to. */
  current: Member | undefined;
  /** Who is to take over, and is starting. */
  next: Member | undefined;
  /** Nobody is started before. */
  notBefore: number;
}

export class Pool {
  readonly #places = new Map<number, Place>();
  readonly #draining = new Set<Member>();
  #target: number;
  #generation: number;
  #open = true;

  constructor(target: number, generation = 1) {
    this.#target = target;
    this.#generation = generation;
  }

  /** How many places there should be; none counts while the pool is closed. */
  get target(): number {
    return this.#target;
  }

  get generation(): number {
    return this.#generation;
  }

  get open(): boolean {
    return this.#open;
  }

  /** Those that serve, in the order of their places. */
  get serving(): Member[] {
    return this.#sorted()
      .map(({ current }) => current)
      .filter((member) => member?.state === 'ready') as Member[];
  }

  /** Everybody who has not ended yet, in the order of places. */
  get members(): Member[] {
    const present = this.#sorted().flatMap(({ current, next }) => [current, next]);
    return [...(present.filter((member) => member !== undefined) as Member[]), ...this.#draining];
  }

  /** Every place that is wanted has a worker of this generation that serves, and nobody is about to take over. */
  get complete(): boolean {
    return this.#open && this.#wanted().every((place) => this.#current(place) && place.next === undefined);
  }

  /** How many places are being renewed, and how many may be at a time. */
  get renewing(): number {
    return [...this.#places.values()].filter(({ current, next }) => current && next).length;
  }

  get limit(): number {
    return Math.max(1, Math.floor(this.#target / 10));
  }

  /** Nobody is left. */
  get empty(): boolean {
    return this.members.length === 0;
  }

  /** When the next place may be filled that has to wait; Infinity when none does. */
  get nextStart(): number {
    const waiting = this.#open ? this.#wanted().filter((place) => !place.current) : [];
    return Math.min(Number.POSITIVE_INFINITY, ...waiting.map(({ notBefore }) => notBefore));
  }

  // ------------------------------------------------------------------------------- what is wanted

  resize(target: number): void {
    this.#target = target;
  }

  /** Workers of any other generation are to be replaced. */
  renew(generation: number): void {
    this.#generation = generation;
    for (const place of this.#places.values()) place.notBefore = 0;
  }

  /** Nobody is to be left. */
  close(): void {
    this.#open = false;
  }

  reopen(): void {
    this.#open = true;
  }

  /** Nobody is started at the place before that time. */
  postpone(place: number, until: number): void {
    const known = this.#places.get(place);
    if (known !== undefined) known.notBefore = until;
  }

  // ------------------------------------------------------------------------------- what has happened

  ready(member: Member): void {
    if (member.state === 'starting') member.state = 'ready';
  }

  tired(member: Member): void {
    member.tired = true;
  }

  /** It leaves of its own accord: its place is free. */
  left(member: Member): void {
    if (member.state === 'draining' || member.state === 'ended') return;
    this.ended(member);
    member.state = 'draining';
    this.#draining.add(member);
  }

  ended(member: Member): void {
    member.state = 'ended';
    this.#draining.delete(member);
    const place = this.#places.get(member.place);
    if (place === undefined) return;
    if (place.next === member) place.next = undefined;
    // Whoever was to take over does so now, ready or not.
    if (place.current === member) [place.current, place.next] = [place.next, undefined];
  }

  // ------------------------------------------------------------------------------- what has to be done

  settle(now: number): Action[] {
    const actions: Action[] = [];
    if (this.#open) for (const place of this.#wanted()) this.#takeOver(place, actions);
    this.#retireUnwanted(actions);
    if (!this.#open) return actions;
    let room = this.limit - this.renewing;
    for (const place of this.#wanted()) {
      if (now < place.notBefore) continue;
      if (place.current === undefined) {
        place.current = this.#start(place, undefined, actions);
      } else if (room > 0 && this.#isDue(place)) {
        place.next = this.#start(place, place.current, actions);
        room--;
      }
    }
    return actions;
  }

  /** Those that serve stay as long as too few serve at the places that are wanted. */
  #retireUnwanted(actions: Action[]): void {
    const isWanted = (place: Place) => this.#open && place.number <= this.#target;
    const serves = (place: Place) => place.current?.state === 'ready';
    const places = this.#sorted();
    let spare = this.#open ? this.#target - places.filter((p) => isWanted(p) && serves(p)).length : 0;
    for (const place of places) {
      if (isWanted(place)) continue;
      if (place.next !== undefined) this.#retire(place.next, 'unwanted', actions);
      place.next = undefined;
      if (serves(place) && spare-- > 0) continue;
      if (place.current !== undefined) this.#retire(place.current, 'unwanted', actions);
      this.#places.delete(place.number);
    }
  }

  #takeOver(place: Place, actions: Action[]): void {
    const { current, next } = place;
    if (next?.state !== 'ready') return;
    if (current !== undefined) this.#retire(current, current.tired ? 'recycled' : 'replaced', actions);
    [place.current, place.next] = [place.next, undefined];
  }

  /** One that is still starting is left in peace until it serves: a second one at its side would gain nothing. */
  #isDue({ current, next }: Place): boolean {
    if (current?.state !== 'ready' || next !== undefined) return false;
    return current.tired || current.generation !== this.#generation;
  }

  #start(place: Place, replaces: Member | undefined, actions: Action[]): Member {
    const member: Member = {
      place: place.number,
      generation: this.#generation,
      state: 'starting',
      tired: false,
    };
    actions.push({ do: 'start', member, replaces });
    return member;
  }

  #retire(member: Member, why: Leaving, actions: Action[]): void {
    member.state = 'draining';
    this.#draining.add(member);
    actions.push({ do: 'retire', member, why });
  }

  #current({ current }: Place): boolean {
    return current?.state === 'ready' && !current.tired && current.generation === this.#generation;
  }

  /** The places that should have somebody. */
  #wanted(): Place[] {
    return Array.from({ length: this.#target }, (_, index) => {
      const number = index + 1;
      const known = this.#places.get(number);
      if (known !== undefined) return known;
      const place: Place = { number, current: undefined, next: undefined, notBefore: 0 };
      this.#places.set(number, place);
      return place;
    });
  }

  #sorted(): Place[] {
    return [...this.#places.values()].sort((a, b) => a.number - b.number);
  }
}
