/**
 * Whether a packet is something that a worker or mold may say. A process of the application may be out of its mind:
 * nothing that it sends is believed before it was looked at, and whoever talks nonsense is not listened to any more.
 */
import type { FromMold, FromWorker } from '../messages.ts';

type Check = (value: unknown) => boolean;
type Shapes<Message extends { type: string }> = {
  [Type in Message['type']]: { [Field in Exclude<keyof Extract<Message, { type: Type }>, 'type'>]: Check };
};

const text: Check = (value) => typeof value === 'string';
const number: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const pid: Check = (value) => Number.isInteger(value) && (value as number) > 1;
const index: Check = (value) => Number.isInteger(value) && (value as number) >= 0;
const oneOf =
  (...values: string[]): Check =>
  (value) =>
    values.includes(value as string);
const failure: Check = (value) =>
  isRecord(value) &&
  text(value['message']) &&
  (value['stack'] === undefined || text(value['stack'])) &&
  index(value['exitCode']) &&
  (value['exitCode'] as number) < 256;
const hazards: Check = (value) =>
  Array.isArray(value) &&
  value.every((hazard) => isRecord(hazard) && text(hazard['code']) && text(hazard['message']));

const worker: Shapes<FromWorker> = {
  hello: { pid },
  ready: {},
  failed: { error: failure },
  paused: { reason: oneOf('descriptors') },
  resumed: {},
  tired: { reason: oneOf('requests', 'lifetime') },
  leaving: {},
  'slow-request': { method: text, url: text, age: number },
  promoted: { pid },
  'not-promoted': { error: failure },
};

const mold: Shapes<FromMold> = {
  loaded: { pid, ms: number, hazards, method: oneOf('fork', 'spawn'), cutOff: text },
  failed: { error: failure },
  forked: { entry: index, pid },
  'not-forked': { entry: index, error: failure },
};

export function isFromWorker(message: unknown): message is FromWorker {
  return fits(message, worker);
}

export function isFromMold(message: unknown): message is FromMold {
  return fits(message, mold);
}

function fits(message: unknown, shapes: Record<string, Record<string, Check>>): boolean {
  if (!isRecord(message) || typeof message['type'] !== 'string') return false;
  if (!Object.hasOwn(shapes, message['type'])) return false;
  const shape = shapes[message['type']] as Record<string, Check>;
  return Object.entries(shape).every(([field, check]) => check(message[field]));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
