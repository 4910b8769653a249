import { concat, utf8 } from '../../base/bytes.ts';
import { canonicalJson, canonicalText } from '../../matrix/canonical_json.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { decodeJson, encodeJson, tooDeep } from '../cbor.ts';
import { ByteWriter } from './byte_writer.ts';
import { MAX_REFERENCES } from './choice.ts';
import { type DagFields, writeLists, writeTs } from './dag_fields.ts';
import {
  bodyOfText,
  CHECK_BYTES,
  EXTENDED,
  EXTRA,
  PLACED_FIELDS,
  SIGNATURE_LIST,
  SIGNED,
  STATE_KEY_EMPTY,
  STATE_KEY_IS_SENDER,
  STATE_KEY_NAMED,
  TEXT,
  USUAL_SENDER,
  WHOLE_CBOR,
  WHOLE_JSON,
  withoutSignatures,
} from './layout.ts';
import { literalContents, literalNames } from './literal.ts';
import { restorePdu } from './restore.ts';
import { checkOf, hashesOf, isSame, refersByPairs, type Subject, statesNoRoom } from './rules.ts';
import {
  type EventSignature,
  plainSignatures,
  usualSignature,
  withSignature,
  writeSignatures,
} from './signature_field.ts';
import type { PduView, PduWriting } from './view.ts';

/** An event as bytes. */
export interface CompactPdu {
  readonly bytes: Uint8Array;
  /** Whether nothing but the bytes is needed to read it. */
  readonly isWhole: boolean;
  /** The signature that has to follow (`signatures.ts`); undefined where all signatures are in the bytes. */
  readonly deferred: EventSignature | undefined;
}

/**
 * A PDU without what its reader can compute, in the fewest bytes; `restorePdu` is the inverse. The event has been read
 * back by what `view` says that the reader has: where that did not give the same event, and where the event has no
 * canonical form, it goes whole. The bytes do not say where they end, and neither name the room nor its version.
 * @param pdu any event, as JSON; with `unsigned` where the reader is to have it
 * @param deferSignature leaves out the signature where it is the usual one; `mayDefer` says for which events that is
 *   allowed
 */
export function compactPdu(pdu: JsonObject, writing: PduWriting, deferSignature = false): CompactPdu {
  return isRestoredBy(writing.view, pdu, deferSignature)
    ? write(pdu, writing, deferSignature)!
    : { bytes: wholePdu(pdu), isWhole: true, deferred: undefined };
}

/**
 * Whether the event comes back by this view. Names and contents are literal here, and their own codecs are asked only for
 * what is then sent: they may change by what they write, as handles and learned models do.
 */
function isRestoredBy(view: PduView, pdu: JsonObject, deferSignature: boolean): boolean {
  const literal = { view, names: literalNames, contents: literalContents };
  const written = write(pdu, literal, deferSignature);
  const back = written && restorePdu(written.bytes, literal);
  if (written === undefined || back?.ok !== true) return false;
  return isSame(written.deferred ? withSignature(back.value.pdu, written.deferred) : back.value.pdu, pdu);
}

/** A PDU in a form that reads without any knowledge of the room: the answer to 'send it whole'. */
export function wholePdu(pdu: JsonObject): Uint8Array {
  if (!tooDeep(pdu)) {
    const cbor = encodeJson(pdu);
    const back = decodeJson(cbor);
    if (back.ok && JSON.stringify(back.value) === JSON.stringify(pdu)) {
      return concat(Uint8Array.of(WHOLE_CBOR), cbor);
    }
  }
  return concat(Uint8Array.of(WHOLE_JSON), utf8(JSON.stringify(pdu)));
}

/** The event in its compact form, or undefined where its fields are not what the form is made for. */
function write(pdu: JsonObject, writing: PduWriting, deferSignature: boolean): CompactPdu | undefined {
  const subject = subjectOf(pdu);
  const dag = dagOf(pdu, writing.view);
  if (subject === undefined || dag === undefined || tooDeep(pdu) || !canonicalJson(pdu).ok) return undefined;
  const extra = extraOf(pdu, subject, writing.view);
  const signatures = plainSignatures(pdu);
  if (extra === undefined || !Object.hasOwn(pdu, 'signatures')) return undefined;
  if (signatures === undefined) extra.signatures = own(pdu, 'signatures')!;
  const usual = usualSignature(signatures ?? [], subject.sender, writing.view);
  const deferred = deferSignature ? usual : undefined;
  const parts = { pdu, subject, dag, extra, signatures: signatures ?? [], usual, isDeferred: deferSignature };
  return { bytes: writeFields(parts, writing), isWhole: false, deferred };
}

interface Parts {
  readonly pdu: JsonObject;
  readonly subject: Subject;
  readonly dag: DagFields;
  readonly extra: JsonObject;
  readonly signatures: readonly EventSignature[];
  readonly usual: EventSignature | undefined;
  readonly isDeferred: boolean;
}

function writeFields(parts: Parts, { view, names, contents }: PduWriting): Uint8Array {
  const { pdu, subject, extra, signatures, usual } = parts;
  const hasExtra = Object.keys(extra).length > 0;
  const body = hasExtra ? undefined : bodyOfText(subject.type, subject.content);
  const isUsualSender = subject.sender === view.usualSender;
  const stateKey = stateKeyForm(subject);
  const flags = (usual === undefined ? SIGNATURE_LIST : 0) | (hasExtra ? EXTRA : 0) | stateKey;

  // The names are written in the order in which they are read: handles may depend on it.
  const named = new ByteWriter();
  if (!isUsualSender) named.bytes(names.write('user', subject.sender));
  if (body === undefined) named.bytes(names.write('type', subject.type));
  if (stateKey === STATE_KEY_NAMED) named.bytes(names.write('state_key', subject.stateKey!));

  const headerFor = (dagFlags: number, nibble: number): number =>
    (usual !== undefined && !parts.isDeferred ? SIGNED : 0) |
    ((flags | dagFlags) === 0 ? 0 : EXTENDED) |
    (body === undefined ? 0 : TEXT) |
    (isUsualSender ? USUAL_SENDER : 0) |
    nibble;
  const lists = writeLists(parts.dag, subject, view, names);
  let ts = writeTs(parts.dag, view);
  if (headerFor(lists.flags | ts.flags, ts.nibble) >= WHOLE_JSON) ts = writeTs(parts.dag, view, false);

  const writer = new ByteWriter();
  const extension = flags | lists.flags | ts.flags;
  writer.byte(headerFor(lists.flags | ts.flags, ts.nibble));
  if (extension !== 0) writer.byte(extension);
  writer.bytes(checkOf(pdu, view.version, CHECK_BYTES));
  writer.bytes(ts.bytes);
  writer.bytes(named.done());
  writer.bytes(lists.bytes);
  if (usual === undefined) writeSignatures(writer, signatures, subject.sender, view, names);
  else if (!parts.isDeferred) writer.bytes(usual.bytes);
  if (body !== undefined) writer.bytes(contents.writeText(body));
  else writer.bytes(contents.writeJson(hasExtra ? [subject.content, extra] : subject.content));
  return writer.done();
}

function stateKeyForm({ stateKey, sender }: Subject): number {
  if (stateKey === undefined) return 0;
  if (stateKey === '') return STATE_KEY_EMPTY;
  return stateKey === sender ? STATE_KEY_IS_SENDER : STATE_KEY_NAMED;
}

function subjectOf(pdu: JsonObject): Subject | undefined {
  const [type, sender, content] = [own(pdu, 'type'), own(pdu, 'sender'), own(pdu, 'content')];
  const stateKey = own(pdu, 'state_key');
  if (typeof type !== 'string' || typeof sender !== 'string' || !isJsonObject(content)) return undefined;
  if (stateKey !== undefined && typeof stateKey !== 'string') return undefined;
  return { type, sender, stateKey, content };
}

function dagOf(pdu: JsonObject, view: PduView): DagFields | undefined {
  const [prev, auth] = [own(pdu, 'prev_events'), own(pdu, 'auth_events')];
  const [depth, ts] = [own(pdu, 'depth'), own(pdu, 'origin_server_ts')];
  if (!Array.isArray(prev) || !Array.isArray(auth)) return undefined;
  if (typeof depth !== 'number' || depth < 0 || typeof ts !== 'number') return undefined;
  if (prev.length > MAX_REFERENCES || auth.length > MAX_REFERENCES) return undefined;
  const isReference = (value: JsonValue): boolean => refersByPairs(view.version) || typeof value === 'string';
  if (![...prev, ...auth].every(isReference)) return undefined;
  return { prev_events: prev, auth_events: auth, depth, origin_server_ts: ts };
}

/** The fields without a place that are not what the reader computes; undefined where one that it computes is missing. */
function extraOf(pdu: JsonObject, subject: Subject, view: PduView): JsonObject | undefined {
  const computed: JsonObject = { hashes: hashesOf(pdu, view.version) };
  if (!statesNoRoom(subject.type, view.version)) computed.room_id = view.room;
  if (Object.keys(computed).some((key) => !Object.hasOwn(pdu, key))) return undefined;
  const further = Object.entries(withoutSignatures(pdu)).filter(([key, value]) => {
    const expected = own(computed, key);
    return (
      !PLACED_FIELDS.has(key) && (expected === undefined || canonicalText(expected) !== canonicalText(value))
    );
  });
  return Object.fromEntries(further);
}
