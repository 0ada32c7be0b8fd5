// The echo server on forkbeard.
import { answer, serve } from './server-forkbeard.mjs';

serve({ bytes: answer });
