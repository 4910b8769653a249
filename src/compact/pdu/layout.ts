import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { TELLS_AUTH, TELLS_DEPTH, TELLS_PREV, TELLS_TS } from './dag_fields.ts';

// An event on the wire (docs/protocol.md, "Events"):
//
//   header     1 byte: SIGNED, EXTENDED, TEXT, USUAL_SENDER, and four bits of a short time; or WHOLE_...
//   extension  1 byte with EXTENDED: TELLS_..., how the state key is told, SIGNATURE_LIST, EXTRA
//   check      2 bytes of the event's id
//   time       2 bytes, or a varint with TELLS_TS
//   sender     a name, unless USUAL_SENDER
//   type       a name, unless TEXT
//   state key  a name, with STATE_KEY_NAMED
//   lists      prev_events, auth_events, depth, as far as they are told
//   signature  64 bytes with SIGNED (61 where it is short, see SignatureCheck), a list with SIGNATURE_LIST; without either it
//              is deferred
//   content    to the end: the body with TEXT; else the content, with EXTRA [content, further fields]

// Header.
/** The one usual signature is here. */
export const SIGNED = 0x80;
export const EXTENDED = 0x40;
/** An m.room.message whose content is `{"body": ..., "msgtype": "m.text"}` and nothing else. */
export const TEXT = 0x20;
export const USUAL_SENDER = 0x10;
export const NIBBLE = 0x0f;
/** The rest is the event in CBOR. No other event has this header: its time is told instead. */
export const WHOLE_CBOR = 0xff;
/** The same, where the event stands among the parts of a compact content: a compact value follows. */
export const WHOLE_VALUE = WHOLE_CBOR;
/** The rest is the event in JSON, for what CBOR cannot say, such as text with a lone surrogate. */
export const WHOLE_JSON = 0xfe;

// Extension.
export const TELLS_DAG = TELLS_PREV | TELLS_AUTH | TELLS_DEPTH | TELLS_TS;
/** How the state key is told: two bits. Without them there is none. */
export const STATE_KEY = 0x30;
export const STATE_KEY_EMPTY = 0x10;
export const STATE_KEY_IS_SENDER = 0x20;
export const STATE_KEY_NAMED = 0x30;
export const SIGNATURE_LIST = 0x40;
/** Fields that are neither computed nor have a place of their own, and those that differ from what is computed. */
export const EXTRA = 0x80;

export const CHECK_BYTES = 2;
export const SIGNATURE_BYTES = 64;

/** The fields that have a place of their own; EXTRA may hold every other. */
export const PLACED_FIELDS: ReadonlySet<string> = new Set([
  ...['type', 'sender', 'state_key', 'content', 'origin_server_ts', 'depth', 'prev_events', 'auth_events'],
]);

export const MESSAGE_TYPE = 'm.room.message';

/** The body of a content that has the TEXT form. */
export function bodyOfText(type: string, content: JsonObject): string | undefined {
  const body = own(content, 'body');
  const isText = type === MESSAGE_TYPE && own(content, 'msgtype') === 'm.text';
  return isText && typeof body === 'string' && Object.keys(content).length === 2 ? body : undefined;
}

export const contentOfText = (body: string): JsonObject => ({ body, msgtype: 'm.text' });

/**
 * Whether the usual signature shows as well, to a reader that has the key, whether it has made the event that was sent: then there
 * is no check. `short`: and the reader finds its last bytes (`matrix/short_signature.ts`). Both sides know which of them it is.
 */
export type SignatureCheck = boolean | 'short';

/** What is not covered by the event's id, and so neither by the check: these are compared and completed apart. */
export function withoutSignatures(pdu: JsonObject): JsonObject {
  const { signatures: _signatures, ...rest } = pdu;
  return rest;
}

/** The signatures of a PDU as they are usually: by servers and keys, all of them text. Undefined for another shape. */
export function signaturesOf(
  pdu: JsonObject,
): { readonly server: string; readonly keyId: string; readonly text: JsonValue }[] | undefined {
  const signatures = own(pdu, 'signatures');
  if (!isJsonObject(signatures)) return undefined;
  const found = [];
  for (const [server, keys] of Object.entries(signatures)) {
    // An empty object would not come back.
    if (!isJsonObject(keys) || Object.keys(keys).length === 0) return undefined;
    for (const [keyId, text] of Object.entries(keys)) found.push({ server, keyId, text });
  }
  return found;
}
