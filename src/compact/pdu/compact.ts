import { concat, utf8 } from '../../base/bytes.ts';
import { canonicalJson, canonicalText } from '../../matrix/canonical_json.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { shortSignature } from '../../matrix/short_signature.ts';
import { decodeJson, encodeJson, tooDeep } from '../cbor.ts';
import type { CompactWriter } from '../value_writer.ts';
import { ByteWriter, InnerWriter, type PduWriter } from './byte_writer.ts';
import { MAX_REFERENCES } from './choice.ts';
import { type DagFields, listsToTell, tsToTell, writeLists, writeTs } from './dag_fields.ts';
import {
  bodyOfText,
  CHECK_BYTES,
  EXTENDED,
  EXTRA,
  PLACED_FIELDS,
  SIGNATURE_LIST,
  SIGNED,
  type SignatureCheck,
  STATE_KEY_EMPTY,
  STATE_KEY_IS_SENDER,
  STATE_KEY_NAMED,
  TEXT,
  USUAL_SENDER,
  WHOLE_CBOR,
  WHOLE_JSON,
  WHOLE_VALUE,
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
  const parts = restorableParts(pdu, writing.view, deferSignature);
  if (parts === undefined) return { bytes: wholePdu(pdu), isWhole: true, deferred: undefined };
  const writer = new ByteWriter(writing);
  writeFields(writer, parts, { view: writing.view, signatureIsCheck: false });
  return { bytes: writer.done(), isWhole: false, deferred: parts.deferred };
}

/**
 * `compactPdu` among the parts of a compact content. There an event that goes whole is a compact value, and one that is not
 * the last part says itself where it ends.
 */
export function writeInnerPdu(
  writer: CompactWriter,
  pdu: JsonObject,
  {
    view,
    isLast,
    signatureIsCheck = false,
    deferSignature = false,
  }: {
    /** Undefined: the event goes whole. */
    readonly view: PduView | undefined;
    readonly isLast: boolean;
    readonly signatureIsCheck?: SignatureCheck;
    readonly deferSignature?: boolean;
  },
): Omit<CompactPdu, 'bytes'> {
  const parts = view && restorableParts(pdu, view, deferSignature);
  if (view === undefined || parts === undefined) {
    writer.byte(WHOLE_VALUE);
    writer.value(pdu);
    return { isWhole: true, deferred: undefined };
  }
  writeFields(new InnerWriter(writer, isLast), parts, { view, signatureIsCheck });
  return { isWhole: false, deferred: parts.deferred };
}

/**
 * What goes on the wire, where the event comes back by this view. Names and contents are literal while that is seen, and
 * their own codecs are asked only for what is then sent: they may change by what they write, as handles and learned models do.
 */
function restorableParts(pdu: JsonObject, view: PduView, deferSignature: boolean): Parts | undefined {
  const parts = partsOf(pdu, view, deferSignature);
  if (parts === undefined) return undefined;
  const codecs = { names: literalNames, contents: literalContents };
  const writer = new ByteWriter(codecs);
  writeFields(writer, parts, { view, signatureIsCheck: false });
  const back = restorePdu(writer.done(), { view, ...codecs });
  if (!back.ok) return undefined;
  const same = isSame(parts.deferred ? withSignature(back.value.pdu, parts.deferred) : back.value.pdu, pdu);
  return same ? parts : undefined;
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

interface Parts {
  readonly pdu: JsonObject;
  readonly subject: Subject;
  readonly dag: DagFields;
  readonly extra: JsonObject;
  readonly signatures: readonly EventSignature[];
  readonly usual: EventSignature | undefined;
  readonly deferred: EventSignature | undefined;
}

/** The event's parts, or undefined where its fields are not what the form is made for. */
function partsOf(pdu: JsonObject, view: PduView, deferSignature: boolean): Parts | undefined {
  const subject = subjectOf(pdu);
  const dag = dagOf(pdu, view);
  if (subject === undefined || dag === undefined || tooDeep(pdu) || !canonicalJson(pdu).ok) return undefined;
  const extra = extraOf(pdu, subject, view);
  const signatures = plainSignatures(pdu);
  if (extra === undefined || !Object.hasOwn(pdu, 'signatures')) return undefined;
  if (signatures === undefined) extra.signatures = own(pdu, 'signatures')!;
  const usual = usualSignature(signatures ?? [], subject.sender, view);
  const deferred = deferSignature ? usual : undefined;
  return { pdu, subject, dag, extra, signatures: signatures ?? [], usual, deferred };
}

function writeFields(
  writer: PduWriter,
  parts: Parts,
  { view, signatureIsCheck }: { readonly view: PduView; readonly signatureIsCheck: SignatureCheck },
): void {
  const { pdu, subject, extra, signatures, deferred } = parts;
  const isShort = signatureIsCheck === 'short' && deferred === undefined;
  const sent = isShort ? parts.usual && shortSignature(parts.usual.bytes) : parts.usual?.bytes;
  const usual = sent === undefined ? undefined : parts.usual;
  const hasExtra = Object.keys(extra).length > 0;
  const body = hasExtra ? undefined : bodyOfText(subject.type, subject.content);
  const isUsualSender = subject.sender === view.usualSender;
  const stateKey = stateKeyForm(subject);
  const lists = listsToTell(parts.dag, subject, view);
  const flags = (usual === undefined ? SIGNATURE_LIST : 0) | (hasExtra ? EXTRA : 0) | stateKey | lists.flags;

  const headerFor = ({ flags: tsFlags, nibble }: { flags: number; nibble: number }): number =>
    (usual !== undefined && deferred === undefined ? SIGNED : 0) |
    ((flags | tsFlags) === 0 ? 0 : EXTENDED) |
    (body === undefined ? 0 : TEXT) |
    (isUsualSender ? USUAL_SENDER : 0) |
    nibble;
  let ts = tsToTell(parts.dag, view);
  if (headerFor(ts) >= WHOLE_JSON) ts = tsToTell(parts.dag, view, false);

  const extension = flags | ts.flags;
  writer.byte(headerFor(ts));
  if (extension !== 0) writer.byte(extension);
  const isSigned = usual !== undefined && deferred === undefined;
  if (!isSigned || signatureIsCheck === false) writer.blob(checkOf(pdu, view.version, CHECK_BYTES));
  writeTs(writer, ts);
  if (!isUsualSender) writer.name('user', subject.sender);
  if (body === undefined) writer.name('type', subject.type);
  if (stateKey === STATE_KEY_NAMED) writer.name('state_key', subject.stateKey!);
  writeLists(writer, lists, view);
  if (usual === undefined) writeSignatures(writer, signatures, subject.sender, view);
  else if (deferred === undefined) writer.blob(sent!);
  if (body !== undefined) writer.text(body);
  else writer.json(hasExtra ? [subject.content, extra] : subject.content);
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
