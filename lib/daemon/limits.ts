/**
 * Resource limits as processes have them and logs tell them. The application's processes load this: schemas, with all
 * that these bring, are in limit-kinds.ts.
 */

/** Infinity is none; a hard limit that is not there stays as it is. */
export type Limits = Record<string, { soft: number; hard?: number | undefined }>;

export function formatLimits(limits: Readonly<Record<string, { soft: unknown; hard?: unknown }>>): string {
  return Object.entries(limits)
    .map(([name, { soft, hard = '' }]) => `${name}=${soft}${soft === hard ? '' : `:${hard}`}`)
    .join(', ');
}
