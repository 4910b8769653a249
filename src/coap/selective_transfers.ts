import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapResponse } from './api.ts';
import { blockOption } from './block.ts';
import { codeLabel, EMPTY } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Message } from './message.ts';
import { decodeMissing } from './missing_blocks.ts';
import { OPTION, type Option } from './options.ts';
import type { Outgoing } from './outgoing.ts';
import type { BlockToSend, SelectiveSender } from './selective_sender.ts';
import type { Transmission, Transmitter } from './transmitter.ts';

/** One body on its way to a peer by selective repeat. */
export interface BodyTransfer {
  readonly peer: Peer;
  /** Of all its messages. */
  readonly code: number;
  readonly token: Uint8Array;
  /** What the message of its first block carries beside the number of the block. */
  readonly options: readonly Option[];
  /** The request whose body it is; null for the body of a response. */
  readonly request: Outgoing | null;
  readonly priority: Priority;
  /** When nothing of it is sent any more. */
  deadline: Millis;
  readonly sender: SelectiveSender;
  /** Its messages that wait or are not acknowledged. */
  readonly messages: Set<Transmission>;
  /** The block that has not left yet. */
  inLink: Transmission | null;
  isOver: boolean;
}

/** Gives the blocks of bodies to the transmitter, and what comes back to the senders. */
export class SelectiveTransfers {
  readonly #core: Core;
  readonly #transmitter: Transmitter;

  constructor(core: Core, transmitter: Transmitter) {
    this.#core = core;
    this.#transmitter = transmitter;
  }

  /** A body of which nothing has been sent yet. */
  create(details: Omit<BodyTransfer, 'messages' | 'inLink' | 'isOver'>): BodyTransfer {
    this.#core.counters.selectiveTransfers++;
    return { ...details, messages: new Set(), inLink: null, isOver: false };
  }

  /** The first block, for a message that goes anyway: it counts as sent. */
  first(transfer: BodyTransfer): CoapResponse {
    const first = transfer.sender.next()!;
    transfer.sender.left();
    this.#core.counters.blocksOut++;
    return draftOf(transfer, first);
  }

  /** Sends the next block, if there is one to send now. */
  send(transfer: BodyTransfer, now: Millis): void {
    if (transfer.isOver || transfer.inLink !== null || now >= transfer.deadline) return;
    const next = transfer.sender.next();
    if (next === null) return;
    const { peer, priority, deadline } = transfer;
    const { checkpoint, isLast, isAgain } = next;
    const details = {
      ...{ priority, deadline, label: labelOfBlock(transfer, next), request: null },
      confirmable: checkpoint !== null,
      block: { transfer, checkpoint, isLast },
    };
    this.#core.counters.blocksOut++;
    if (isAgain) this.#core.counters.blocksAgain++;
    const transmission = this.#transmitter.submit(peer, draftOf(transfer, next), details, now);
    transfer.messages.add(transmission);
    transfer.inLink = transmission;
  }

  /** A copy of a block's message has left. */
  left(transmission: Transmission, now: Millis): void {
    const { transfer } = transmission.block!;
    if (!transmission.confirmable) transfer.messages.delete(transmission);
    if (transfer.inLink !== transmission) return;
    transfer.inLink = null;
    transfer.sender.left();
    this.send(transfer, now);
  }

  /**
   * A checkpoint was acknowledged: by nothing else where the whole body has arrived, or with what is missing.
   * `bad`: with what cannot be true.
   */
  acknowledged(
    transmission: Transmission,
    message: Pick<Message, 'code' | 'payload'>,
    now: Millis,
  ): 'going_on' | 'complete' | 'bad' {
    const { transfer, checkpoint } = transmission.block!;
    if (message.code === EMPTY) {
      this.end(transfer, now);
      return 'complete';
    }
    const missing = decodeMissing(message.payload);
    if (!missing.ok) return 'bad';
    const progress = transfer.sender.acknowledged(checkpoint!, missing.value);
    if (progress.kind === 'bad') return 'bad';
    const superseded = 'superseded' in progress ? progress.superseded : [];
    for (const message of [...transfer.messages]) {
      const other = message.block!.checkpoint;
      if (message === transmission || (other !== null && superseded.includes(other)))
        this.#stop(message, now);
    }
    const { exchangeLifetime } = this.#core.timing(transfer.peer.name);
    if (transfer.request === null) transfer.deadline = now + exchangeLifetime;
    if (progress.kind === 'complete') {
      this.end(transfer, now);
      return 'complete';
    }
    this.send(transfer, now);
    return 'going_on';
  }

  /** No more copies of a message are sent: another takes its place, as long as the body is to be sent. */
  givenUp(transmission: Transmission, now: Millis): void {
    const { transfer, checkpoint } = transmission.block!;
    if (checkpoint !== null) transfer.sender.givenUp(checkpoint);
    this.#stop(transmission, now);
    this.send(transfer, now);
  }

  /** Sends nothing more of it. */
  end(transfer: BodyTransfer, now: Millis): void {
    transfer.isOver = true;
    for (const transmission of [...transfer.messages]) this.#stop(transmission, now);
  }

  #stop(transmission: Transmission, now: Millis): void {
    const { transfer } = transmission.block!;
    transfer.messages.delete(transmission);
    if (transfer.inLink === transmission) {
      transfer.inLink = null;
      transfer.sender.left();
    }
    this.#transmitter.stop(transmission, now);
  }
}

/** The option that numbers the blocks of a body. */
const blockNumberOf = ({ request }: BodyTransfer): number =>
  request === null ? OPTION.qBlock2 : OPTION.qBlock1;

function draftOf(transfer: BodyTransfer, { block, payload }: BlockToSend) {
  const { code, token, options } = transfer;
  const number = blockOption(blockNumberOf(transfer), block);
  return { code, token, options: block.num === 0 ? [...options, number] : [number], payload };
}

function labelOfBlock({ code, request, sender }: BodyTransfer, { block }: BlockToSend): string {
  const name = request === null ? 'q-block2' : 'q-block1';
  return `${codeLabel(code)} ${name} ${block.num + 1}/${sender.count}`;
}
