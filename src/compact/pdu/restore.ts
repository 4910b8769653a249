import { equal, fromUtf8 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import { isJsonObject, type JsonObject, type JsonValue, own, parseJson } from '../../matrix/json.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { SHORT_SIGNATURE_BYTES } from '../../matrix/short_signature.ts';
import { decodeJson } from '../cbor.ts';
import type { CompactReader } from '../value_reader.ts';
import { ByteReader, InnerReader, type PduReader } from './byte_reader.ts';
import { type ReadDag, readLists, readTs, understandDag } from './dag_fields.ts';
import {
  CHECK_BYTES,
  contentOfText,
  EXTENDED,
  EXTRA,
  MESSAGE_TYPE,
  NIBBLE,
  PLACED_FIELDS,
  SIGNATURE_BYTES,
  SIGNATURE_LIST,
  SIGNED,
  type SignatureCheck,
  STATE_KEY,
  STATE_KEY_EMPTY,
  STATE_KEY_IS_SENDER,
  STATE_KEY_NAMED,
  TELLS_DAG,
  TEXT,
  USUAL_SENDER,
  WHOLE_CBOR,
  WHOLE_JSON,
  WHOLE_VALUE,
} from './layout.ts';
import { checkOf, hashesOf, type Subject, statesNoRoom } from './rules.ts';
import {
  completeSignatures,
  type EventSignature,
  type ReadSignature,
  readSignatures,
  signaturesField,
  signerOf,
} from './signature_field.ts';
import type { PduProblem, PduReading, PduView } from './view.ts';

/** An event out of its bytes. It is no better than one that came as JSON: `parsePdu` has to look at it. */
export interface RestoredPdu {
  /** With an empty `signatures` where the signature is deferred. */
  readonly pdu: JsonObject;
  readonly isWhole: boolean;
  /** Whose signature, and with which key, has to follow; undefined where the event has the signatures that it had. */
  readonly deferred: Omit<EventSignature, 'bytes'> | undefined;
}

const malformed = (reason: string): { ok: false; problem: PduProblem } => bad({ kind: 'malformed', reason });

/** What `compactPdu` was given, less a deferred signature; or what to answer. Takes any bytes. */
export function restorePdu(bytes: Uint8Array, reading: PduReading): Result<RestoredPdu, PduProblem> {
  const header = bytes[0];
  if (header === undefined) return malformed('truncated');
  if (header >= WHOLE_JSON) return restoreWhole(header, bytes.subarray(1));
  const read = readFields(new ByteReader(bytes, reading), header, reading.view.version, false);
  return read.ok ? understand(read.value, reading.view) : read;
}

/** An event that has been read and not understood yet. */
export type ReadPdu =
  | { readonly kind: 'whole'; readonly pdu: JsonObject }
  | { readonly kind: 'fields'; readonly fields: ReadFields };

/**
 * Reads what `writeInnerPdu` wrote.
 * @param version undefined where the room is not known here: then only an event that goes whole can be read
 * @param signatureIsCheck as it was written
 */
export function readInnerPdu(
  reader: CompactReader,
  version: RoomVersion | undefined,
  isLast: boolean,
  signatureIsCheck: SignatureCheck = false,
): Result<ReadPdu, PduProblem> {
  const inner = new InnerReader(reader, isLast);
  const header = reader.bytes[reader.at];
  if (header === WHOLE_VALUE) {
    inner.byte();
    const pdu = inner.json();
    if (inner.problem !== undefined) return bad(inner.problem);
    return isJsonObject(pdu) ? ok({ kind: 'whole', pdu }) : malformed('an event is an object');
  }
  if (header === undefined || header === WHOLE_JSON) return malformed('no event');
  if (version === undefined) return bad({ kind: 'send whole', reason: 'state' });
  const fields = readFields(inner, header, version, signatureIsCheck);
  return fields.ok ? ok({ kind: 'fields', fields: fields.value }) : fields;
}

/** Whether an event that is understood is the one that was sent: it is told whole, or its signature has been seen. */
export const isProved = (read: ReadPdu): boolean => read.kind === 'whole' || read.fields.check === undefined;

/** The event that was read, by a view of the room; or what to answer. */
export function understandPdu(read: ReadPdu, view: PduView): Result<RestoredPdu, PduProblem> {
  if (read.kind === 'whole') return ok({ pdu: read.pdu, isWhole: true, deferred: undefined });
  return understand(read.fields, view);
}

function restoreWhole(header: number, bytes: Uint8Array): Result<RestoredPdu, PduProblem> {
  const value = header === WHOLE_CBOR ? decodeJson(bytes) : readJson(bytes);
  if (!value.ok) return malformed(value.problem);
  if (!isJsonObject(value.value)) return malformed('an event is an object');
  return ok({ pdu: value.value, isWhole: true, deferred: undefined });
}

function readJson(bytes: Uint8Array): Result<JsonValue> {
  const text = fromUtf8(bytes);
  if (text === undefined) return bad('not UTF-8');
  try {
    return ok(parseJson(text));
  } catch {
    return bad('not JSON');
  }
}

/** What is in the bytes, whatever is known of the room. */
interface ReadFields {
  /** Undefined: the signature is the check. */
  readonly check: Uint8Array | undefined;
  /** Undefined: the usual one. */
  readonly sender: string | undefined;
  readonly type: string;
  /** STATE_KEY_... */
  readonly stateKeyForm: number;
  readonly namedStateKey: string;
  readonly dag: ReadDag;
  readonly content: JsonObject;
  readonly extra: JsonObject;
  /** Undefined where the signature is deferred. The only one may be short. */
  readonly signatures: readonly ReadSignature[] | undefined;
}

function readFields(
  reader: PduReader,
  header: number,
  version: RoomVersion,
  signatureIsCheck: SignatureCheck,
): Result<ReadFields, PduProblem> {
  reader.byte();
  const extension = (header & EXTENDED) === 0 ? 0 : reader.byte();
  const check = signatureIsCheck !== false && (header & SIGNED) !== 0 ? undefined : reader.blob(CHECK_BYTES);
  const ts = readTs(reader, extension & TELLS_DAG, header & NIBBLE);
  const sender = (header & USUAL_SENDER) === 0 ? reader.name('user') : undefined;
  const isText = (header & TEXT) !== 0;
  const type = isText ? MESSAGE_TYPE : reader.name('type');
  const stateKeyForm = extension & STATE_KEY;
  const namedStateKey = stateKeyForm === STATE_KEY_NAMED ? reader.name('state_key') : '';
  const lists = readLists(reader, extension & TELLS_DAG, version);
  const bytes = signatureIsCheck === 'short' ? SHORT_SIGNATURE_BYTES : SIGNATURE_BYTES;
  const signatures = readSignatureField(reader, header, extension, bytes);
  const content = readContent(reader, isText, (extension & EXTRA) !== 0);
  if (reader.problem !== undefined) return bad(reader.problem);
  if (!content.ok) return content;
  if (signatures?.length !== 0 && Object.hasOwn(content.value.extra, 'signatures')) {
    return malformed('two forms of signatures');
  }
  const dag = { ...ts, ...lists };
  return ok({ check, sender, type, stateKeyForm, namedStateKey, dag, ...content.value, signatures });
}

function readSignatureField(
  reader: PduReader,
  header: number,
  extension: number,
  bytes: number,
): ReadSignature[] | undefined {
  const isList = (extension & SIGNATURE_LIST) !== 0;
  if ((header & SIGNED) === 0) return isList ? readSignatures(reader) : undefined;
  if (isList) reader.fail({ kind: 'malformed', reason: 'two forms of signatures' });
  return [{ server: undefined, keyId: undefined, bytes: reader.blob(bytes) }];
}

function readContent(
  reader: PduReader,
  isText: boolean,
  hasExtra: boolean,
): Result<Pick<ReadFields, 'content' | 'extra'>, PduProblem> {
  if (isText) return ok({ content: contentOfText(reader.text()), extra: {} });
  const value = reader.json();
  const items = hasExtra ? value : [value, {}];
  const [content, extra, ...others] = Array.isArray(items) ? items : [];
  if (!isJsonObject(content) || !isJsonObject(extra) || others.length > 0) {
    return malformed('the content is not an object');
  }
  // One field has one place.
  if (Object.keys(extra).some((key) => PLACED_FIELDS.has(key))) return malformed('a further field is none');
  return ok({ content, extra });
}

function stateKeyOf(form: number, sender: string, named: string): string | undefined {
  if (form === 0) return undefined;
  if (form === STATE_KEY_EMPTY) return '';
  return form === STATE_KEY_IS_SENDER ? sender : named;
}

/** Computes what was not sent. */
function understand(read: ReadFields, view: PduView): Result<RestoredPdu, PduProblem> {
  const { extra } = read;
  const sender = read.sender ?? view.usualSender;
  if (sender === undefined) return bad({ kind: 'send whole', reason: 'sender' });
  const signatures = read.signatures && completeSignatures(read.signatures, sender, view);
  if (read.signatures !== undefined && signatures === undefined) {
    return bad({ kind: 'send whole', reason: 'key' });
  }
  const stateKey = stateKeyOf(read.stateKeyForm, sender, read.namedStateKey);
  const subject: Subject = { type: read.type, sender, stateKey, content: read.content };
  const dag = understandDag(read.dag, subject, view);
  if (typeof dag === 'string') return bad({ kind: 'send whole', reason: dag });
  const pdu: JsonObject = {
    type: subject.type,
    sender: subject.sender,
    content: subject.content,
    ...dag,
    ...(statesNoRoom(subject.type, view.version) ? {} : { room_id: view.room }),
    ...(subject.stateKey === undefined ? {} : { state_key: subject.stateKey }),
    signatures: signaturesField(signatures ?? []),
    ...extra,
  };
  // Hashing needs a canonical form, which a content of the peer's may not have.
  if (!canonicalJson(pdu).ok) return malformed('the event has no canonical form');
  if (own(pdu, 'hashes') === undefined) pdu.hashes = hashesOf(pdu, view.version);
  if (!isRight(pdu, read, signatures?.[0], view)) return bad({ kind: 'send whole', reason: 'check' });
  const deferred = signatures === undefined ? deferredOf(subject.sender, view) : undefined;
  if (signatures === undefined && deferred === undefined) return bad({ kind: 'send whole', reason: 'key' });
  return ok({ pdu, isWhole: false, deferred });
}

/** Whether it is the event that was sent; a signature that is short becomes whole with it. */
function isRight(
  pdu: JsonObject,
  { check }: ReadFields,
  signature: EventSignature | undefined,
  view: PduView,
): boolean {
  if (check !== undefined) return equal(checkOf(pdu, view.version, CHECK_BYTES), check);
  if (signature?.bytes.length !== SHORT_SIGNATURE_BYTES) return view.isSigned?.(pdu) === true;
  const bytes = view.completeSignature?.(pdu, signature.bytes);
  if (bytes !== undefined) pdu.signatures = signaturesField([{ ...signature, bytes }]);
  return bytes !== undefined;
}

function deferredOf(sender: string, view: PduView): RestoredPdu['deferred'] {
  const server = signerOf(sender);
  const keyId = view.usualKey(server);
  return keyId === undefined ? undefined : { server, keyId };
}
