/**
 * Variables that functions of Node's own close over, for what Node has no call for: the inspector's protocol, spoken
 * within this process, shows them. Who asks must check that he got what he meant, and do without if not: they are
 * Node's to rename, and a Node may have no inspector.
 */
import { createRequire } from 'node:module';

export interface Variable {
  by: (...args: never[]) => unknown;
  name: string;
}

type Post = (method: string, params: object) => Record<string, unknown>;

interface Property {
  name: string;
  value?: { objectId?: string; description?: string };
}

const KEY = Symbol.for('forkbeard.closed-over');

/** What each variable holds, if that is an object; undefined for those that are not found. */
export function closedOver(variables: readonly Variable[]): unknown[] {
  const handOver: { function?: unknown; found?: unknown } = {};
  try {
    const { Session } = createRequire(import.meta.url)('node:inspector') as typeof import('node:inspector');
    const session = new Session();
    session.connect();
    Object.defineProperty(globalThis, KEY, { value: handOver, configurable: true });
    try {
      const post: Post = (method, params) => {
        let result: Record<string, unknown> = {};
        // Within one process the answer comes before the call returns.
        session.post(method as never, params as never, (error: Error | null, answer: unknown) => {
          if (error !== null) throw error;
          result = answer as Record<string, unknown>;
        });
        return result;
      };
      return variables.map(({ by, name }) => {
        handOver.function = by;
        handOver.found = undefined;
        lookUp(post, name);
        return handOver.found;
      });
    } finally {
      session.disconnect();
      delete (globalThis as Record<symbol, unknown>)[KEY];
    }
  } catch {
    return variables.map(() => undefined);
  }
}

/** Puts the variable of `function` that is called `name` into `found`. */
function lookUp(post: Post, name: string): void {
  const properties = (objectId: string | undefined, key: string) =>
    (objectId === undefined
      ? []
      : (post('Runtime.getProperties', { objectId, ownProperties: true })[key] ?? [])) as Property[];
  const exchange = `globalThis[Symbol.for('${KEY.description}')]`;
  const { result } = post('Runtime.evaluate', { expression: `${exchange}.function` }) as {
    result: { objectId?: string };
  };
  const scopes = properties(result.objectId, 'internalProperties').find(({ name }) => name === '[[Scopes]]');
  for (const { value: scope } of properties(scopes?.value?.objectId, 'result')) {
    // Looking at the global object would load what Node loads lazily.
    if (scope?.description === 'Global') continue;
    const objectId = properties(scope?.objectId, 'result').find((variable) => variable.name === name)?.value
      ?.objectId;
    if (objectId === undefined) continue;
    const functionDeclaration = `function () { ${exchange}.found = this; }`;
    post('Runtime.callFunctionOn', { objectId, functionDeclaration });
    return;
  }
}
