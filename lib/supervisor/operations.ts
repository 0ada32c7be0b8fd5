/**
 * What is done to a service, one thing at a time. Who asks for what is the last thing in the line already, shares its
 * result. A stop ends what stands before it in the line. Knows nothing of services.
 */

export interface Operation {
  readonly kind: string;
  readonly promise: Promise<unknown>;
}

interface Entry extends Operation {
  readonly abort: AbortController;
  readonly begin: () => Promise<void>;
  readonly reject: (error: unknown) => void;
}

export class Operations {
  #current: Entry | null = null;
  #waiting: Entry[] = [];
  readonly #onIdle: () => void;

  constructor(onIdle: () => void) {
    this.#onIdle = onIdle;
  }

  /** The one that whatever is added now would wait for. */
  get last(): Operation | null {
    return this.#waiting.at(-1) ?? this.#current;
  }

  /** `perform` gets to know by the signal that nobody wants it any more, and has then to leave things in order. */
  add<T>(kind: string, perform: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const last = this.#waiting.at(-1) ?? this.#current;
    if (last?.kind === kind && !last.abort.signal.aborted) return last.promise as Promise<T>;
    const abort = new AbortController();
    let resolve: (result: T) => void = () => {};
    let reject: (error: unknown) => void = () => {};
    const promise = new Promise<T>((fulfil, refuse) => {
      resolve = fulfil;
      reject = refuse;
    });
    const begin = async () => {
      try {
        resolve(await perform(abort.signal));
      } catch (error) {
        reject(error);
      }
    };
    this.#waiting.push({ kind, promise, abort, begin, reject });
    if (this.#current === null) void this.#pump();
    return promise;
  }

  /** Ends what is under way and drops what waits, except those of `spare`. */
  interrupt(reason: Error, spare: string): void {
    if (this.#current !== null && this.#current.kind !== spare) this.#current.abort.abort(reason);
    const dropped = this.#waiting.filter(({ kind }) => kind !== spare);
    this.#waiting = this.#waiting.filter(({ kind }) => kind === spare);
    for (const { reject } of dropped) reject(reason);
  }

  async #pump(): Promise<void> {
    for (let entry = this.#waiting.shift(); entry !== undefined; entry = this.#waiting.shift()) {
      this.#current = entry;
      await entry.begin();
      this.#current = null;
    }
    this.#onIdle();
  }
}
