import { sleep, systemClock } from '../../src/base/time.ts';
import { code } from '../../src/coap/codes.ts';
import { OPTION, type Option } from '../../src/coap/options.ts';
import type { Address } from '../../src/link/link.ts';

/** What a peer of another make is asked to do, whichever language it is written in. */
export interface PeerRequest {
  readonly method: PeerMethod;
  /** Path and query as they stand in a URI: `/echo/a%2Fb?x=1`. */
  readonly target: string;
  readonly payload?: Uint8Array;
  /** Without block-wise transfer and Uri-Path, Uri-Query, which the peer adds itself. */
  readonly options?: readonly Option[];
  /** Of the blocks; the peer's own choice where it is not given. */
  readonly blockSize?: number;
  /** Default true. */
  readonly confirmable?: boolean;
  /** How long the peer waits for an answer, default 30 s. */
  readonly timeoutMs?: number;
}

export type PeerMethod = 'GET' | 'POST' | 'PUT' | 'DELETE' | 'FETCH' | 'PATCH' | 'iPATCH';

/** What the peer has made of the answer. */
export interface PeerAnswer {
  /** Such as `2.05`. */
  readonly code: string;
  readonly payload: Uint8Array;
  /** In hexadecimal. */
  readonly eTag: string | undefined;
  /** As a path and a query, such as `/location/1?a=b`. */
  readonly location: string | undefined;
}

/** A client of another make. */
export interface PeerClient {
  /** Rejects where the peer gets no answer that it accepts. */
  request(server: Address, request: PeerRequest): Promise<PeerAnswer>;
  /**
   * Observes a resource: `onValue` gets the text of the first answer and of each notification, as the peer reports them.
   * @returns how to end it.
   */
  observe(
    server: Address,
    target: string,
    onValue: (text: string, length: number) => void,
  ): Promise<() => Promise<void>>;
  stop(): Promise<void>;
}

/** A server of another make. */
export interface PeerServer {
  readonly address: Address;
  stop(): Promise<void>;
}

/** Not a multiple of a block. */
export const LARGE_BYTES = 100_000;

/** A body that no block of is like the one before; the peers' own servers make the same one. */
export const large = (): Uint8Array => Uint8Array.from({ length: LARGE_BYTES }, (_, i) => i * 7 + (i >> 8));

/** What `/large-post` answers: every bit turned round, so that no body is mistaken for the other. */
export const inverted = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);

/** The number of a code that is written as `2.05`. */
export function codeOf(label: string): number {
  const [codeClass, detail] = label.split('.').map(Number);
  return code(codeClass!, detail!);
}

/** Segments and arguments with everything in them that a URI has to escape, and some that it need not. */
export const RESERVED = {
  target:
    "/echo/a%2Fb/%3Fq%23f/%5B%40%5D%3A/%20/%C3%A4%E2%82%AC/.../a=b;c,d!$&'()*+?x=a%26b&y=%3D%3F%2F&z=1+2&%C3%A4=%C3%B6",
  path: ['echo', 'a/b', '?q#f', '[@]:', ' ', 'ä€', '...', "a=b;c,d!$&'()*+"],
  query: ['x=a&b', 'y==?/', 'z=1+2', 'ä=ö'],
} as const;

/** Location-Path and Location-Query as one text; undefined where there is neither. */
export function locationOf(path: readonly string[], query: readonly string[]): string | undefined {
  if (path.length + query.length === 0) return undefined;
  return `/${path.join('/')}${query.length === 0 ? '' : `?${query.join('&')}`}`;
}

/** The options of a request to that path with those arguments. */
export function targetOptions(path: readonly string[], query: readonly string[] = []): Option[] {
  const option = (number: number) => (text: string) => ({ number, value: new TextEncoder().encode(text) });
  return [...path.map(option(OPTION.uriPath)), ...query.map(option(OPTION.uriQuery))];
}

/** How long a peer in a busy machine may take for anything. */
const PATIENCE_MS = 30_000;
const LOOK_AGAIN_MS = 5;

/** Resolves once `condition` holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = systemClock.monotonic() + PATIENCE_MS;
  while (!condition()) {
    if (systemClock.monotonic() > deadline) throw new Error(`waited in vain until ${what}`);
    await sleep(systemClock, LOOK_AGAIN_MS);
  }
}
