/**
 * What the application listens for on `process` (uncaught exceptions, signals, the end). A fork forgets all listeners
 * of `process`, since they are the parent's; those that the application registered while it was loaded are meant for
 * its workers, and are registered there anew.
 */
interface Listening {
  event: string | symbol;
  listener: (...args: unknown[]) => void;
}

/** Runs `load` and tells which listeners were added meanwhile. */
export async function listenersOf(load: () => Promise<void>): Promise<Listening[]> {
  const before = all();
  await load();
  const known = new Set(before.map(({ listener }) => listener));
  return all().filter(({ listener }) => !known.has(listener));
}

export function listenAnew(listening: readonly Listening[]): void {
  for (const { event, listener } of listening) process.on(event as never, listener as never);
}

export type { Listening };

function all(): Listening[] {
  // Node's own two, by which it learns of listeners for signals.
  const events = process
    .eventNames()
    .filter((event) => event !== 'newListener' && event !== 'removeListener');
  return events.flatMap((event) =>
    process.rawListeners(event as never).map((listener) => ({ event, listener: listener as never })),
  );
}
