/**
 * Exit codes that mean the same in every program of ours. Above Node's own (1 to 14) and below those of shells (126 and
 * up); a program adds its own beside them.
 */
export const EXIT = {
  usage: 2,
  addressInUse: 42,
  noPermission: 43,
  outOfDescriptors: 44,
} as const;
