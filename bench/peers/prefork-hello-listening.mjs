// Hello world for those who have applications listen: node:cluster and PM2.
import { createServer } from 'node:http';
import application from './prefork-hello.mjs';

createServer(application).listen(Number(process.env.PORT ?? 0), '127.0.0.1', 2048);
