import { hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { CoapResponse, FailureReason } from './api.ts';
import type { Block } from './block.ts';
import { code } from './codes.ts';
import type { Core } from './core.ts';
import { type Message, NO_BYTES } from './message.ts';
import { OPTION, recognised, uintOption } from './options.ts';
import type { Outgoing } from './outgoing.ts';
import { SelectiveReceiver } from './selective_receiver.ts';
import { SelectiveSender } from './selective_sender.ts';
import type { SelectiveTransfers } from './selective_transfers.ts';

const BAD_REQUEST = code(4, 0);

/** Bodies that go to one peer by selective repeat at a time: fewer than it assembles, so that none makes another give way. */
const PARALLEL_UPLOADS = 4;

/** What a block of a response leads to for its request. */
interface Requests {
  /** Critical options that are understood in its response. */
  understoodIn(outgoing: Outgoing): ReadonlySet<number>;
  /** The peer has all of it. */
  stopSending(outgoing: Outgoing, now: Millis): void;
  /** Blocks are missing yet. */
  goesOn(outgoing: Outgoing, now: Millis): void;
  complete(outgoing: Outgoing, head: CoapResponse, payload: Uint8Array, now: Millis): void;
  fail(outgoing: Outgoing, reason: FailureReason, now: Millis): void;
}

/** Our requests of which the body, or the response, goes by selective repeat (docs/protocol.md, "Large bodies"). */
export class SelectiveRequests {
  readonly #core: Core;
  readonly #transfers: SelectiveTransfers;
  readonly #requests: Requests;

  constructor(core: Core, transfers: SelectiveTransfers, requests: Requests) {
    this.#core = core;
    this.#transfers = transfers;
    this.#requests = requests;
  }

  /** Sends the body by selective repeat, under one token, when its turn comes. */
  upload(outgoing: Outgoing, now: Millis): void {
    const { peer, request, priority, deadline, uploadSize, echo } = outgoing;
    if (peer.uploading.size >= PARALLEL_UPLOADS) {
      const after = peer.toUpload.findLastIndex((waiting) => waiting.priority <= priority);
      peer.toUpload.splice(after + 1, 0, outgoing);
      return;
    }
    peer.uploading.add(outgoing);
    const token = peer.tokens.take();
    outgoing.token = hex(token);
    peer.awaited.set(outgoing.token, outgoing);
    outgoing.messages++;
    const { code: method, payload } = request;
    const options = request.options.filter(({ number }) => number !== OPTION.echo || echo === null);
    const timing = this.#core.timing(peer.name);
    const asksFirst = now - peer.heardAt > timing.probeAfter(0);
    outgoing.upload = this.#transfers.create({
      ...{ peer, code: method, token, request: outgoing, priority, deadline },
      options: [...options, ...(echo === null ? [] : [echo]), uintOption(OPTION.size1, payload.length)],
      sender: new SelectiveSender(payload, uploadSize!, timing.window!, { asksFirst }),
    });
    this.#transfers.send(outgoing.upload, now);
  }

  /** Sends nothing more of a body; the next one that waits has its turn. */
  stopUpload(outgoing: Outgoing, now: Millis): void {
    const { peer, upload } = outgoing;
    const waiting = peer.toUpload.indexOf(outgoing);
    if (waiting >= 0) peer.toUpload.splice(waiting, 1);
    if (upload === null) return;
    outgoing.upload = null;
    this.#transfers.end(upload, now);
    peer.uploading.delete(outgoing);
    const next = peer.toUpload.shift();
    if (next !== undefined) this.upload(next, now);
  }

  /**
   * A block of the response has come, by selective repeat. So the request has arrived; the token goes on being awaited
   * until all is there.
   * @returns false where the message has to be rejected.
   */
  arrived(outgoing: Outgoing, message: Message, block: Block, now: Millis): boolean {
    const { observing, listener, head, download } = outgoing;
    if (observing !== null || listener.changed !== undefined || head !== null) return false;
    const understood = new Set([...this.#requests.understoodIn(outgoing), OPTION.qBlock2]);
    const options = recognised(message.options, understood, 'response');
    if (!options.ok || (download !== null && download.code !== message.code)) {
      this.#requests.fail(outgoing, 'bad_response', now);
      return false;
    }
    this.#requests.stopSending(outgoing, now);
    outgoing.delivered = true;
    outgoing.download ??= { code: message.code, receiver: new SelectiveReceiver(this.#core) };
    this.#core.counters.blocksIn++;
    const progress = outgoing.download.receiver.add(block, options.value, message.payload);
    if (progress.kind === 'refused') {
      this.#requests.fail(outgoing, progress.code === BAD_REQUEST ? 'bad_response' : 'too_large', now);
      return false;
    }
    if (progress.kind === 'complete') {
      const response = { code: message.code, options: progress.options, payload: NO_BYTES };
      this.#requests.complete(outgoing, response, progress.body, now);
    } else this.#requests.goesOn(outgoing, now);
    return true;
  }

  /** Forgets what has come of a response. */
  stopDownload(outgoing: Outgoing): void {
    outgoing.download?.receiver.end();
    outgoing.download = null;
  }
}
