// V8 with Node's own threads.
import { measure } from './pool-work.mjs';

measure();
