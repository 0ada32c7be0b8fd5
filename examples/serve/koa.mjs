/** A Koa application: the instance itself, or its `callback()`. */
import Koa from 'koa';

const app = new Koa();
app.use(async (context) => {
  if (context.path === '/') context.body = { hello: 'koa', pid: process.pid };
  else context.throw(404, 'Nothing here');
});

export default app;
