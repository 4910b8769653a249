import { bad, type Result } from '../base/result.ts';
import { literalNames } from '../compact/pdu/literal.ts';
import type { Subject } from '../compact/pdu/rules.ts';
import { type ComputedEvent, restoreSendAnswer } from '../compact/pdu/send_answer.ts';
import { MAX_VIEWS } from '../compact/pdu/view.ts';
import { readSync } from '../compact/sync/read_sync.ts';
import { ToldRoom } from '../compact/sync/told_room.ts';
import type { CompactReader } from '../compact/value_reader.ts';
import type { JsonObject } from '../matrix/json.ts';
import { DEFAULT_ROOM_VERSION, roomVersion } from '../matrix/room_version.ts';

/** A room of which nothing is known: its version does not matter where nothing is computed. */
const NOTHING = new ToldRoom({ version: roomVersion(DEFAULT_ROOM_VERSION)!, room: '' });

/** What a device knows of its rooms, from which it computes the ids of events. In memory: without it ids are told. */
export class KnownRooms {
  readonly #rooms = new Map<string, ToldRoom>();

  get(room: string): ToldRoom | undefined {
    return this.#rooms.get(room);
  }

  ids(): Iterable<string> {
    return this.#rooms.keys();
  }

  /** An answer of /sync; it is remembered what it tells. The problem is a sentence. */
  read(reader: CompactReader, since: string | undefined): Result<JsonObject> {
    const read = readSync(reader, since, this);
    if (!read.ok) return read;
    for (const [id, told] of read.value.rooms) {
      const known = this.#rooms.get(id);
      // Where it was told as if nothing was known, what is known besides still holds.
      this.#rooms.set(id, told.commit(known));
    }
    return { ok: true, value: read.value.body };
  }

  /** The event that the server has made of what was sent, by its answer. */
  sent(bytes: Uint8Array, room: string, sent: Subject): Result<ComputedEvent> {
    const told = this.#rooms.get(room);
    const literal = restoreSendAnswer(bytes, sent, told ?? NOTHING, literalNames);
    if (literal.ok && literal.value.pdu === undefined) return literal;
    // It is not known here which of the newest events the server takes this device to have.
    for (const last of (told?.newest() ?? []).slice(0, MAX_VIEWS)) {
      const computed = restoreSendAnswer(bytes, sent, told!.with(last), literalNames);
      if (!computed.ok) continue;
      const { eventId, pdu } = computed.value;
      const { depth, origin_server_ts } = pdu as { depth: number; origin_server_ts: number };
      told!.remember({ id: eventId, depth, originServerTs: origin_server_ts });
      return computed;
    }
    return bad('the event cannot be computed');
  }
}
