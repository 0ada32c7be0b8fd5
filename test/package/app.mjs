// What prefork.mjs and serve.mjs serve.
export default (_request, response) => response.end(`served by ${process.pid}`);
