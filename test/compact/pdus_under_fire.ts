import type { Random } from '../../src/base/random.ts';
import { compactPdu } from '../../src/compact/pdu/compact.ts';
import { literalContents, literalNames } from '../../src/compact/pdu/literal.ts';
import { restorePdu } from '../../src/compact/pdu/restore.ts';
import { withSignature } from '../../src/compact/pdu/signature_field.ts';
import { type PduRoom, pick, ROOM_VERSIONS, randomPdu, randomRoom, textOf } from './pdu_rooms.ts';

const codecs = { names: literalNames, contents: literalContents };
/** Making a room takes longer than an event of it. */
const EVENTS_OF_A_ROOM = 64;

/** Events through their compact form, and random changes of it, in rooms of every version. Whatever goes wrong is thrown. */
export class PdusUnderFire {
  readonly counts = { events: 0, whole: 0, mutations: 0, stillRead: 0 };
  readonly #random: Random;
  #room: PduRoom;

  constructor(random: Random) {
    this.#random = random;
    this.#room = this.#newRoom();
  }

  shoot(): void {
    const pdu = this.#pdu();
    const { bytes, deferred, isWhole } = this.#compact(pdu);
    const back = this.#restore(bytes);
    const event =
      back.ok && (deferred === undefined ? back.value.pdu : withSignature(back.value.pdu, deferred));
    if (event === false || textOf(event) !== textOf(pdu)) throw new Error(`event: ${textOf(pdu)}`);
    this.counts.events++;
    if (isWhole) this.counts.whole++;
  }

  mutate(): void {
    const { bytes } = this.#compact(this.#pdu());
    for (let n = this.#random.integer(3); n >= 0; n--)
      bytes[this.#random.integer(bytes.length)] = this.#random.integer(256);
    if (this.#restore(bytes).ok) this.counts.stillRead++;
    this.counts.mutations++;
  }

  #pdu() {
    if ((this.counts.events + this.counts.mutations) % EVENTS_OF_A_ROOM === 0) this.#room = this.#newRoom();
    return randomPdu(this.#room);
  }

  #newRoom = (): PduRoom => randomRoom(pick(this.#random, ROOM_VERSIONS), this.#random);

  #compact(pdu: ReturnType<typeof randomPdu>) {
    return compactPdu(pdu, { view: this.#room.view(), ...codecs }, this.#random.integer(2) === 0);
  }

  #restore = (bytes: Uint8Array) => restorePdu(bytes, { view: this.#room.view(), ...codecs });
}
