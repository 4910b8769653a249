import { bad, ok, type Result } from '../../base/result.ts';
import { writeInnerPdu } from '../../compact/pdu/compact.ts';
import { readInnerPdu } from '../../compact/pdu/restore.ts';
import type { KnownEvent, PduView } from '../../compact/pdu/view.ts';
import type { CompactReader } from '../../compact/value_reader.ts';
import type { CompactWriter } from '../../compact/value_writer.ts';
import { parsePdu } from '../../matrix/event_format.ts';
import type { RoomId, ServerName } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { authEvents, type Event, prevEvents } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { RoomViews } from './room_views.ts';
import { type FormProblem, problemOfReader, understood } from './transaction_form.ts';

// The body of send_join and send_leave in its short form: the event, to the end. Who joins has not got the room. He has the
// template that the reader has just made out of it, and takes it that the room has not changed: previous events and auth
// events go without saying, depth and time are told.

/** What the reader of an event that was made of its template knows. */
class TemplateView implements PduView {
  readonly version: RoomVersion;
  readonly room: string;
  readonly usualSender = undefined;
  readonly referenceTs = 0;
  readonly #event: Event;
  readonly #server: ServerName;
  readonly #keyId: string;

  constructor(event: Event, version: RoomVersion, server: ServerName, keyId: string) {
    this.#event = event;
    this.version = version;
    this.room = event.room;
    this.#server = server;
    this.#keyId = keyId;
  }

  extremities(): readonly KnownEvent[] {
    return prevEvents(this.#event.pdu).map((id) => ({ id, depth: 0, originServerTs: 0 }));
  }

  event(): undefined {
    return undefined;
  }

  state(): readonly string[] {
    return authEvents(this.#event.pdu);
  }

  usualKey(server: string): string | undefined {
    return server === this.#server ? this.#keyId : undefined;
  }
}

/** Writes the event of a user of `server`, which signs with `keyId`. @param isWhole the reader has not understood it before */
export function writeJoining(
  writer: CompactWriter,
  pdu: JsonObject,
  {
    version,
    server,
    keyId,
    isWhole,
  }: { version: RoomVersion; server: ServerName; keyId: string; isWhole: boolean },
): void {
  const parsed = parsePdu(pdu, version);
  const view = parsed.ok && !isWhole ? new TemplateView(parsed.value, version, server, keyId) : undefined;
  writeInnerPdu(writer, pdu, { view, isLast: true, signatureIsCheck: true });
}

/** Reads what `writeJoining` wrote. */
export async function readJoining(
  reader: CompactReader,
  views: RoomViews,
  origin: ServerName,
  room: RoomId,
): Promise<Result<JsonObject, FormProblem>> {
  const direction = await views.open(room, origin, undefined);
  const read = readInnerPdu(reader, direction?.version, true, true);
  if (!read.ok) {
    if (read.problem.kind === 'malformed') return bad(read.problem);
    return bad(reader.problem === undefined ? { kind: 'send whole', places: [0] } : problemOfReader(reader));
  }
  if (!reader.atEnd) return bad({ kind: 'malformed', reason: 'trailing bytes' });
  if (read.value.kind === 'whole') return ok(read.value.pdu);
  const restored = await understood(read.value, direction!);
  return restored.kind === 'one' && restored.deferred === undefined
    ? ok(restored.pdu)
    : bad({ kind: 'send whole', places: [0] });
}
