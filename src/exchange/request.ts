import type { CompactReader } from '../compact/value_reader.ts';
import type { CompactWriter } from '../compact/value_writer.ts';
import type { Address } from '../link/link.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { JsonValue } from '../matrix/json.ts';

/** JSON that its application writes in a form of its own, where the compact form is agreed on. */
export interface FormedBody {
  readonly kind: 'formed';
  /** The same, for peers without the compact form. */
  readonly json: JsonValue;
  /** Of an answer for which nothing is written there is no payload. */
  write(writer: CompactWriter): void;
  /** Of an answer whose first byte says that it is formed (`isBareAnswer`): nothing stands in front of it. */
  readonly bare?: true;
}

/** What a request or a response carries: JSON, in some form, or bytes of some media type. */
export type Body =
  | { readonly kind: 'json'; readonly value: JsonValue }
  | { readonly kind: 'bytes'; readonly contentType: string; readonly bytes: Uint8Array }
  | FormedBody
  /** One that was read: the form is the application's to read on. Its names are those of its message, also later. */
  | { readonly kind: 'compact'; readonly reader: CompactReader };

/** The JSON of a body that this side has made, or has read whole; undefined where it is none. */
export function jsonOf(body: Body | undefined): JsonValue | undefined {
  if (body?.kind === 'json') return body.value;
  return body?.kind === 'formed' ? body.json : undefined;
}

/** A request with HTTP's meaning and without HTTP's bytes. */
export interface ExchangeRequest {
  /** One of METHODS, in capitals. */
  readonly method: string;
  /** As in a URL: percent-encoded, beginning with a slash, without the query. */
  readonly path: string;
  /** As in a URL: percent-encoded, without the question mark; empty where there is none. */
  readonly query: string;
  /** The value of HTTP's Authorization header. */
  readonly authorization?: string;
  /** It is no message of a peer: this side asks itself for what an observer is told next. */
  readonly forObserver?: true;
  readonly body?: Body;
}

/**
 * Who makes a request: a server or a device that the pipe has proved, or somebody who speaks plain CoAP from an address.
 * Of a device only the key is proved; whose it is the homeserver knows. `mode` is there where everybody can read what
 * passes through the pipe: then what is secret has to be refused.
 */
export type Caller =
  | { readonly kind: 'server'; readonly name: ServerName; readonly mode?: 'authenticated-only' }
  | {
      readonly kind: 'device';
      /** The public half of the device's Noise key: 64 hexadecimal digits in lower case. */
      readonly key: string;
      /** Where the device was last. */
      readonly address: Address;
      readonly mode?: 'authenticated-only';
    }
  | { readonly kind: 'plain'; readonly address: Address };

/** CoAP's request codes (RFC 7252, section 12.1.1; PATCH: RFC 8132, section 4) of HTTP's methods. */
export const METHODS = { GET: 1, POST: 2, PUT: 3, DELETE: 4, PATCH: 6 } as const;
export type Method = keyof typeof METHODS;

export const isMethod = (method: string): method is Method => Object.hasOwn(METHODS, method);

/** The method of a CoAP request code, or undefined where HTTP has none for it. */
export function methodOf(code: number): Method | undefined {
  return (Object.keys(METHODS) as Method[]).find((method) => METHODS[method] === code);
}
