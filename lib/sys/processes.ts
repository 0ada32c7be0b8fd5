/**
 * Signals to processes, and the way out of this one: kill(2) and _exit(2) as they are. For children use their own
 * `kill`, which never reaches a stranger; these take bare numbers.
 */
import { check, checkInteger } from './errors.ts';
import { native } from './native.ts';
import { signalNumber } from './signals.ts';

/** kill(2): 0 is our own group, negative numbers are groups, -1 is everybody. Signal 0 asks whether it exists. */
export function kill(pid: number, signal: string | number): void {
  checkInteger(pid, 'pid', -0x8000_0000, 0x7fff_ffff);
  const number = signal === 0 ? 0 : signalNumber(signal);
  check(native.kill(pid, number), 'kill', { pid });
}

/** _exit(2): ends this process at once. No exit listeners run, and nothing is flushed. */
export function exit(code: number): never {
  checkInteger(code, 'code', 0, 255);
  native.exit(code);
}
