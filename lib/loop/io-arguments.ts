/** What watchIo is given, looked at and copied once: what was checked is what is used. */
import { checkBoolean, checkFunction, checkKeys, checkObject, invalidValue } from '../sys/errors.ts';
import type { IoHandlers, IoOptions } from './contract.ts';

const HANDLERS = ['onReadReady', 'onWriteReady', 'onHangup', 'onError'] as const;
const OPTIONS = ['edge', 'oneshot', 'exclusive'] as const;

export function takeHandlers(handlers: IoHandlers): IoHandlers {
  checkObject(handlers, 'handlers');
  checkKeys(handlers, HANDLERS, 'handler');
  const taken: IoHandlers = {};
  let some = false;
  for (const name of HANDLERS) {
    const handler = handlers[name];
    if (handler === undefined) continue;
    checkFunction(handler, `handlers.${name}`);
    taken[name] = handler as never;
    some = true;
  }
  if (some) return taken;
  throw invalidValue('handlers', 'an object with onReadReady, onWriteReady, onHangup or onError', handlers);
}

export function takeOptions(options: IoOptions): IoOptions {
  checkObject(options, 'options');
  checkKeys(options, OPTIONS, 'option');
  const taken: IoOptions = {};
  for (const name of OPTIONS) {
    const value = options[name];
    if (value === undefined) continue;
    checkBoolean(value, `options.${name}`);
    taken[name] = value;
  }
  return taken;
}
