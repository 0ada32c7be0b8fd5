/** Words for people that every program of ours has: how long, how often, how bad. Used by logs and boards. */

export type Level = 'info' | 'warn' | 'error';
/** What an event means: one level and one line, perhaps with a stack below it. */
export type Sentence = [level: Level, text: string];

export const info = (text: string): Sentence => ['info', text];
export const warn = (text: string): Sentence => ['warn', text];
export const error = (text: string): Sentence => ['error', text];

/** A sentence for each event, complete by its type: an event without one does not compile. */
export type Sentences<Events extends Record<keyof Events, readonly unknown[]>> = {
  [E in keyof Events]: (fields: Events[E][0]) => Sentence;
};

export function time(ms: number): string {
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** A span that somebody has set: to the millisecond, in the unit in which it is short. */
export function span(ms: number): string {
  if (ms < 1000) return `${ms} ms`;
  return ms >= 60_000 && ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1000} s`;
}

export function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}

export function plural(word: string, count: number): string {
  return count === 1 ? word : `${word}s`;
}

/** How a process ended. */
export function ending(exitCode: number | null, signal: string | null): string {
  return signal ?? (exitCode === null ? 'nobody saw how' : `exit code ${exitCode}`);
}
