import type { Result } from '../base/result.ts';
import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import { isCompact } from '../compact/container.ts';
import { contextClassOf } from '../compact/context_class.ts';
import { COMPACT_DICTIONARY } from '../compact/dictionary.ts';
import type { Agreement } from '../pipe/agreement.ts';
import type { Codec } from './codec.ts';
import { pipeCodec, pipeCodecFor } from './pipe_codec.ts';
import type { ExchangeRequest } from './request.ts';
import type { ExchangeResponse } from './response.ts';

/** The dictionaries that a side offers in its handshakes, best first (docs/protocol.md, "Negotiation"). */
export const OWN_DICTIONARIES: readonly number[] = [COMPACT_DICTIONARY];

const COMPACT = {
  nothing: pipeCodecFor({ writing: { context: {}, packing: { kind: 'nothing' } } }),
  static: pipeCodecFor({ writing: { context: {}, packing: { kind: 'static' } } }),
} as const;

/** Requests and answers with a payload that were written, by form. */
export interface FormCounters {
  compact: number;
  plain: number;
}

/**
 * Writes requests and answers to the peers of the pipe: in the compact form where that is agreed, else in the plain one, which
 * every peer reads. What comes is read by `pipeCodec`, whatever its form is.
 *
 * A request is written before it is known over which session it goes: for what is agreed in the current one, or remembered of
 * the last. So the first to a new peer is plain, and one that meets an older version in the peer's place is misread there.
 */
export class AgreedForms {
  readonly written: FormCounters = { compact: 0, plain: 0 };
  readonly #agreed: (peer: string) => Pick<Agreement, 'dictionaries'>;

  /** @param agreed what has been agreed with a peer */
  constructor(agreed: (peer: string) => Pick<Agreement, 'dictionaries'>) {
    this.#agreed = agreed;
  }

  /** The problem is a sentence: what cannot be said. */
  encodeRequest(peer: string, request: ExchangeRequest): Result<CoapRequest> {
    const encoded = this.#codecOf(peer, request).encodeRequest(request);
    if (encoded.ok) this.#count(encoded.value);
    return encoded;
  }

  /** @param request what is answered; undefined where it could not be read */
  encodeResponse(
    peer: string,
    response: ExchangeResponse,
    to: CoapRequest,
    request: ExchangeRequest | undefined,
  ): CoapResponse {
    const encoded = this.#codecOf(peer, request).encodeResponse(response, to);
    this.#count(encoded);
    return encoded;
  }

  /** Whether the peer could not read the form of a request and has handled nothing; written anew, it is read. */
  isMisread(peer: string, sent: CoapRequest, { status }: ExchangeResponse): boolean {
    return status === 400 && isCompact(sent.payload) && !this.#readsCompact(peer);
  }

  #readsCompact(peer: string): boolean {
    return this.#agreed(peer).dictionaries.includes(COMPACT_DICTIONARY);
  }

  #codecOf(peer: string, request: ExchangeRequest | undefined): Codec {
    if (!this.#readsCompact(peer)) return pipeCodec;
    return request === undefined || contextClassOf(request).kind === 'nothing'
      ? COMPACT.nothing
      : COMPACT.static;
  }

  #count({ payload }: CoapRequest | CoapResponse): void {
    if (payload.length > 0) this.written[isCompact(payload) ? 'compact' : 'plain']++;
  }
}
