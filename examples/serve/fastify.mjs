/** A Fastify application: the instance itself, which is made ready before the first request. */
import Fastify from 'fastify';

const app = Fastify();
app.get('/', async () => ({ hello: 'fastify', pid: process.pid }));
app.get('/users/:id', async (request) => ({ id: request.params.id }));
app.post('/sum', async (request) => ({ sum: request.body.reduce((a, b) => a + b, 0) }));

export default app;
