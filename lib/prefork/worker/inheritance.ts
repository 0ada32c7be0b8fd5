/**
 * What a process of the application finds open when it starts: the monitor spawns it so, and a mold hands the same on
 * to the workers that it forks.
 */
import { fileURLToPath } from 'node:url';

/** The program of molds and of spawned workers. */
export const workerEntry = fileURLToPath(new URL('./entry.js', import.meta.url));

/** Its channel to the monitor. */
export const CHANNEL = 3;
/** The scoreboard. */
export const BOARD = 4;
/** The listening sockets, in the order of `plan.listen`, from here on. */
export const FIRST_LISTENER = 5;
