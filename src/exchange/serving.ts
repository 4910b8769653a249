import type { MessageId } from '../base/message_id.ts';
import { MatrixError } from '../matrix/error.ts';
import type { Caller, ExchangeRequest } from './request.ts';
import { type ExchangeResponse, errorResponse } from './response.ts';

/**
 * Answers a request. A MatrixError that it throws is the answer; anything else is a mistake of ours, and a 500.
 * @param message what the request is named by, however often it comes again: by the first copy of its first message; undefined
 * where it has come as plain CoAP, or from a peer without compact headers, or registers for an observation
 */
export type RequestHandler = (
  caller: Caller,
  request: ExchangeRequest,
  signal: AbortSignal,
  message?: MessageId,
) => Promise<ExchangeResponse>;

/** The handlers at work. How many there may be at a time is CoAP's bound on exchanges. */
export class Serving {
  readonly #running = new Map<Promise<ExchangeResponse>, AbortController>();
  readonly #failed: (error: unknown) => void;

  /** @param failed told of errors that are no MatrixError. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  get size(): number {
    return this.#running.size;
  }

  /** Runs a handler. Never rejects. @param signal aborts it before all are aborted */
  run(
    handle: RequestHandler,
    caller: Caller,
    request: ExchangeRequest,
    message: MessageId | undefined,
    signal?: AbortSignal,
  ): Promise<ExchangeResponse> {
    const controller = new AbortController();
    const either = signal === undefined ? controller.signal : AbortSignal.any([controller.signal, signal]);
    const running = this.#answer(handle, caller, request, either, message).finally(() =>
      this.#running.delete(running),
    );
    this.#running.set(running, controller);
    return running;
  }

  /** Aborts all handlers and waits for their end. */
  async close(): Promise<void> {
    const ends = [...this.#running.keys()];
    for (const controller of this.#running.values()) controller.abort();
    await Promise.all(ends);
  }

  async #answer(
    handle: RequestHandler,
    caller: Caller,
    request: ExchangeRequest,
    signal: AbortSignal,
    message: MessageId | undefined,
  ): Promise<ExchangeResponse> {
    try {
      return await handle(caller, request, signal, message);
    } catch (error) {
      if (error instanceof MatrixError) return errorResponse(error);
      this.#failed(error);
      return errorResponse(new MatrixError(500, 'M_UNKNOWN', 'Internal server error'));
    }
  }
}
