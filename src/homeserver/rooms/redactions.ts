import { type EventId, serverOf } from '../../matrix/ids.ts';
import type { Event } from '../../matrix/pdu.ts';
import { powerLevels } from '../../matrix/power_levels.ts';
import { redact, redactedId } from '../../matrix/redaction.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { Reader } from '../../storage/database.ts';
import { type RedactionRow, redactionsOf } from '../../storage/events.ts';
import type { EventCache } from './event_cache.ts';
import type { RoomState } from './room_state.ts';
import type { AuthorisedRoom } from './verdict.ts';

/** What an m.room.redaction in the DAG does. */
export interface Redaction {
  readonly redacts: EventId;
  /** Whether the sender's power level is the redact level or more. */
  readonly byPower: boolean;
  /** What it leaves of the event that it names, or null while it cannot be applied. */
  readonly applied: Event | null;
}

/** An event with nothing left but what its room version protects. */
export function redactedCopy(event: Event, version: RoomVersion): Event {
  return { ...event, pdu: redact(event.pdu, version) };
}

/** Whether a user may redact what others sent, by a state of the room. */
export async function hasRedactPower(
  room: AuthorisedRoom,
  sender: Event['pdu']['sender'],
  state: RoomState,
): Promise<boolean> {
  const id = state.get('m.room.power_levels', '');
  const power = id === undefined ? undefined : (await room.find([id])).get(id)?.event;
  const levels = powerLevels(room.create, power, room.version);
  return levels.user(sender) >= levels.redact;
}

/**
 * Decides what a redaction does (room versions 3 and up, "Handling redactions"): it applies where its sender has the
 * power to, or is of the same server as the sender of the event that it names, once that event is here.
 * @returns null where the event is no redaction
 */
export async function redactionBy(
  room: AuthorisedRoom,
  event: Event,
  before: RoomState,
  events: EventCache,
): Promise<Redaction | null> {
  const redacts = redactedId(event.pdu, room.version);
  if (redacts === undefined) return null;
  const byPower = await hasRedactPower(room, event.pdu.sender, before);
  const target = await events.get(redacts);
  const applies =
    target !== undefined &&
    target.event.room === event.room &&
    target.status !== 'rejected' &&
    (byPower || serverOf(event.pdu.sender) === serverOf(target.event.pdu.sender));
  return { redacts, byPower, applied: applies ? redactedCopy(target.event, room.version) : null };
}

/** The redactions that came before the event that they name, and apply to it; the first to come first. */
export async function earlierRedactions(db: Reader, event: Event): Promise<RedactionRow[]> {
  const sender = serverOf(event.pdu.sender);
  return (await redactionsOf(db, event.room, event.id)).filter(
    (redaction) => redaction.byPower === 1 || serverOf(redaction.sender) === sender,
  );
}
