import { base64, fromBase64 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import type { CompactReader } from '../../compact/value_reader.ts';
import type { CompactWriter } from '../../compact/value_writer.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { MAX_QUERIED } from '../notaries.ts';
import { type FormProblem, problemOfReader } from './transaction_form.ts';

// What a server asks its notary, and what that answers:
//
//   query    = names                                  to the end; kind server
//   answer   = documents                              to the end
//   document = varint 2p + 1, a map                   any; p: its server's place in the query
//            | varint 2p, key id, varint, key, signature, key id, signature
//
// The second kind has one key, none that was used before, and is signed by that key and by the notary: key id and key of
// the server, valid_until_ts, its signature, the key id of the notary and its signature. A key id is a text without
// `ed25519:`. A name of a key that stands in the document before is empty.

const ALGORITHM = 'ed25519:';
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** Whether the query asks for nothing but servers. */
export function plainQuery(body: JsonValue | undefined): readonly string[] | undefined {
  if (!isJsonObject(body) || Object.keys(body).length !== 1) return undefined;
  const servers = own(body, 'server_keys');
  if (!isJsonObject(servers)) return undefined;
  const isPlain = Object.values(servers).every((one) => isJsonObject(one) && Object.keys(one).length === 0);
  return isPlain ? Object.keys(servers) : undefined;
}

export function writeKeyQuery(writer: CompactWriter, servers: readonly string[]): void {
  for (const server of servers) writer.named(server, 'server');
}

export function readKeyQuery(reader: CompactReader): Result<JsonObject, FormProblem> {
  const servers: [string, JsonObject][] = [];
  while (!reader.atEnd) {
    const server = reader.named('server');
    if (server === undefined) return bad(problemOfReader(reader));
    if (servers.push([server, {}]) > MAX_QUERIED)
      return bad({ kind: 'malformed', reason: 'too many servers' });
  }
  return ok({ server_keys: Object.fromEntries(servers) });
}

/** Whether the answer has its list, and in it only documents of servers of the query. */
export function hasDocuments(answer: JsonValue, servers: readonly string[]): answer is JsonObject {
  if (!isJsonObject(answer) || Object.keys(answer).length !== 1) return false;
  const documents = own(answer, 'server_keys');
  return (
    Array.isArray(documents) &&
    documents.every((one) => isJsonObject(one) && servers.includes(String(own(one, 'server_name'))))
  );
}

/** Writes an answer for which `hasDocuments` holds. @param notary who answers */
export function writeDocuments(
  writer: CompactWriter,
  answer: JsonObject,
  servers: readonly string[],
  notary: string,
): void {
  let before = '';
  for (const document of own(answer, 'server_keys') as JsonObject[]) {
    const place = servers.indexOf(String(own(document, 'server_name')));
    const parts = partsOf(document, notary);
    writer.varint(2 * place + (parts === undefined ? 1 : 0));
    if (parts === undefined) writer.value(document);
    else {
      writer.item(parts.keyId);
      writer.varint(parts.validUntil);
      writer.blob(parts.key);
      writer.blob(parts.signature);
      writer.item(parts.notaryKeyId === before ? '' : parts.notaryKeyId);
      writer.blob(parts.notarySignature);
      before = parts.notaryKeyId;
    }
  }
}

/** Reads what `writeDocuments` wrote. */
export function readDocuments(
  reader: CompactReader,
  servers: readonly string[],
  notary: string,
): Result<JsonObject> {
  const documents: JsonObject[] = [];
  let before = '';
  while (!reader.atEnd) {
    const head = reader.varint();
    const server = head === undefined ? undefined : servers[Math.floor(head / 2)];
    if (server === undefined || documents.length >= servers.length) return bad('nobody asked for that');
    if (head! % 2 === 1) {
      const document = reader.value();
      if (!isJsonObject(document)) return bad('not a document');
      documents.push(document);
      continue;
    }
    const keyId = reader.item();
    const validUntil = reader.varint();
    const key = reader.blob(KEY_BYTES);
    const signature = reader.blob(SIGNATURE_BYTES);
    const notaryKeyId = reader.item();
    const notarySignature = reader.blob(SIGNATURE_BYTES);
    if (keyId === undefined || validUntil === undefined || key === undefined) return bad('truncated');
    if (signature === undefined || notaryKeyId === undefined || notarySignature === undefined)
      return bad('truncated');
    before = notaryKeyId === '' ? before : notaryKeyId;
    const parts = { keyId, validUntil, key, signature, notaryKeyId: before, notarySignature };
    documents.push(documentOf(server, notary, parts));
  }
  return ok({ server_keys: documents });
}

interface Parts {
  readonly keyId: string;
  readonly key: Uint8Array;
  /** Unix time in milliseconds. */
  readonly validUntil: number;
  readonly signature: Uint8Array;
  readonly notaryKeyId: string;
  readonly notarySignature: Uint8Array;
}

/** Undefined where the document has anything else, or something in another form. */
function partsOf(document: JsonObject, notary: string): Parts | undefined {
  const server = String(own(document, 'server_name'));
  const [keyId, entry] = onlyEntry(own(document, 'verify_keys'));
  const signatures = own(document, 'signatures');
  const [, signature] = onlyEntry(isJsonObject(signatures) ? own(signatures, server) : undefined);
  const [notaryKeyId, second] = onlyEntry(isJsonObject(signatures) ? own(signatures, notary) : undefined);
  const key = isJsonObject(entry) ? bytesOf(own(entry, 'key'), KEY_BYTES) : undefined;
  const [one, two] = [bytesOf(signature, SIGNATURE_BYTES), bytesOf(second, SIGNATURE_BYTES)];
  const validUntil = own(document, 'valid_until_ts');
  if (key === undefined || one === undefined || two === undefined) return undefined;
  if (typeof validUntil !== 'number' || !Number.isSafeInteger(validUntil) || validUntil < 0) return undefined;
  const parts: Parts = {
    ...{ keyId: shortId(keyId), key, validUntil, signature: one },
    ...{ notaryKeyId: shortId(notaryKeyId), notarySignature: two },
  };
  if (parts.notaryKeyId === '') return undefined;
  const [whole, again] = [canonicalJson(document), canonicalJson(documentOf(server, notary, parts))];
  return whole.ok && again.ok && whole.value === again.value ? parts : undefined;
}

function documentOf(server: string, notary: string, parts: Parts): JsonObject {
  const keyId = `${ALGORITHM}${parts.keyId}`;
  return {
    server_name: server,
    valid_until_ts: parts.validUntil,
    verify_keys: { [keyId]: { key: base64(parts.key) } },
    old_verify_keys: {},
    signatures: {
      [server]: { [keyId]: base64(parts.signature) },
      [notary]: { [`${ALGORITHM}${parts.notaryKeyId}`]: base64(parts.notarySignature) },
    },
  };
}

const shortId = (keyId: string): string => (keyId.startsWith(ALGORITHM) ? keyId.slice(ALGORITHM.length) : '');

function onlyEntry(value: JsonValue | undefined): readonly [string, JsonValue | undefined] {
  const entries = isJsonObject(value) ? Object.entries(value) : [];
  return entries.length === 1 ? entries[0]! : ['', undefined];
}

function bytesOf(text: JsonValue | undefined, length: number): Uint8Array | undefined {
  const bytes = typeof text === 'string' ? fromBase64(text) : undefined;
  return bytes?.length === length ? bytes : undefined;
}
