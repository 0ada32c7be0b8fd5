// V8 with forkbeard's threads, as it is from the first fork on.
import { Loop } from 'forkbeard';
import { measure } from './pool-work.mjs';

const { v8 } = Loop.current().forkSafety();
if (v8 !== 'workers-recreated') throw new Error(`forks are ${v8}`);
measure();
