import type { IncomingMessage } from 'node:http';
import type { ServerName } from '../matrix/ids.ts';

/** Who a door has proved the caller to be. */
export type Caller =
  | { readonly kind: 'server'; readonly name: ServerName }
  | {
      readonly kind: 'device';
      /** The public half of the device's Noise key: 64 hexadecimal digits. */
      readonly key: string;
    };

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

/** The key of the device that has proved to be the caller; undefined where a token has to prove it. */
export function deviceKeyOf(request: IncomingMessage): string | undefined {
  const caller = request[CALLER];
  return caller?.kind === 'device' ? caller.key : undefined;
}
