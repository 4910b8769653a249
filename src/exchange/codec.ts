import type { Result } from '../base/result.ts';
import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import type { MatrixError } from '../matrix/error.ts';
import type { ExchangeRequest } from './request.ts';
import type { ExchangeResponse } from './response.ts';

/** How requests and answers become CoAP's: `plain_codec.ts` for RFC 7252's peers, `pipe_codec.ts` for our own. */
export interface Codec {
  /** The problem is a sentence: what this encoding cannot say. */
  encodeRequest(request: ExchangeRequest): Result<CoapRequest>;
  /** The problem is the answer that the peer gets. */
  decodeRequest(coap: CoapRequest): Result<ExchangeRequest, MatrixError>;
  /** `to` is the request that is answered. */
  encodeResponse(response: ExchangeResponse, to: CoapRequest): CoapResponse;
  /** `to` is the request that is answered, where it is known. */
  decodeResponse(coap: CoapResponse, to?: ExchangeRequest): Result<ExchangeResponse>;
}
