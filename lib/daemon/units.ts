/** Times and sizes as people write them. Called by the schemas of options; throws messages for one line. */

const MILLISECONDS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const BYTES: Readonly<Record<string, number>> = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** What a timer of Node's can still count. */
const LONGEST = 24 * 86_400_000;
const NUMBER = String.raw`(\d+(?:\.\d+)?|\.\d+)`;
const DURATION = new RegExp(`^${NUMBER}\\s*(ms|s|m|min|h|d)$`);
const SIZE = new RegExp(`^${NUMBER}\\s*(?:(b)|([kmgt])(?:i?b)?)$`);

/** Milliseconds of '500ms', '30s', '1.5m', '2h', '1d' or a number. */
export function milliseconds(value: string | number): number {
  const ms = Math.round(amount(value, DURATION, MILLISECONDS, 'a time such as 500ms, 30s, 5m or 2h'));
  if (ms > LONGEST) throw new Error(`must be at most 24d, not ${value}`);
  return ms;
}

/** Bytes of '512k', '300mb', '1.5gb' or a number. A kilobyte has 1024 of them. */
export function bytes(value: string | number): number {
  const count = Math.round(amount(value, SIZE, BYTES, 'a size such as 512k, 300mb or 2gb'));
  if (!Number.isSafeInteger(count)) throw new Error(`must be a size that exists, not ${value}`);
  return count;
}

function amount(
  value: string | number,
  form: RegExp,
  units: Readonly<Record<string, number>>,
  expected: string,
): number {
  if (typeof value === 'number') {
    if (Number.isFinite(value) && value >= 0) return value;
    throw new Error(`must be ${expected}, not ${value}`);
  }
  const text = value.trim().toLowerCase();
  if (/^0+$/.test(text)) return 0;
  const [, count, ...unit] = form.exec(text) ?? [];
  if (count !== undefined)
    return Number(count) * (units[unit.find((name) => name !== undefined) as string] as number);
  // Whoever leaves out the unit may mean either.
  if (/^[\d.]+$/.test(text)) throw new Error(`needs a unit: ${expected}, not '${value}'`);
  throw new Error(`must be ${expected}, not '${value}'`);
}

/** The shortest form that says the same: for people. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0';
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    const size = MILLISECONDS[unit] as number;
    if (ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}

export function formatSize(count: number): string {
  if (count === 0) return '0';
  for (const unit of ['t', 'g', 'm', 'k'] as const) {
    const size = BYTES[unit] as number;
    if (count % size === 0) return `${count / size}${unit}b`;
  }
  return `${count}b`;
}
