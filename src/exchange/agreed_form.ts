import { assert } from '../base/assert.ts';
import type { MessageId } from '../base/message_id.ts';
import type { Random } from '../base/random.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import type { CoapRequest, CoapResponse } from '../coap/api.ts';
import { isCompact, isCompactRequest, needsModel } from '../compact/container.ts';
import type { CompactContext, MessageHandles } from '../compact/context.ts';
import { type ContextClass, contextClassOf } from '../compact/context_class.ts';
import { COMPACT_DICTIONARY } from '../compact/dictionary.ts';
import type { MessageReader, MessageWriter } from '../compact/handles.ts';
import type { MatrixError } from '../matrix/error.ts';
import { isJsonObject, own } from '../matrix/json.ts';
import type { Agreement } from '../pipe/agreement.ts';
import { deviceKeyOf } from '../pipe/identity.ts';
import { isAnyTransaction, transactionOf, withTransaction } from './any_transaction.ts';
import type { Codec } from './codec.ts';
import { PeerCoders } from './coders.ts';
import { missingHere, UNKNOWN_HERE } from './compact_payload.ts';
import { ALL_LAYERS, type Layers } from './layers.ts';
import { PeerHandles } from './peer_handles.ts';
import { pipeCodecFor } from './pipe_codec.ts';
import { type Body, type ExchangeRequest, jsonOf } from './request.ts';
import type { ExchangeResponse } from './response.ts';
import type { Ending } from './written_histories.ts';

/** The dictionaries that a side without models offers in its handshakes, best first (docs/protocol.md, "Negotiation"). */
export const OWN_DICTIONARIES: readonly number[] = [COMPACT_DICTIONARY];

const PLAIN: Readonly<Record<ContextClass['kind'], Codec>> = {
  nothing: pipeCodecFor({ hasSecrets: true }),
  static: pipeCodecFor({}),
  history: pipeCodecFor({}),
};

/** Random transaction ids are below this: 48 bits, which go as a number. */
const TRANSACTION_ID_BYTES = 6;

/** Requests and answers with a payload that were written, by form. */
export interface FormCounters {
  compact: number;
  plain: number;
}

/** What forms are made with: see the constructor. */
export interface FormParts {
  readonly coders?: PeerCoders;
  readonly session?: (peer: string) => number | undefined;
  readonly ownServer?: string | null;
  readonly now?: () => Millis;
  readonly random?: Random;
  readonly link?: string | undefined;
  /** What is used in writing. Default: everything. */
  readonly layers?: Layers;
}

/**
 * Writes requests and answers to the peers of the pipe: in the compact form where that is agreed, else in the plain one, which
 * every peer reads. What comes is read whatever its form is.
 *
 * A request is written before it is known over which session it goes: for what is agreed in the current one, or remembered of
 * the last. So the first to a new peer is plain, and one that meets an older version in the peer's place is misread there.
 */
export class AgreedForms {
  readonly written: FormCounters = { compact: 0, plain: 0 };
  readonly #agreed: (peer: string) => Pick<Agreement, 'dictionaries'>;
  readonly #coders: PeerCoders;
  readonly #session: (peer: string) => number | undefined;
  /** What is told of the end of a request that was written. */
  readonly #endings = new WeakMap<CoapRequest, (ending: Ending) => void>();
  readonly #handles = new PeerHandles();
  readonly #now: () => Millis;
  readonly #random: Random | undefined;
  readonly #layers: Layers;
  readonly #ownServer: string | null | undefined;
  readonly #link: string | undefined;
  /** The handles of requests that were written, and of those that are read. */
  readonly #writing = new WeakMap<CoapRequest, MessageWriter>();
  readonly #reading = new WeakMap<CoapRequest, MessageReader>();
  /** The transaction ids of requests that leave them to the reader, and have had one that cannot give them one. */
  readonly #transactions = new WeakMap<ExchangeRequest, string>();

  /**
   * @param agreed what has been agreed with a peer
   * @param parts.coders left out: without models
   * @param parts.session this side's name of the session with a peer that is in use (MessageId.generation); undefined where there is
   * none, or messages have no names there
   * @param parts.ownServer this side's name, where it is a server; null: it is a device. Left out: no names are expected
   * @param parts.now needed where there are sessions
   * @param parts.random needed where requests leave their transaction ids to the reader
   * @param parts.link tells transaction ids of this link's requests from those of others
   */
  constructor(agreed: (peer: string) => Pick<Agreement, 'dictionaries'>, parts: FormParts = {}) {
    const {
      coders = new PeerCoders(),
      session = () => undefined,
      now = () => 0,
      layers = ALL_LAYERS,
    } = parts;
    this.#agreed = agreed;
    this.#coders = coders;
    this.#session = session;
    this.#now = now;
    this.#random = parts.random;
    this.#layers = layers;
    this.#ownServer = parts.ownServer;
    this.#link = parts.link;
  }

  /**
   * The problem is a sentence: what cannot be said. What becomes of it has to be told to `ended`.
   * @param how.isEarly it may go early
   * @param how.isAgain the peer could not read what it was written as before
   * @param how.isUnnamed it registers for an observation, so that its message has no name
   */
  encodeRequest(
    peer: string,
    request: ExchangeRequest,
    {
      isEarly = false,
      isAgain = false,
      isUnnamed = false,
    }: { readonly isEarly?: boolean; readonly isAgain?: boolean; readonly isUnnamed?: boolean } = {},
  ): Result<CoapRequest> {
    const about = contextClassOf(request, jsonOf(request.body));
    if (!this.#readsCompact(peer))
      return this.#counted(PLAIN[about.kind].encodeRequest(this.#withTransaction(request)));
    const named = isEarly || isUnnamed ? undefined : this.#session(peer);
    const session = isAgain ? undefined : named;
    const dictionaries = isAgain ? [] : this.#agreed(peer).dictionaries;
    const { packing, written } = this.#coders.request(peer, about, { dictionaries, session });
    const now = this.#now();
    const handles =
      session === undefined || !this.#layers.handles ? undefined : this.#handles.writing(peer, session, now);
    const isSparing =
      packing.kind === 'history' || (packing.kind === 'static' && packing.coder !== undefined);
    const context = { ...this.#context(this.#ownServer, serverOf(peer), handles), isSparing };
    const said = named === undefined || !this.#layers.handles ? this.#withTransaction(request) : request;
    const encoded = this.#counted(
      pipeCodecFor({ writing: { context, packing } }).encodeRequest(this.#inForm(said)),
    );
    if (!encoded.ok) {
      if (handles !== undefined) this.#handles.over(handles, false, now);
      return encoded;
    }
    if (handles !== undefined) this.#writing.set(encoded.value, handles);
    const learnt = written(encoded.value.payload);
    this.#endings.set(encoded.value, (ending) => {
      learnt(ending);
      if (handles !== undefined) this.#handles.over(handles, ending === 'read', this.#now());
      if (ending === 'refused' && handles?.namesKnown) this.#handles.forgotten(peer);
    });
    return encoded;
  }

  /**
   * A request that was encoded has ended. What it said is learnt from where the peer has done it.
   * @param response undefined where there is none
   */
  ended(sent: CoapRequest, response?: ExchangeResponse): void {
    this.#endings.get(sent)?.(endingOf(response));
    this.#endings.delete(sent);
  }

  /** The problem is the answer that the peer gets. @param message what the request is named by; undefined where it has no name */
  decodeRequest(
    peer: string,
    coap: CoapRequest,
    message: MessageId | undefined,
  ): Result<ExchangeRequest, MatrixError> {
    const { coders, understood } = this.#coders.reading(peer, message);
    const handles = message && this.#handles.reading(peer, message);
    if (handles !== undefined) this.#reading.set(coap, handles);
    const context = this.#context(serverOf(peer), this.#ownServer, handles);
    const decoded = pipeCodecFor({ reading: { context, coders } }).decodeRequest(coap);
    if (!decoded.ok) return decoded;
    const isAny = isCompactRequest(coap.payload) && isAnyTransaction(decoded.value);
    if (isAny && message === undefined) return bad(missingHere('the name of its message'));
    understood();
    return isAny ? ok(withTransaction(decoded.value, transactionOf(message!, this.#link))) : decoded;
  }

  /** @param request what is answered; undefined where it could not be read */
  encodeResponse(
    peer: string,
    response: ExchangeResponse,
    to: CoapRequest,
    request: ExchangeRequest | undefined,
  ): CoapResponse {
    // What could not be read may be about anything.
    const about: ContextClass = request === undefined ? { kind: 'nothing' } : contextClassOf(request);
    const context = this.#context(serverOf(peer), this.#ownServer, this.#reading.get(to));
    const codec = this.#readsCompact(peer)
      ? pipeCodecFor({
          writing: { context, packing: this.#coders.answer(about, this.#agreed(peer).dictionaries) },
        })
      : PLAIN[about.kind];
    const encoded = codec.encodeResponse(this.#inForm(response), to);
    this.#count(encoded);
    return encoded;
  }

  /**
   * The problem says what is wrong with it.
   * @param to what it answers: the request, and as what it was sent, which is left out for an observation's
   */
  decodeResponse(
    peer: string,
    coap: CoapResponse,
    to: { readonly request: ExchangeRequest; readonly sent?: CoapRequest },
  ): Result<ExchangeResponse> {
    const context = this.#context(this.#ownServer, serverOf(peer), to.sent && this.#writing.get(to.sent));
    const reading = { context, coders: this.#coders.ofAnswers };
    return pipeCodecFor({ reading }).decodeResponse(coap, to.request);
  }

  /** Whether the peer could not read the form of a request and has handled nothing; written anew, it is read. */
  isMisread(peer: string, sent: CoapRequest, response: ExchangeResponse): boolean {
    const refers = needsModel(sent.payload) || this.#writing.get(sent)?.namesKnown === true;
    if (refers && isUnknown(response)) return true;
    return response.status === 400 && isCompactRequest(sent.payload) && !this.#readsCompact(peer);
  }

  /** The peer has started anew. */
  restarted(peer: string): void {
    this.#coders.restarted(peer);
    this.#handles.forgotten(peer);
  }

  /** Both ends know each other's names: that of whoever asks comes first. */
  #context(
    asking: string | null | undefined,
    asked: string | null | undefined,
    handles: MessageHandles | undefined,
  ): CompactContext {
    const servers =
      this.#ownServer === undefined ? [] : [asking, asked].filter((name) => typeof name === 'string');
    return { servers, ...(handles && { handles }) };
  }

  #inForm<Message extends { readonly body?: Body }>(message: Message): Message {
    if (this.#layers.forms || message.body?.kind !== 'formed') return message;
    return { ...message, body: { kind: 'json', value: message.body.json } };
  }

  /** The request with an id, the same each time, where its reader cannot give it one. */
  #withTransaction(request: ExchangeRequest): ExchangeRequest {
    if (!isAnyTransaction(request)) return request;
    const known = this.#transactions.get(request) ?? this.#randomTransaction();
    this.#transactions.set(request, known);
    return withTransaction(request, known);
  }

  #randomTransaction(): string {
    assert(this.#random !== undefined, 'a random transaction id needs chance');
    const bytes = this.#random.bytes(TRANSACTION_ID_BYTES);
    return bytes.reduce((sum, byte) => sum * 256 + byte, 0).toString();
  }

  #readsCompact(peer: string): boolean {
    return this.#agreed(peer).dictionaries.includes(COMPACT_DICTIONARY);
  }

  #counted(encoded: Result<CoapRequest>): Result<CoapRequest> {
    if (encoded.ok) this.#count(encoded.value);
    return encoded;
  }

  #count({ payload }: CoapRequest | CoapResponse): void {
    if (payload.length > 0) this.written[isCompact(payload) ? 'compact' : 'plain']++;
  }
}

/** The name of a peer that is a server. */
const serverOf = (peer: string): string | null => (deviceKeyOf(peer) === undefined ? peer : null);

function endingOf(response: ExchangeResponse | undefined): Ending {
  if (response === undefined) return 'unsure';
  if (isUnknown(response)) return 'refused';
  return response.status >= 200 && response.status < 300 ? 'read' : 'unsure';
}

/** Whether the peer does not know what the request refers to. */
function isUnknown({ status, body }: ExchangeResponse): boolean {
  const json = status === 422 ? jsonOf(body) : undefined;
  return isJsonObject(json) && own(json, 'errcode') === UNKNOWN_HERE;
}
