import { assert } from '../base/assert.ts';
import { equal, fromHex, hex } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import { Assembly } from './assembly.ts';
import {
  type BlockSize,
  blockOf,
  blockOption,
  MOST_BLOCKS,
  operationKey,
  smaller,
  TRANSFER_OPTIONS,
} from './block.ts';
import { code, codeLabel, isSafe, isSuccess, METHOD } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { CoapRequest, CoapResponse, FailureReason } from './endpoint.ts';
import { type Message, NO_BYTES } from './message.ts';
import { firstOption, OPTION, type Option, recognised, uintOption, withoutOptions } from './options.ts';
import type { Prober } from './prober.ts';
import type { Draft, Transmission, Transmitter } from './transmitter.ts';

const CONTINUE = code(2, 31);
const INCOMPLETE = code(4, 8);
const TOO_LARGE = code(4, 13);

/** How often one request's block-wise transfer is started over before it fails. */
const MOST_RESTARTS = 3;

/** One of our requests, from the first block of its body to the last of its response. */
export interface Outgoing {
  readonly kind: 'request';
  readonly handle: number;
  readonly peer: Peer;
  readonly request: CoapRequest;
  readonly deadline: Millis;
  readonly priority: Priority;
  readonly key: string;
  /** Tells it from other requests that have the same key (RFC 9175, section 3). */
  tag: Option | null;
  /** The Block1 size; null while the body goes undivided. */
  uploadSize: BlockSize | null;
  /** Bytes of the body in front of the block that is on its way. */
  uploaded: number;
  /** The first block of the response, its code and options; null before. */
  head: CoapResponse | null;
  downloadSize: BlockSize;
  readonly body: Assembly;
  restarts: number;
  /** Of the exchange that is on its way, in hexadecimal. */
  token: string | null;
  transmission: Transmission | null;
}

/** The requesting half: RFC 7252 section 5.3, block-wise in both directions (RFC 7959, sections 2.4, 2.5, 3). */
export class Client {
  readonly #core: Core;
  readonly #transmitter: Transmitter;
  readonly #prober: Prober;
  readonly #understood: ReadonlySet<number>;
  readonly #byHandle = new Map<number, Outgoing>();

  constructor(core: Core, transmitter: Transmitter, prober: Prober) {
    this.#core = core;
    this.#transmitter = transmitter;
    this.#prober = prober;
    this.#understood = new Set([OPTION.block1, OPTION.block2, ...core.understood]);
  }

  start(
    peer: Peer,
    handle: number,
    request: CoapRequest,
    { deadline, priority }: { readonly deadline: Millis; readonly priority: Priority },
    now: Millis,
  ): void {
    assert(
      request.options.every(({ number }) => !TRANSFER_OPTIONS.has(number) && number !== OPTION.requestTag),
      'the endpoint itself adds the options of block-wise transfer',
    );
    const timing = this.#core.timing(peer.name);
    const { length } = request.payload;
    if (length > Math.min(this.#core.limits.bodyBytes, timing.blockSize * MOST_BLOCKS)) {
      this.#core.events.push({ kind: 'failed', handle, reason: 'too_large' });
      return;
    }
    if (peer.requests.size >= this.#core.limits.requestsPerPeer) {
      this.#core.counters.refused++;
      this.#core.events.push({ kind: 'failed', handle, reason: 'queue_full' });
      return;
    }
    const divided = length > (timing.undividedSize ?? timing.blockSize);
    const key = operationKey(request.code, request.options);
    const outgoing: Outgoing = {
      kind: 'request',
      handle,
      peer,
      request,
      deadline,
      priority,
      key,
      tag: null,
      uploadSize: divided ? timing.blockSize : null,
      uploaded: 0,
      head: null,
      downloadSize: timing.blockSize,
      body: new Assembly(this.#core),
      restarts: 0,
      token: null,
      transmission: null,
    };
    if (divided || [...peer.requests].some((other) => other.key === key)) outgoing.tag = nextTag(peer);
    peer.requests.add(outgoing);
    this.#byHandle.set(handle, outgoing);
    this.#core.counters.requestsOut++;
    this.#core.timers.set(outgoing, deadline);
    this.#sendNext(outgoing, now);
  }

  cancel(handle: number, now: Millis): void {
    const outgoing = this.#byHandle.get(handle);
    if (outgoing !== undefined) this.fail(outgoing, 'cancelled', now);
  }

  fail(outgoing: Outgoing, reason: FailureReason, now: Millis): void {
    this.#end(outgoing, now);
    this.#core.events.push({ kind: 'failed', handle: outgoing.handle, reason });
  }

  /** The peer has the message that is on its way; its answer will come separately. */
  acknowledged(outgoing: Outgoing, now: Millis): void {
    this.#stopSending(outgoing, now);
    this.#prober.acknowledged(outgoing.peer, now);
  }

  /**
   * Everything that the peer may have forgotten starts over, acknowledged or not; what has not been sent yet just waits
   * on. A request in one message keeps its token, since an answer from before the restart is as good as one from after.
   */
  restart(peer: Peer, now: Millis): void {
    const begun = [...peer.requests].filter(
      ({ transmission, uploaded, head }) => transmission?.id !== null || uploaded > 0 || head !== null,
    );
    for (const outgoing of begun) {
      const { token, uploadSize, head } = outgoing;
      if (token === null || uploadSize !== null || head !== null) this.#startOver(outgoing, now);
      else this.#sendAgain(outgoing, token, now);
    }
  }

  /**
   * A response to the exchange on its way has arrived, in whichever message.
   * @returns false where the message has to be rejected (RFC 7252, section 5.4.1).
   */
  answered(outgoing: Outgoing, message: Message, now: Millis): boolean {
    this.#endExchange(outgoing, true, now);
    const options = recognised(message.options, this.#understood);
    if (!options.ok) {
      this.fail(outgoing, 'bad_response', now);
      return false;
    }
    const response = { code: message.code, options: options.value, payload: message.payload };
    if (outgoing.head === null) this.#uploadAnswered(outgoing, response, now);
    else this.#downloadAnswered(outgoing, response, now);
    return true;
  }

  #uploadAnswered(outgoing: Outgoing, response: CoapResponse, now: Millis): void {
    const block1 = blockOf(response.options, OPTION.block1);
    if (!block1.ok) {
      this.fail(outgoing, 'bad_response', now);
      return;
    }
    const { uploadSize, uploaded, request } = outgoing;
    const offered = block1.value;
    if (response.code === TOO_LARGE && uploaded === 0 && offered !== undefined) {
      const size = Math.min(request.payload.length, uploadSize ?? Number.POSITIVE_INFINITY);
      if (offered.size < size) {
        outgoing.uploadSize = offered.size;
        this.#startOver(outgoing, now);
        return;
      }
    }
    if (response.code === INCOMPLETE && uploadSize !== null && outgoing.restarts < MOST_RESTARTS) {
      this.#startOver(outgoing, now);
      return;
    }
    const last = uploadSize === null || uploaded + uploadSize >= request.payload.length;
    if (last || !isSuccess(response.code)) {
      if (response.code === CONTINUE) {
        this.fail(outgoing, 'bad_response', now);
        return;
      }
      this.#firstOfResponse(outgoing, response, now);
      return;
    }
    // A server that acts on each block answers 2.04 instead of 2.31; the body still has to go to its end.
    if (offered === undefined || offered.num !== uploaded / uploadSize) {
      this.fail(outgoing, 'bad_response', now);
      return;
    }
    outgoing.uploaded = uploaded + uploadSize;
    outgoing.uploadSize = smaller(uploadSize, offered.size);
    if (outgoing.uploaded / outgoing.uploadSize >= MOST_BLOCKS) {
      this.fail(outgoing, 'too_large', now);
      return;
    }
    this.#sendNext(outgoing, now);
  }

  #firstOfResponse(outgoing: Outgoing, response: CoapResponse, now: Millis): void {
    const block2 = blockOf(response.options, OPTION.block2);
    if (!block2.ok || (block2.value?.num ?? 0) !== 0) {
      this.fail(outgoing, 'bad_response', now);
      return;
    }
    if (block2.value?.more !== true) {
      this.#complete(outgoing, response, response.payload, now);
      return;
    }
    outgoing.head = response;
    outgoing.downloadSize = block2.value.size;
    this.#addBlock(outgoing, response, true, now);
  }

  #downloadAnswered(outgoing: Outgoing, response: CoapResponse, now: Millis): void {
    const head = outgoing.head!;
    const block2 = blockOf(response.options, OPTION.block2);
    const tag = firstOption(response.options, OPTION.eTag)?.value ?? NO_BYTES;
    const sameTag = equal(tag, firstOption(head.options, OPTION.eTag)?.value ?? NO_BYTES);
    if (response.code !== head.code || !sameTag) {
      // The representation has changed, or the server has forgotten it: only what is safe may be asked again.
      if (!isSafe(outgoing.request.code) || outgoing.restarts >= MOST_RESTARTS) {
        this.fail(outgoing, 'bad_response', now);
        return;
      }
      this.#startOver(outgoing, now);
      return;
    }
    const block = block2.ok ? block2.value : undefined;
    if (block === undefined || block.num * block.size !== outgoing.body.length) {
      this.fail(outgoing, 'bad_response', now);
      return;
    }
    outgoing.downloadSize = smaller(outgoing.downloadSize, block.size);
    this.#addBlock(outgoing, response, block.more, now);
  }

  #addBlock(outgoing: Outgoing, response: CoapResponse, more: boolean, now: Millis): void {
    const { payload } = response;
    this.#core.counters.blocksIn++;
    if (more ? payload.length !== outgoing.downloadSize : payload.length > outgoing.downloadSize) {
      this.fail(outgoing, 'bad_response', now);
      return;
    }
    if (!outgoing.body.add(payload)) {
      this.fail(outgoing, 'too_large', now);
      return;
    }
    if (!more) {
      this.#complete(outgoing, outgoing.head!, outgoing.body.take(), now);
      return;
    }
    if (outgoing.body.length / outgoing.downloadSize >= MOST_BLOCKS) {
      this.fail(outgoing, 'too_large', now);
      return;
    }
    this.#sendNext(outgoing, now);
  }

  #complete(outgoing: Outgoing, head: CoapResponse, payload: Uint8Array, now: Millis): void {
    this.#end(outgoing, now);
    const options = withoutOptions(head.options, TRANSFER_OPTIONS);
    const response = { code: head.code, options, payload };
    this.#core.events.push({ kind: 'response', handle: outgoing.handle, response });
  }

  #startOver(outgoing: Outgoing, now: Millis): void {
    this.#endExchange(outgoing, false, now);
    outgoing.uploaded = 0;
    outgoing.head = null;
    outgoing.body.clear();
    outgoing.restarts++;
    // Late blocks of the attempt before must not meet the new one.
    outgoing.tag = nextTag(outgoing.peer);
    this.#core.counters.transfersRestarted++;
    this.#sendNext(outgoing, now);
  }

  /** Sends the block that is due, with a token of its own: a late answer to another block is never mistaken for it. */
  #sendNext(outgoing: Outgoing, now: Millis): void {
    const token = outgoing.peer.tokens.take();
    outgoing.token = hex(token);
    outgoing.peer.awaited.set(outgoing.token, outgoing);
    this.#submit(outgoing, token, now);
  }

  #sendAgain(outgoing: Outgoing, token: string, now: Millis): void {
    this.#stopSending(outgoing, now);
    this.#submit(outgoing, fromHex(token)!, now);
    this.#prober.released(outgoing.peer, now);
  }

  #submit(outgoing: Outgoing, token: Uint8Array, now: Millis): void {
    const { peer, priority, deadline } = outgoing;
    const { draft, label } = outgoing.head === null ? this.#uploadDraft(outgoing) : downloadDraft(outgoing);
    const details = { priority, label, request: outgoing, deadline };
    outgoing.transmission = this.#transmitter.submit(peer, { ...draft, token }, details, now);
  }

  #uploadDraft(outgoing: Outgoing): { draft: Omit<Draft, 'token'>; label: string } {
    const { request, uploadSize, uploaded, tag, downloadSize } = outgoing;
    const { code: method, payload } = request;
    const options = [...request.options];
    if (tag !== null) options.push(tag);
    const last = uploadSize === null || uploaded + uploadSize >= payload.length;
    if (last && this.#core.timing(outgoing.peer.name).announceBlockSize === true) {
      options.push(blockOption(OPTION.block2, { num: 0, more: false, size: downloadSize }));
    }
    if (uploadSize === null) return { draft: { code: method, options, payload }, label: codeLabel(method) };
    const num = uploaded / uploadSize;
    options.push(blockOption(OPTION.block1, { num, more: !last, size: uploadSize }));
    if (num === 0) options.push(uintOption(OPTION.size1, payload.length));
    this.#core.counters.blocksOut++;
    const total = num + Math.ceil((payload.length - uploaded) / uploadSize);
    return {
      draft: { code: method, options, payload: payload.subarray(uploaded, uploaded + uploadSize) },
      label: `${codeLabel(method)} block1 ${num + 1}/${total}`,
    };
  }

  #endExchange(outgoing: Outgoing, answered: boolean, now: Millis): void {
    const { peer, token } = outgoing;
    if (token !== null) {
      peer.awaited.delete(token);
      peer.tokens.release(token, answered);
      outgoing.token = null;
    }
    this.#stopSending(outgoing, now);
    this.#prober.released(peer, now);
  }

  #stopSending(outgoing: Outgoing, now: Millis): void {
    const { transmission } = outgoing;
    outgoing.transmission = null;
    if (transmission !== null) this.#transmitter.stop(transmission, now);
  }

  #end(outgoing: Outgoing, now: Millis): void {
    outgoing.peer.requests.delete(outgoing);
    this.#byHandle.delete(outgoing.handle);
    this.#core.timers.clear(outgoing);
    outgoing.body.clear();
    this.#endExchange(outgoing, false, now);
  }
}

/** Asks for the block after what has arrived. A FETCH's body is part of what it asks for, so it is repeated. */
function downloadDraft(outgoing: Outgoing): { draft: Omit<Draft, 'token'>; label: string } {
  const { request, tag, downloadSize, body, uploadSize } = outgoing;
  const num = body.length / downloadSize;
  const options = withoutOptions(request.options, new Set([OPTION.observe]));
  if (tag !== null) options.push(tag);
  options.push(blockOption(OPTION.block2, { num, more: false, size: downloadSize }));
  const payload = request.code === METHOD.fetch && uploadSize === null ? request.payload : NO_BYTES;
  return {
    draft: { code: request.code, options, payload },
    label: `${codeLabel(request.code)} block2 ${num + 1}`,
  };
}

function nextTag(peer: Peer): Option {
  const tag = peer.nextTag;
  peer.nextTag = (tag + 1) % 2 ** 16;
  return uintOption(OPTION.requestTag, tag);
}
