/** An Express application, as it is: an app is a request listener. */
import express from 'express';

const app = express();
app.use(express.json());
app.get('/', (_request, response) => response.json({ hello: 'express', pid: process.pid }));
app.get('/users/:id', (request, response) => response.json({ id: request.params.id }));
app.post('/sum', (request, response) => response.json({ sum: request.body.reduce((a, b) => a + b, 0) }));

export default app;
