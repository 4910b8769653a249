import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { type LEDGER_ENTRY, SAFE_METHODS } from '../api/once.ts';
import type { MessageId } from '../base/message_id.ts';
import type { Caller, ExchangeRequest } from '../exchange/request.ts';
import type { ExchangeResponse } from '../exchange/response.ts';
import type { JsonValue } from '../matrix/json.ts';
import { isSecret } from './secret_routes.ts';

/** A request's place in the ledger. */
export type LedgerEntry = NonNullable<IncomingMessage[typeof LEDGER_ENTRY]>;

interface KeptAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: JsonValue;
}

/** homeserver/ledger.ts, as far as a door needs it. */
export interface RequestLedger {
  answer(
    request: { readonly peer: string; readonly message: MessageId; readonly digest: Uint8Array },
    run: (entry: LedgerEntry) => Promise<KeptAnswer>,
  ): Promise<KeptAnswer>;
}

/** How a door recognises requests that come again: by what is on this link the id of their message. */
export interface Recognition {
  readonly ledger: RequestLedger;
  /** Names the link, at every start alike. */
  readonly link: string;
}

/**
 * Answers a request from the ledger where it is known there, else by `run`: with a place in the ledger where the request
 * may change something and a pipe has proved who makes it.
 * @param payload the body as the app gets it
 */
export async function answerOnce(
  { ledger, link }: Recognition,
  { caller, request, payload }: { caller: Caller; request: ExchangeRequest; payload: Uint8Array | undefined },
  message: MessageId | undefined,
  run: (entry?: LedgerEntry) => Promise<ExchangeResponse>,
): Promise<ExchangeResponse> {
  if (message === undefined || caller.kind === 'plain' || SAFE_METHODS.has(request.method)) return run();
  const peer = `${link} ${caller.kind === 'server' ? caller.name : `device:${caller.key}`}`;
  let made: ExchangeResponse | undefined;
  const kept = await ledger.answer({ peer, message, digest: digestOf(request, payload) }, async (entry) => {
    made = await run(entry);
    return toKept(made);
  });
  return made ?? fromKept(kept);
}

/** SHA-256 of what is asked for. Where a password may be in the body it is left out, since one could be guessed from it. */
function digestOf(request: ExchangeRequest, payload: Uint8Array | undefined): Uint8Array {
  const { method, path, query } = request;
  const hash = createHash('sha256').update(JSON.stringify([method, path, query]));
  if (payload !== undefined && !isSecret({ method, path, query })) hash.update(payload);
  return hash.digest();
}

/** Routes that use the ledger answer with JSON. */
const toKept = ({ status, headers, body }: ExchangeResponse): KeptAnswer =>
  body?.kind === 'json' ? { status, headers, body: body.value } : { status, headers };

const fromKept = ({ status, headers, body }: KeptAnswer): ExchangeResponse =>
  body === undefined ? { status, headers } : { status, headers, body: { kind: 'json', value: body } };
