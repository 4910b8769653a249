import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapRequest, CoapResponse, FailureReason } from './api.ts';
import type { Assembly } from './assembly.ts';
import { type BlockSize, blockOption, TRANSFER_OPTIONS } from './block.ts';
import { codeLabel, METHOD } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { encode, type Message, NO_BYTES } from './message.ts';
import { OBSERVE } from './observe_server.ts';
import { firstOption, OPTION, type Option, uintOf, uintOption, withoutOptions } from './options.ts';
import type { SelectiveReceiver } from './selective_receiver.ts';
import type { BodyTransfer } from './selective_transfers.ts';
import type { Draft, Transmission } from './transmitter.ts';

/** Who is told how a request ends. Exactly one of these is called, once. */
export interface Listener {
  completed(response: CoapResponse, now: Millis): void;
  failed(reason: FailureReason, now: Millis): void;
  /** It was suppressed that anything comes back, and nothing has. */
  sent(now: Millis): void;
  /**
   * Where it is there, it is called instead of `completed`, with a response of which there may be only the first block.
   * @param piggybacked whether it can be the answer to nothing else than this very message.
   */
  begun?(response: CoapResponse, piggybacked: boolean, now: Millis): void;
  /** Where it is there, it is called when what is being fetched has changed, instead of starting over. */
  changed?(now: Millis): void;
}

/** What makes the message that completes a request part of an observation (RFC 7641, section 3). */
export interface Observing {
  readonly token: Uint8Array;
  readonly option: Option;
}

export interface OutgoingOptions {
  readonly deadline: Millis;
  readonly priority: Priority;
  readonly confirmable: boolean;
  readonly supersedes?: string | undefined;
  readonly early?: boolean;
  readonly name?: number;
  readonly observing?: Observing;
  /** The Request-Tag, where it has to be that of a request before. */
  readonly tag?: Option | null;
}

/** One of our requests, from the first block of its body to the last of its response. */
export interface Outgoing {
  readonly kind: 'request';
  /** Names it to lower layers: see CoapDatagram. */
  readonly number: number;
  readonly peer: Peer;
  readonly request: CoapRequest;
  readonly listener: Listener;
  readonly deadline: Millis;
  readonly priority: Priority;
  readonly confirmable: boolean;
  readonly supersedes: string | undefined;
  /** See CoapDatagram. */
  readonly early: boolean;
  readonly observing: Observing | null;
  readonly key: string;
  /** The classes of responses that it has declared unwanted, as bits (RFC 7967, section 2.1). */
  readonly unwanted: number;
  /** Tells it from other requests that have the same key (RFC 9175, section 3). */
  tag: Option | null;
  /** The Block1 size; null while the body goes undivided. */
  uploadSize: BlockSize | null;
  /** Whether the body goes by selective repeat, and while it does: its transfer. */
  readonly selective: boolean;
  upload: BodyTransfer | null;
  /** The response, while it comes by selective repeat. */
  download: { readonly code: number; readonly receiver: SelectiveReceiver } | null;
  /** Bytes of the body in front of the block that is on its way. */
  uploaded: number;
  /** The first block of the response, its code and options; null before. */
  head: CoapResponse | null;
  downloadSize: BlockSize;
  readonly body: Assembly;
  restarts: number;
  /** Messages that were made for it. */
  messages: number;
  /** What the server wants to see with the message that is on its way (RFC 9175, section 2.3). */
  echo: Option | null;
  /** Whether the peer has all of it. */
  delivered: boolean;
  /** Of the exchange that is on its way, in hexadecimal. */
  token: string | null;
  transmission: Transmission | null;
}

/** RFC 7967, section 2.1: no response of class 2, 4 or 5. */
export const NO_RESPONSE_AT_ALL = 0b11010;

/** What whoever asked does not get to see: the endpoint has acted on it. */
const OWN_OPTIONS: ReadonlySet<number> = new Set([...TRANSFER_OPTIONS, OPTION.observe]);

/**
 * Ours, at most: 8 of token, 19 of Observe, Block1 or Q-Block1, Block2, Size1 and Request-Tag, 1 of payload marker, 8 of an
 * Echo option with a value as short as most are.
 */
const ADDED_BYTES = 36;

/** Whether no further block of its body has to go. */
export const isLastBlock = ({ uploadSize, uploaded, request, selective }: Outgoing): boolean =>
  selective || uploadSize === null || uploaded + uploadSize >= request.payload.length;

/**
 * Bytes of a message that are left for payload beside a request's own options, where all that may be added here is: never
 * less than zero where it can be sent.
 */
export function roomFor(mtu: number, { code, options }: CoapRequest): number {
  const head = encode({ type: 'CON', code, id: 0, token: NO_BYTES, options, payload: NO_BYTES });
  return mtu - head.length - ADDED_BYTES;
}

/** Whether the peer cannot have seen anything of it. */
export const isUnsent = ({ messages, transmission }: Outgoing): boolean =>
  messages === 0 || (messages === 1 && transmission !== null && transmission.id === null);

/** The next message of a request but for its token: a block of its body, or a question for one of its response. */
export function nextDraft(core: Core, outgoing: Outgoing): { draft: Omit<Draft, 'token'>; label: string } {
  const { draft, label } = outgoing.head === null ? uploadDraft(core, outgoing) : downloadDraft(outgoing);
  const { echo } = outgoing;
  if (echo === null) return { draft, label };
  const options = [...draft.options.filter(({ number }) => number !== OPTION.echo), echo];
  return { draft: { ...draft, options }, label: `${label} echo` };
}

function uploadDraft(core: Core, outgoing: Outgoing): { draft: Omit<Draft, 'token'>; label: string } {
  const { request, uploadSize, uploaded, tag, downloadSize, observing } = outgoing;
  const { code: method, payload } = request;
  const options = [...request.options];
  if (tag !== null) options.push(tag);
  const last = isLastBlock(outgoing);
  if (last && observing !== null) options.push(observing.option);
  if (last && core.timing(outgoing.peer.name).announceBlockSize === true) {
    options.push(blockOption(OPTION.block2, { num: 0, more: false, size: downloadSize }));
  }
  if (uploadSize === null) return { draft: { code: method, options, payload }, label: codeLabel(method) };
  const num = uploaded / uploadSize;
  options.push(blockOption(OPTION.block1, { num, more: !last, size: uploadSize }));
  if (num === 0) options.push(uintOption(OPTION.size1, payload.length));
  core.counters.blocksOut++;
  const total = num + Math.ceil((payload.length - uploaded) / uploadSize);
  return {
    draft: { code: method, options, payload: payload.subarray(uploaded, uploaded + uploadSize) },
    label: `${codeLabel(method)} block1 ${num + 1}/${total}`,
  };
}

/** Asks for the block after what has arrived. A FETCH's body is part of what it asks for, so it is repeated. */
function downloadDraft(outgoing: Outgoing): { draft: Omit<Draft, 'token'>; label: string } {
  const { request, tag, downloadSize, body, uploadSize } = outgoing;
  const num = body.length / downloadSize;
  const options = [...request.options];
  if (tag !== null) options.push(tag);
  options.push(blockOption(OPTION.block2, { num, more: false, size: downloadSize }));
  const payload = request.code === METHOD.fetch && uploadSize === null ? request.payload : NO_BYTES;
  return {
    draft: { code: request.code, options, payload },
    label: `${codeLabel(request.code)} block2 ${num + 1}`,
  };
}

export function nextTag(peer: Peer): Option {
  const tag = peer.nextTag;
  peer.nextTag = (tag + 1) % 2 ** 16;
  return uintOption(OPTION.requestTag, tag);
}

/** The request in whose place one with the same key goes. */
export const superseded = (peer: Peer, key: string | undefined): Outgoing | undefined =>
  key === undefined
    ? undefined
    : [...peer.requests].find((other) => other.supersedes === key && isUnsent(other));

/** A response as the application sees it. */
export const wholeResponse = (head: CoapResponse, payload: Uint8Array): CoapResponse => ({
  code: head.code,
  options: withoutOptions(head.options, OWN_OPTIONS),
  payload,
});

/** Whether no response at all is wanted, so that its message is all there is to a request. */
export const isUnanswerable = ({ unwanted }: Outgoing): boolean => unwanted === NO_RESPONSE_AT_ALL;

/** Whether a message cannot be the answer to a deregistration: a notification that the server has sent before it. */
export const isUnwantedNotification = ({ observing }: Outgoing, { type, options }: Message): boolean =>
  observing !== null &&
  uintOf(observing.option) === OBSERVE.deregister &&
  type !== 'ACK' &&
  firstOption(options, OPTION.observe) !== undefined;
