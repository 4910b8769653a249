import { equal, fromHex, hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { CoapRequest, CoapResponse, FailureReason } from './api.ts';
import { Assembly } from './assembly.ts';
import { BLOCK_SIZES, blockOf, MOST_BLOCKS, operationKey, selectiveBlockOf, smaller } from './block.ts';
import { CONTINUE, code, isSafe, isSuccess } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { type Message, NO_BYTES } from './message.ts';
import { firstOption, firstUint, isCritical, OPTION, recognised } from './options.ts';
import {
  isLastBlock,
  isUnanswerable,
  isUnwantedNotification,
  type Listener,
  NO_RESPONSE_AT_ALL,
  nextDraft,
  nextTag,
  type Outgoing,
  type OutgoingOptions,
  roomFor,
  superseded,
  wholeResponse,
} from './outgoing.ts';
import type { Prober } from './prober.ts';
import { SelectiveRequests } from './selective_requests.ts';
import type { SelectiveTransfers } from './selective_transfers.ts';
import type { Transmission, Transmitter } from './transmitter.ts';

const UNAUTHORIZED = code(4, 1);
const INCOMPLETE = code(4, 8);
const TOO_LARGE = code(4, 13);

/** How often one request's block-wise transfer is started over before it fails. */
const MOST_RESTARTS = 3;

/** The requesting half: RFC 7252 section 5.3, block-wise in both directions (RFC 7959, sections 2.4, 2.5, 3). */
export class Client {
  readonly #core: Core;
  readonly #transmitter: Transmitter;
  readonly #prober: Prober;
  readonly #selective: SelectiveRequests;
  readonly #understood: ReadonlySet<number>;
  #numbers = 0;

  constructor(core: Core, transmitter: Transmitter, prober: Prober, bodies: SelectiveTransfers) {
    this.#core = core;
    this.#transmitter = transmitter;
    this.#prober = prober;
    this.#selective = new SelectiveRequests(core, bodies, {
      understoodIn: (outgoing) => this.#understoodIn(outgoing),
      stopSending: (outgoing, now) => this.#stopSending(outgoing, true, now),
      goesOn: ({ peer }, now) => prober.acknowledged(peer, now),
      complete: (outgoing, head, payload, now) => this.#complete(outgoing, head, payload, now),
      fail: (outgoing, reason, now) => this.fail(outgoing, reason, now),
    });
    this.#understood = new Set([OPTION.block1, OPTION.block2, ...core.understood]);
  }

  /** Why a request cannot even be started; undefined where it can. */
  refusal(peer: Peer, request: CoapRequest, supersedes: string | undefined): FailureReason | undefined {
    const { limits, timing } = this.#core;
    const most = Math.min(limits.bodyBytes, timing(peer.name).blockSize * MOST_BLOCKS);
    if (request.payload.length > most) return 'too_large';
    if (roomFor(this.#core.mtu(peer.name), request) < Math.min(request.payload.length, BLOCK_SIZES[0]))
      return 'too_large';
    if (peer.requests.size + peer.observed.size < limits.requestsPerPeer) return undefined;
    if (superseded(peer, supersedes) !== undefined) return undefined;
    this.#core.counters.refused++;
    return 'queue_full';
  }

  /** Sends a request. */
  start(
    peer: Peer,
    request: CoapRequest,
    options: OutgoingOptions,
    listener: Listener,
    now: Millis,
  ): Outgoing {
    const before = superseded(peer, options.supersedes);
    const outgoing = this.#create(peer, request, options, listener);
    if (options.tag !== undefined) outgoing.tag = options.tag;
    else if (
      outgoing.uploadSize !== null ||
      [...peer.requests].some((other) => other !== before && other.key === outgoing.key)
    ) {
      outgoing.tag = nextTag(peer);
    }
    peer.requests.add(outgoing);
    this.#core.counters.requestsOut++;
    this.#core.timers.set(outgoing, options.deadline);
    this.#sendNext(outgoing, now, before?.transmission ?? null);
    if (before !== undefined) this.fail(before, 'superseded', now);
    return outgoing;
  }

  /** Fetches what follows the first block of a notification (RFC 7959, section 2.6). */
  fetchRest(
    peer: Peer,
    request: CoapRequest,
    first: CoapResponse,
    options: OutgoingOptions,
    listener: Listener,
    now: Millis,
  ): Outgoing {
    const outgoing = this.#create(peer, request, options, listener);
    outgoing.tag = options.tag ?? null;
    peer.requests.add(outgoing);
    this.#core.timers.set(outgoing, options.deadline);
    this.#firstOfResponse(outgoing, first, false, now);
    return outgoing;
  }

  fail(outgoing: Outgoing, reason: FailureReason, now: Millis): void {
    this.drop(outgoing, now);
    outgoing.listener.failed(reason, now);
  }

  /** Ends a request without telling anybody. */
  drop(outgoing: Outgoing, now: Millis): void {
    outgoing.peer.requests.delete(outgoing);
    this.#core.timers.clear(outgoing);
    outgoing.body.clear();
    outgoing.download?.receiver.end();
    this.#endExchange(outgoing, false, now);
  }

  /** The deadline has passed: a failure, but for a request whose response may have been kept away as it demanded. */
  expired(outgoing: Outgoing, now: Millis): void {
    if (outgoing.unwanted !== 0 && outgoing.delivered) this.#sent(outgoing, now);
    else this.fail(outgoing, 'timeout', now);
  }

  /** The peer has the message that is on its way; its answer will come separately, if one is wanted. */
  acknowledged(outgoing: Outgoing, now: Millis): void {
    this.#stopSending(outgoing, true, now);
    this.#delivered(outgoing, now);
    if (outgoing.peer.requests.has(outgoing)) this.#prober.acknowledged(outgoing.peer, now);
  }

  /** The message that is on its way has left; where it is non-confirmable no more is known of it. */
  left(outgoing: Outgoing, now: Millis): void {
    if (!outgoing.confirmable && outgoing.peer.requests.has(outgoing)) this.#delivered(outgoing, now);
  }

  #delivered(outgoing: Outgoing, now: Millis): void {
    outgoing.delivered = outgoing.head === null && isLastBlock(outgoing);
    if (outgoing.delivered && isUnanswerable(outgoing)) this.#sent(outgoing, now);
  }

  /**
   * Everything that the peer may have forgotten starts over, acknowledged or not; what has not been sent yet just waits
   * on. A request in one message keeps its token, since an answer from before the restart is as good as one from after;
   * where it is non-confirmable it is not sent a second time. Where responses may come by selective repeat it gets another
   * one: blocks from before must not meet those from after.
   */
  restart(peer: Peer, now: Millis): void {
    const begun = [...peer.requests].filter(
      (outgoing) =>
        !peer.toUpload.includes(outgoing) &&
        (outgoing.transmission?.id !== null || outgoing.uploaded > 0 || outgoing.head !== null),
    );
    for (const outgoing of begun) {
      const { token, uploadSize, head, confirmable, observing } = outgoing;
      if (token === null || uploadSize !== null || head !== null) this.#startOver(outgoing, now);
      else if (confirmable && this.#core.selective && observing === null) {
        this.#selective.stopDownload(outgoing);
        this.#endExchange(outgoing, false, now);
        this.#sendNext(outgoing, now);
      } else if (confirmable) this.#sendAgain(outgoing, token, now);
    }
  }

  /**
   * A response to the exchange on its way has arrived, in whichever message.
   * @returns false where the message has to be rejected (RFC 7252, section 5.4.1; RFC 7641, section 3.6).
   */
  answered(outgoing: Outgoing, message: Message, now: Millis): boolean {
    if (isUnwantedNotification(outgoing, message)) return false;
    const block = this.#core.selective ? selectiveBlockOf(message.options, OPTION.qBlock2) : undefined;
    if (block !== undefined) return this.#selective.arrived(outgoing, message, block, now);
    this.#endExchange(outgoing, true, now);
    const options = recognised(message.options, this.#understoodIn(outgoing), 'response');
    if (!options.ok) {
      this.fail(outgoing, 'bad_response', now);
      return false;
    }
    const response = { code: message.code, options: options.value, payload: message.payload };
    const echo = firstOption(response.options, OPTION.echo);
    if (response.code === UNAUTHORIZED && echo !== undefined && outgoing.echo === null) {
      outgoing.echo = echo;
      this.#core.counters.challenges++;
      this.#sendNext(outgoing, now);
    } else if (outgoing.head === null) {
      this.#uploadAnswered(outgoing, response, message.type === 'ACK', now);
    } else {
      this.#downloadAnswered(outgoing, response, now);
    }
    return true;
  }

  /** Whoever sends a critical option understands it also in the response. */
  #understoodIn({ request }: Outgoing): ReadonlySet<number> {
    const own = request.options.filter(({ number }) => isCritical(number) && !this.#understood.has(number));
    return own.length === 0
      ? this.#understood
      : new Set([...this.#understood, ...own.map(({ number }) => number)]);
  }

  #create(peer: Peer, request: CoapRequest, options: OutgoingOptions, listener: Listener): Outgoing {
    const { deadline, priority, confirmable, supersedes, early = false, observing = null } = options;
    const timing = this.#core.timing(peer.name);
    const room = roomFor(this.#core.mtu(peer.name), request);
    const blockSize =
      BLOCK_SIZES.findLast((size) => size <= Math.min(timing.blockSize, room)) ?? BLOCK_SIZES[0];
    const divided = request.payload.length > Math.min(timing.undividedSize ?? timing.blockSize, room);
    const selective =
      this.#core.selective && timing.window !== undefined && confirmable && observing === null;
    return {
      kind: 'request',
      number: options.name ?? this.#numbers++,
      peer,
      request,
      listener,
      deadline,
      priority,
      confirmable,
      supersedes,
      early: early && !divided && observing === null,
      observing,
      key: operationKey(request.code, request.options),
      unwanted: (firstUint(request.options, OPTION.noResponse) ?? 0) & NO_RESPONSE_AT_ALL,
      tag: null,
      uploadSize: divided ? blockSize : null,
      selective: divided && selective && listener.begun === undefined,
      upload: null,
      download: null,
      uploaded: 0,
      head: null,
      downloadSize: timing.blockSize,
      body: new Assembly(this.#core),
      restarts: 0,
      messages: 0,
      echo: null,
      delivered: false,
      token: null,
      transmission: null,
    };
  }

  #uploadAnswered(outgoing: Outgoing, response: CoapResponse, piggybacked: boolean, now: Millis): void {
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
    if (uploadSize === null || isLastBlock(outgoing) || !isSuccess(response.code)) {
      if (response.code === CONTINUE) this.fail(outgoing, 'bad_response', now);
      else this.#firstOfResponse(outgoing, response, piggybacked, now);
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
    outgoing.echo = null;
    this.#sendNext(outgoing, now);
  }

  #firstOfResponse(outgoing: Outgoing, response: CoapResponse, piggybacked: boolean, now: Millis): void {
    const { listener } = outgoing;
    const block2 = blockOf(response.options, OPTION.block2);
    if (!block2.ok || (block2.value?.num ?? 0) !== 0) {
      this.fail(outgoing, 'bad_response', now);
    } else if (listener.begun !== undefined) {
      this.drop(outgoing, now);
      listener.begun(response, piggybacked, now);
    } else if (block2.value?.more !== true) {
      this.#complete(outgoing, response, response.payload, now);
    } else {
      outgoing.head = response;
      outgoing.downloadSize = block2.value.size;
      this.#addBlock(outgoing, response, true, now);
    }
  }

  #downloadAnswered(outgoing: Outgoing, response: CoapResponse, now: Millis): void {
    const head = outgoing.head!;
    const block2 = blockOf(response.options, OPTION.block2);
    const tag = firstOption(response.options, OPTION.eTag)?.value ?? NO_BYTES;
    const sameTag = equal(tag, firstOption(head.options, OPTION.eTag)?.value ?? NO_BYTES);
    if (response.code !== head.code || !sameTag) {
      const { listener } = outgoing;
      if (listener.changed !== undefined) {
        this.drop(outgoing, now);
        listener.changed(now);
        return;
      }
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
    outgoing.echo = null;
    this.#sendNext(outgoing, now);
  }

  #complete(outgoing: Outgoing, head: CoapResponse, payload: Uint8Array, now: Millis): void {
    this.drop(outgoing, now);
    outgoing.listener.completed(wholeResponse(head, payload), now);
  }

  #sent(outgoing: Outgoing, now: Millis): void {
    this.drop(outgoing, now);
    outgoing.listener.sent(now);
  }

  #startOver(outgoing: Outgoing, now: Millis): void {
    this.#endExchange(outgoing, false, now);
    this.#selective.stopDownload(outgoing);
    outgoing.uploaded = 0;
    outgoing.head = null;
    outgoing.body.clear();
    outgoing.restarts++;
    outgoing.echo = null;
    // Late blocks of the attempt before must not meet the new one.
    outgoing.tag = nextTag(outgoing.peer);
    this.#core.counters.transfersRestarted++;
    this.#sendNext(outgoing, now);
  }

  /** Sends the block that is due, with a token of its own: a late answer to another block is never mistaken for it. */
  #sendNext(outgoing: Outgoing, now: Millis, insteadOf: Transmission | null = null): void {
    const { peer, observing, head } = outgoing;
    if (outgoing.selective && head === null) {
      this.#selective.upload(outgoing, now);
      return;
    }
    const observes = observing !== null && head === null && isLastBlock(outgoing);
    const token = observes ? observing.token : peer.tokens.take();
    outgoing.token = hex(token);
    peer.awaited.set(outgoing.token, outgoing);
    this.#submit(outgoing, token, insteadOf, now);
  }

  #sendAgain(outgoing: Outgoing, token: string, now: Millis): void {
    this.#stopSending(outgoing, false, now);
    this.#submit(outgoing, fromHex(token)!, null, now);
    this.#prober.released(outgoing.peer, now);
  }

  #submit(outgoing: Outgoing, token: Uint8Array, insteadOf: Transmission | null, now: Millis): void {
    const { peer, priority, deadline } = outgoing;
    const { draft, label } = nextDraft(this.#core, outgoing);
    outgoing.messages++;
    const { confirmable } = outgoing;
    const details = { priority, label, request: outgoing, deadline, confirmable, insteadOf };
    outgoing.transmission = this.#transmitter.submit(peer, { ...draft, token }, details, now);
  }

  #endExchange(outgoing: Outgoing, answered: boolean, now: Millis): void {
    const { peer, token, observing, selective } = outgoing;
    if (token !== null) {
      peer.awaited.delete(token);
      // Late blocks may come although all of them have arrived.
      const isDone = answered && !selective;
      if (observing === null || hex(observing.token) !== token) peer.tokens.release(token, isDone);
      outgoing.token = null;
    }
    this.#stopSending(outgoing, answered, now);
    this.#prober.released(peer, now);
  }

  /** @param answered if not, a non-confirmable message goes on counting as outstanding. */
  #stopSending(outgoing: Outgoing, answered: boolean, now: Millis): void {
    const { peer, transmission } = outgoing;
    outgoing.transmission = null;
    this.#selective.stopUpload(outgoing, now);
    if (transmission === null) return;
    if (transmission.id !== null) peer.unconfirmed.delete(transmission.id);
    if (answered || transmission.confirmable || transmission.id === null)
      this.#transmitter.stop(transmission, now);
  }
}
