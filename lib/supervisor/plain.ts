/** Events and reports as JSON has them: an error is an object of what it says. Used by log and control socket. */

/** A copy without errors and undefined values in it. */
export function plain<T>(value: T): T {
  return JSON.parse(JSON.stringify(value, replace)) as T;
}

function replace(_key: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const { message, code, errno, syscall, step, path } = value as Error & Record<string, unknown>;
  return { message, code, errno, syscall, step, path };
}
