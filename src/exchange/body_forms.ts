import type { Result } from '../base/result.ts';
import type { CompactReader } from '../compact/value_reader.ts';
import type { JsonValue } from '../matrix/json.ts';
import type { Body, Caller, ExchangeRequest } from './request.ts';
import type { ExchangeResponse } from './response.ts';

/** How the bodies of some routes are written in fewer bytes than as JSON: a door's part of it. */
export interface BodyForms {
  /**
   * The JSON body that a request's form stands for, or the answer that its sender gets instead: then nothing has been done, and
   * the request is not in the ledger. The same request has the same JSON each time, since the ledger compares it.
   */
  restoreRequest(
    caller: Caller,
    request: ExchangeRequest,
    reader: CompactReader,
  ): Promise<Result<JsonValue, ExchangeResponse>>;

  /**
   * The form of an answer's JSON body; undefined: it goes as JSON.
   * @param request with its JSON body
   */
  formAnswer(caller: Caller, request: ExchangeRequest, response: ExchangeResponse): Promise<Body | undefined>;
}
