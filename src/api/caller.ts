import type { ServerName } from '../matrix/ids.ts';

/** Who a door has proved the caller to be. */
export type Caller = { readonly kind: 'server'; readonly name: ServerName };

/**
 * Where a door leaves what it has proved, on the raw request. A symbol and not a header, so that nothing which comes
 * in over a wire can claim it.
 */
export const CALLER: unique symbol = Symbol('caller');

declare module 'node:http' {
  interface IncomingMessage {
    [CALLER]?: Caller;
  }
}
