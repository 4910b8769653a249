import type { Random } from '../../base/random.ts';
import type { Clock } from '../../base/time.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import { badJson, forbidden, MatrixError } from '../../matrix/error.ts';
import { authEventKeys } from '../../matrix/event_auth.ts';
import {
  MAX_DEPTH,
  MAX_PDU_BYTES,
  MAX_PDU_NESTING,
  MAX_PREV_EVENTS,
  pduBytes,
} from '../../matrix/event_format.ts';
import { newEventId, numbersOf, referencesTo } from '../../matrix/hashes.ts';
import { type EventId, fitsIdLimit, MAX_ID_BYTES, type ServerName, type UserId } from '../../matrix/ids.ts';
import { type JsonObject, nestsDeeperThan } from '../../matrix/json.ts';
import type { Event, EventReference, UnsignedPdu } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { type SigningKey, signEvent } from '../../matrix/signing.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomState } from './room_state.ts';
import { authoriseBy } from './verdict.ts';

/** What somebody wants to send. */
export interface EventIntent {
  readonly type: string;
  readonly sender: UserId;
  /** Present on state events only. */
  readonly stateKey?: string | undefined;
  readonly content: JsonObject;
}

/** Makes this server's own events. */
export class EventBuilder {
  readonly serverName: ServerName;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #key: SigningKey;

  constructor(options: {
    readonly serverName: ServerName;
    readonly clock: Clock;
    readonly random: Random;
    readonly signingKey: SigningKey;
  }) {
    this.serverName = options.serverName;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#key = options.signingKey;
  }

  /**
   * Works out an event at the end of a room: on top of its forward extremities (as many as an event may have), authorised
   * by the events that the selection of the server-server API takes from the state before it.
   * @throws MatrixError M_FORBIDDEN where the room does not allow it
   */
  async place(draft: RoomDraft, intent: EventIntent): Promise<{ unsigned: UnsignedPdu; before: RoomState }> {
    checkNames(intent);
    const prevs = draft.extremities.slice(0, MAX_PREV_EVENTS);
    const { states } = await draft.statesAfter(prevs.map(({ id }) => id));
    const before = await draft.resolve(states);
    const { type, sender, stateKey } = intent;
    const subject = {
      ...{ type, sender, ...redactsInPlace(intent, draft.version) },
      ...(stateKey === undefined ? {} : { state_key: stateKey }),
    };
    const selected = authEventKeys(subject, draft.version).flatMap((place) => before.map.get(place) ?? []);
    const unsigned: UnsignedPdu = {
      ...subject,
      ...this.statedId(draft.version),
      room_id: draft.room,
      origin_server_ts: this.#clock.wall(),
      depth: Math.min(MAX_DEPTH, Math.max(0, ...prevs.map(({ depth }) => depth)) + 1),
      prev_events: await references(
        draft,
        prevs.map(({ id }) => id),
      ),
      auth_events: await references(draft, selected),
    };
    // As it will be once this server has signed it, which rule 5.2 asks for.
    const pdu = {
      ...unsigned,
      hashes: { sha256: '' },
      signatures: { [this.serverName]: { [this.#key.keyId]: '' } },
    };
    const event = { id: unsigned.event_id ?? ('$' as EventId), room: draft.room, pdu };
    for (const state of new Set([before, draft.current])) {
      const authorised = await authoriseBy(draft, event, state);
      if (!authorised.ok) throw forbidden(authorised.problem.reason);
    }
    return { unsigned, before };
  }

  /** The `event_id` of a new event, in versions whose events state one. */
  statedId(version: RoomVersion): Pick<UnsignedPdu, 'event_id'> {
    return version.eventIds === 'stated' ? { event_id: newEventId(this.serverName, this.#random) } : {};
  }

  /** `place`, then `sign`. */
  async build(draft: RoomDraft, intent: EventIntent): Promise<{ event: Event; before: RoomState }> {
    const { unsigned, before } = await this.place(draft, intent);
    return { event: this.sign(unsigned, draft.version), before };
  }

  /**
   * Hashes, signs and identifies an event.
   * @throws MatrixError M_BAD_JSON where its content has no canonical form, M_TOO_LARGE past 65,536 bytes
   */
  sign(unsigned: UnsignedPdu, version: RoomDraft['version']): Event {
    if (nestsDeeperThan(MAX_PDU_NESTING - 1, unsigned.content)) {
      throw badJson(`The content nests deeper than ${MAX_PDU_NESTING - 1} levels`);
    }
    const text = canonicalJson(unsigned.content, numbersOf(version));
    if (!text.ok) throw badJson(`The content cannot be sent: ${text.problem}`);
    const event = signEvent(unsigned, version, this.serverName, this.#key);
    const size = pduBytes(event.pdu as unknown as JsonObject, version);
    if (!size.ok || size.value > MAX_PDU_BYTES) {
      throw new MatrixError(413, 'M_TOO_LARGE', `An event is at most ${MAX_PDU_BYTES} bytes`);
    }
    return event;
  }
}

/** The content, with the `redacts` of a redaction where the room version has it. */
function redactsInPlace(
  { type, content }: EventIntent,
  version: RoomVersion,
): Pick<UnsignedPdu, 'content' | 'redacts'> {
  const { redacts, ...rest } = content;
  const isMoved = type === 'm.room.redaction' && version.redactsIn === 'event' && typeof redacts === 'string';
  return isMoved ? { redacts, content: rest } : { content };
}

async function references(draft: RoomDraft, ids: readonly EventId[]): Promise<EventReference[]> {
  if (draft.version.eventIds !== 'stated') return [...ids];
  const found = await draft.find(ids);
  return referencesTo(
    ids.map((id) => found.get(id)!.event),
    draft.version,
  );
}

function checkNames({ type, stateKey }: EventIntent): void {
  if (!fitsIdLimit(type) || (stateKey !== undefined && !fitsIdLimit(stateKey))) {
    throw new MatrixError(413, 'M_TOO_LARGE', `Types and state keys are at most ${MAX_ID_BYTES} bytes`);
  }
  if (!type.isWellFormed() || stateKey?.isWellFormed() === false) {
    throw badJson('Types and state keys are Unicode text');
  }
}
