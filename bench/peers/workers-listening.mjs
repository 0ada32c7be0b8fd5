// The application as PM2 runs it: it listens itself.
import { serve } from './workers-app.mjs';

await serve({ host: '127.0.0.1', port: Number(process.env.PORT) });
