import { base64url, concat, equal, fromUtf8, utf8 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { depthOf, type Event, type Pdu } from '../../matrix/pdu.ts';
import { ByteReader } from './byte_reader.ts';
import { ByteWriter } from './byte_writer.ts';
import {
  listsToTell,
  readLists,
  readTs,
  tsToTell,
  understandDag,
  writeLists,
  writeTs,
} from './dag_fields.ts';
import { EXTENDED, NIBBLE, TELLS_DAG } from './layout.ts';
import { hashInEventId, literalContents, literalNames } from './literal.ts';
import { checkOf, hashesOf, idOf, refersByPairs, type Subject, statesNoRoom } from './rules.ts';
import type { NameReader, NameWriter, PduProblem, PduView } from './view.ts';

// The answer to a client's send, from which it computes the id of its event:
//
//   header     1 byte: ANSWER, EXTENDED, and four bits of a short time; or LITERAL_...
//   extension  1 byte with EXTENDED: TELLS_...
//   check      4 bytes of the event's id
//   time       2 bytes, or a varint
//   lists      prev_events, auth_events, depth, as far as they are told
//
// The fields are those of an event between servers; the view is what the server knows that the client has.

/** In every header: so no container begins, and the answer stands without one. */
const ANSWER = 0x20;
/** The 32 bytes of the id follow. */
const LITERAL_HASH = 0x30;
/** The text of the id follows. */
const LITERAL_TEXT = 0x31;

/** Nobody asks again after a wrong event id, so the check is longer than between servers. */
const CHECK_BYTES = 4;

/** An event as a client can compute it: all but its signatures. */
export interface ComputedEvent {
  readonly eventId: string;
  /** Undefined where the answer holds the literal id. */
  readonly pdu: JsonObject | undefined;
}

/**
 * The bytes of the answer: 7 where the last event that the client has is the only previous one and at most 16 minutes
 * older; 33 where the client cannot compute the id by `view`.
 */
export function compactSendAnswer(event: Event, view: PduView, names: NameWriter): Uint8Array {
  const { pdu } = event;
  const sent = {
    type: pdu.type,
    sender: pdu.sender,
    stateKey: pdu.state_key,
    content: pdu.content,
  };
  const hash = hashInEventId(event.id);
  const told =
    hash === undefined
      ? concat(Uint8Array.of(LITERAL_TEXT), utf8(event.id))
      : concat(Uint8Array.of(LITERAL_HASH), hash);
  // In room versions 1 and 2 an id is not computed but chosen.
  if (refersByPairs(view.version)) return told;
  const literal = writeAnswer(pdu, sent, view, literalNames);
  const back = restoreSendAnswer(literal, sent, view, literalNames);
  const isComputed = back.ok && back.value.eventId === event.id && literal.length <= told.length;
  return isComputed ? writeAnswer(pdu, sent, view, names) : told;
}

function writeAnswer(pdu: Pdu, sent: Subject, view: PduView, names: NameWriter): Uint8Array {
  const fields = { ...pdu, depth: depthOf(pdu) };
  const lists = listsToTell(fields, sent, view);
  const ts = tsToTell(fields, view);
  const extension = lists.flags | ts.flags;
  const writer = new ByteWriter({ names, contents: literalContents });
  writer.byte(ANSWER | (extension === 0 ? 0 : EXTENDED) | ts.nibble);
  if (extension !== 0) writer.byte(extension);
  writer.bytes(checkOf(pdu as unknown as JsonObject, view.version, CHECK_BYTES));
  writeTs(writer, ts);
  writeLists(writer, lists, view);
  return writer.done();
}

/**
 * The event that the server has made of what a client `sent`. The problem 'send whole' stands for a client that knows less
 * than the server took it to: it gets the id by asking for the event, or by /sync.
 */
export function restoreSendAnswer(
  bytes: Uint8Array,
  sent: Subject,
  view: PduView,
  names: NameReader,
): Result<ComputedEvent, PduProblem> {
  const reader = new ByteReader(bytes, { names, contents: literalContents });
  const header = reader.byte();
  if (header === LITERAL_HASH || header === LITERAL_TEXT) return restoreLiteral(header, reader.rest());
  if ((header & ~(EXTENDED | NIBBLE)) !== ANSWER) reader.fail({ kind: 'malformed', reason: 'no answer' });
  const extension = (header & EXTENDED) === 0 ? 0 : reader.byte();
  const check = reader.take(CHECK_BYTES);
  const ts = readTs(reader, extension & TELLS_DAG, header & NIBBLE);
  const lists = readLists(reader, extension & TELLS_DAG, view.version);
  if (reader.rest().length > 0) reader.fail({ kind: 'malformed', reason: 'trailing bytes' });
  if (reader.problem !== undefined) return bad(reader.problem);
  const dag = understandDag({ ...ts, ...lists }, sent, view);
  if (typeof dag === 'string') return bad({ kind: 'send whole', reason: dag });
  const pdu: JsonObject = {
    type: sent.type,
    sender: sent.sender,
    content: sent.content,
    ...dag,
    ...(statesNoRoom(sent.type, view.version) ? {} : { room_id: view.room }),
    ...(sent.stateKey === undefined ? {} : { state_key: sent.stateKey }),
  };
  if (!canonicalJson(pdu).ok) {
    return bad({ kind: 'malformed', reason: 'the event has no canonical form' });
  }
  pdu.hashes = hashesOf(pdu, view.version);
  if (!equal(checkOf(pdu, view.version, CHECK_BYTES), check)) {
    return bad({ kind: 'send whole', reason: 'check' });
  }
  return ok({ eventId: idOf(pdu, view.version), pdu });
}

/** The first bytes of the event's id, whether it can be computed or not; none where the id is in the answer as a text. */
export function checkIn(answer: Uint8Array): Uint8Array {
  const [header = 0] = answer;
  if (header === LITERAL_TEXT) return new Uint8Array(0);
  const at = (header & EXTENDED) === 0 ? 1 : 2;
  return answer.subarray(at, at + CHECK_BYTES);
}

function restoreLiteral(header: number, bytes: Uint8Array): Result<ComputedEvent, PduProblem> {
  const text = header === LITERAL_TEXT ? fromUtf8(bytes) : `$${base64url(bytes)}`;
  const isLiteral = header === LITERAL_TEXT || (header === LITERAL_HASH && bytes.length === 32);
  if (!isLiteral || text === undefined) return bad({ kind: 'malformed', reason: 'no event id' });
  return ok({ eventId: text, pdu: undefined });
}
