import { base64, fromBase64 } from '../../base/bytes.ts';
import { serverOf, type UserId } from '../../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import type { PduReader } from './byte_reader.ts';
import type { PduWriter } from './byte_writer.ts';
import { SIGNATURE_BYTES, signaturesOf } from './layout.ts';
import type { PduView } from './view.ts';

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
  writer: PduWriter,
  signatures: readonly EventSignature[],
  sender: string,
  view: PduView,
): void {
  writer.varint(signatures.length);
  for (const { server, keyId, bytes } of signatures) {
    const isSenders = server === signerOf(sender);
    const isUsual = keyId === view.usualKey(server);
    writer.byte((isSenders ? BY_SENDERS_SERVER : 0) | (isUsual ? WITH_USUAL_KEY : 0));
    if (!isSenders) writer.name('server', server);
    if (!isUsual) writer.name('key', keyId);
    writer.blob(bytes);
  }
}

/** A signature as it was read: undefined is the sender's server, and its server's usual key. */
export interface ReadSignature {
  readonly server: string | undefined;
  readonly keyId: string | undefined;
  readonly bytes: Uint8Array;
}

export function readSignatures(reader: PduReader): ReadSignature[] {
  const count = reader.varint(MAX_SIGNATURES);
  const signatures: ReadSignature[] = [];
  while (signatures.length < count && reader.problem === undefined) {
    const head = reader.byte();
    const server = (head & BY_SENDERS_SERVER) === 0 ? reader.name('server') : undefined;
    const keyId = (head & WITH_USUAL_KEY) === 0 ? reader.name('key') : undefined;
    signatures.push({ server, keyId, bytes: reader.blob(SIGNATURE_BYTES) });
  }
  return signatures;
}

/** The signatures with what was left open; undefined where a usual key is not known. */
export function completeSignatures(
  read: readonly ReadSignature[],
  sender: string,
  view: PduView,
): EventSignature[] | undefined {
  const complete = read.flatMap(({ server = signerOf(sender), keyId = view.usualKey(server), bytes }) =>
    keyId === undefined ? [] : [{ server, keyId, bytes }],
  );
  return complete.length === read.length ? complete : undefined;
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
