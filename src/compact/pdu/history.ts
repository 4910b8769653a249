import { referenceHash } from '../../matrix/hashes.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { depthOf, type Pdu, type StateKey, stateKey } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { signaturesOf } from './layout.ts';
import { idOf } from './rules.ts';
import type { KnownEvent, PduView } from './view.ts';

/**
 * What both sides know while a list of events goes from one to the other, such as the state and the auth chain of an
 * answer to send_join, or a page of history: the events in front, each as if the next was built on the last. Best where
 * the list is in the order of depth.
 */
export class PduHistory implements PduView {
  readonly version: RoomVersion;
  readonly room: string;
  readonly #events = new Map<string, KnownEvent>();
  readonly #state = new Map<StateKey, string>();
  readonly #keys = new Map<string, string>();
  #last: KnownEvent | undefined;
  #lastSender: string | undefined;

  constructor(options: { readonly version: RoomVersion; readonly room: string }) {
    this.version = options.version;
    this.room = options.room;
  }

  /** Takes the event behind the last one; it must have passed `parsePdu`. */
  add(pdu: JsonObject): void {
    const fields = pdu as unknown as Pdu;
    this.#last = {
      id: idOf(pdu, this.version),
      depth: depthOf(fields),
      originServerTs: fields.origin_server_ts,
      referenceHash: referenceHash(fields, this.version),
    };
    this.#lastSender = fields.sender;
    this.#events.set(this.#last.id, this.#last);
    if (fields.state_key !== undefined) {
      this.#state.set(stateKey(fields.type, fields.state_key), this.#last.id);
    }
    for (const { server, keyId } of signaturesOf(pdu) ?? []) this.#keys.set(server, keyId);
  }

  extremities(): readonly KnownEvent[] {
    return this.#last === undefined ? [] : [this.#last];
  }

  event(id: string): KnownEvent | undefined {
    return this.#events.get(id);
  }

  state(places: readonly StateKey[]): readonly string[] {
    return places.flatMap((place) => this.#state.get(place) ?? []);
  }

  usualKey(server: string): string | undefined {
    return this.#keys.get(server);
  }

  get usualSender(): string | undefined {
    return this.#lastSender;
  }

  get referenceTs(): number {
    return this.#last?.originServerTs ?? 0;
  }
}
