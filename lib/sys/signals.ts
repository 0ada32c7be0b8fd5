/**
 * Names and numbers of signals. Names are those of `os.constants.signals`, with or without SIG; real-time signals are
 * counted from their ends (`SIGRTMIN+3`, `RTMAX-1`), as the shell's `kill -l` has them.
 */
import { constants } from 'node:os';
import { checkInteger, invalidType, nearest, unknownSignal } from './errors.ts';
import { native } from './native.ts';

const numbers = new Map<string, number>(Object.entries(constants.signals));
// Some numbers have two names (SIGABRT and SIGIOT, SIGIO and SIGPOLL): the first one listed is the usual one.
const names = new Map([...numbers].reverse().map(([name, number]) => [number, name]));
const { SIGRTMIN, SIGRTMAX } = native;
// Without what they have in common, which would make them look alike.
const shortNames = [...numbers.keys(), ...(SIGRTMIN === undefined ? [] : ['SIGRTMIN', 'SIGRTMAX'])].map(
  (name) => name.slice(3),
);
/** The highest signal number of this platform. */
const last = SIGRTMAX ?? Math.max(...names.keys());

/** The number of a signal. Throws ERR_FORKBEARD_UNKNOWN_SIGNAL for a name or number that is none. */
export function signalNumber(signal: string | number): number {
  if (typeof signal === 'number') {
    if (Number.isInteger(signal) && signal >= 1 && signal <= last) return signal;
    throw unknownSignal(signal);
  }
  if (typeof signal !== 'string') throw invalidType('signal', 'the name or number of a signal', signal);
  const name = signal.startsWith('SIG') ? signal : `SIG${signal}`;
  const number = numbers.get(name) ?? realTimeNumber(name);
  if (number !== undefined) return number;
  const near = nearest(signal.replace(/^SIG/i, ''), shortNames);
  throw unknownSignal(signal, near === undefined ? undefined : `SIG${near}`);
}

/** The name of a signal, with SIG; `SIG32` for one without a name. */
export function signalName(number: number): string {
  checkInteger(number, 'signal', 1, last);
  const name = names.get(number);
  if (name !== undefined) return name;
  if (SIGRTMIN === undefined || number < SIGRTMIN) return `SIG${number}`;
  if (number === SIGRTMAX) return 'SIGRTMAX';
  return number === SIGRTMIN ? 'SIGRTMIN' : `SIGRTMIN+${number - SIGRTMIN}`;
}

function realTimeNumber(name: string): number | undefined {
  if (SIGRTMIN === undefined || SIGRTMAX === undefined) return undefined;
  const match = /^SIGRT(?:MIN(?:\+(\d{1,2}))?|MAX(?:-(\d{1,2}))?)$/.exec(name);
  if (match === null) return undefined;
  const number = name.startsWith('SIGRTMIN')
    ? SIGRTMIN + Number(match[1] ?? 0)
    : SIGRTMAX - Number(match[2] ?? 0);
  return number >= SIGRTMIN && number <= SIGRTMAX ? number : undefined;
}
