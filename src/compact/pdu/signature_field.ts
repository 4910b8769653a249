import { base64, fromBase64 } from '../../base/bytes.ts';
import { serverOf, type UserId } from '../../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import type { ByteReader } from './byte_reader.ts';
import type { ByteWriter } from './byte_writer.ts';
import { SIGNATURE_BYTES, signaturesOf } from './layout.ts';
import type { NameReader, NameWriter, PduView } from './view.ts';

/** One signature of an event. */
export interface EventSignature {
  readonly server: string;
  readonly keyId: string;
  /** 64 bytes. */
  readonly bytes: Uint8Array;
}

// In the head of each element of a list.
const BY_SENDERS_SERVER = 1;
const WITH_USUAL_KEY = 2;

/** Ours: an event with more signatures goes whole. */
const MAX_SIGNATURES = 64;

/** The server whose signature an event needs first; for what is no user id, the text itself. */
export const signerOf = (sender: string): string => serverOf(sender as UserId);

/** The signatures of an event where each is 64 bytes in canonical base64 and they are not too many. */
export function plainSignatures(pdu: JsonObject): EventSignature[] | undefined {
  const found = signaturesOf(pdu);
  if (found === undefined || found.length > MAX_SIGNATURES) return undefined;
  const plain = found.flatMap(({ server, keyId, text }) => {
    const bytes = typeof text === 'string' ? fromBase64(text) : undefined;
    const isPlain = bytes?.length === SIGNATURE_BYTES && base64(bytes) === text;
    return isPlain ? [{ server, keyId, bytes }] : [];
  });
  return plain.length === found.length ? plain : undefined;
}

/** Whether the only signature is the sender's server's with its usual key. */
export function usualSignature(
  signatures: readonly EventSignature[],
  sender: string,
  view: PduView,
): EventSignature | undefined {
  const [first] = signatures;
  const isUsual =
    signatures.length === 1 &&
    first!.server === signerOf(sender) &&
    first!.keyId === view.usualKey(first!.server);
  return isUsual ? first : undefined;
}

/** A list of signatures: how many; for each its head, the server and key that the head leaves open, 64 bytes. */
export function writeSignatures(
  writer: ByteWriter,
  signatures: readonly EventSignature[],
  sender: string,
  view: PduView,
  names: NameWriter,
): void {
  writer.varint(signatures.length);
  for (const { server, keyId, bytes } of signatures) {
    const isSenders = server === signerOf(sender);
    const isUsual = keyId === view.usualKey(server);
    writer.byte((isSenders ? BY_SENDERS_SERVER : 0) | (isUsual ? WITH_USUAL_KEY : 0));
    if (!isSenders) writer.bytes(names.write('server', server));
    if (!isUsual) writer.bytes(names.write('key', keyId));
    writer.bytes(bytes);
  }
}

export function readSignatures(
  reader: ByteReader,
  sender: string,
  view: PduView,
  names: NameReader,
): EventSignature[] {
  const count = reader.varint(MAX_SIGNATURES);
  const signatures: EventSignature[] = [];
  while (signatures.length < count && reader.problem === undefined) {
    const head = reader.byte();
    const server = (head & BY_SENDERS_SERVER) === 0 ? reader.name('server', names) : signerOf(sender);
    const keyId = (head & WITH_USUAL_KEY) === 0 ? reader.name('key', names) : view.usualKey(server);
    if (keyId === undefined) reader.fail({ kind: 'send whole', reason: 'key' });
    signatures.push({ server, keyId: keyId ?? '', bytes: reader.take(SIGNATURE_BYTES) });
  }
  return signatures;
}

/** The field `signatures`. */
export function signaturesField(signatures: readonly EventSignature[]): JsonObject {
  const byServer = Map.groupBy(signatures, ({ server }) => server);
  return Object.fromEntries(
    [...byServer].map(([server, ofServer]): [string, JsonValue] => [
      server,
      Object.fromEntries(ofServer.map(({ keyId, bytes }) => [keyId, base64(bytes)])),
    ]),
  );
}

/** The event with the signature that it came without. */
export const withSignature = (pdu: JsonObject, signature: EventSignature): JsonObject => ({
  ...pdu,
  signatures: signaturesField([signature]),
});
