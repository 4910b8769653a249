import type { ToDeviceToTell } from '../../homeserver/ports.ts';
import { MAX_CONTENT_BYTES, type ReceivedMessage } from '../../homeserver/to_device.ts';
import { fitsIdLimit, parseUserId, type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { userOf } from './parts.ts';

// Server-server API, "Send-to-device messaging".

export const TO_DEVICE = 'm.direct_to_device';

// The specification's.
const MAX_MESSAGE_ID_LENGTH = 32;

// Ours.
/** The size from which on the rest of a message for many devices goes in another EDU. */
const MAX_EDU_BYTES = 32 * 1024;
/** Message ids of others that are longer than the specification lets them be. */
const MAX_TAKEN_ID_LENGTH = 255;

/** The EDU with that content. */
export const toDeviceEdu = (content: JsonObject): JsonObject => ({ edu_type: TO_DEVICE, content });

/** The contents of the EDUs that tell a message, in pieces that a slow link carries; each device is in one of them. */
export function toDeviceContents({
  sender,
  type,
  messageId,
  messages,
}: ToDeviceToTell): readonly JsonObject[] {
  const pieces: Map<UserId, Map<string, JsonObject>>[] = [];
  let bytes = 0;
  for (const [user, devices] of messages)
    for (const [device, content] of devices) {
      const size = Buffer.byteLength(JSON.stringify(content));
      let piece = pieces.at(-1);
      if (piece === undefined || bytes + size > MAX_EDU_BYTES) {
        piece = new Map();
        pieces.push(piece);
        bytes = 0;
      }
      bytes += size;
      const ofUser = piece.get(user) ?? new Map<string, JsonObject>();
      piece.set(user, ofUser.set(device, content));
    }
  return pieces.map((piece, at) => ({
    sender,
    type,
    message_id: `${messageId}.${at}`.slice(0, MAX_MESSAGE_ID_LENGTH),
    messages: Object.fromEntries([...piece].map(([user, devices]) => [user, Object.fromEntries(devices)])),
  }));
}

/**
 * What another server's user sends to devices here; undefined where that is malformed. What is malformed of a single device, or
 * for users of other servers, is left out.
 */
export function toDeviceIn(
  origin: ServerName,
  here: ServerName,
  content: JsonObject,
): ReceivedMessage | undefined {
  const sender = userOf(origin, own(content, 'sender'));
  const [type, messageId, given] = [
    own(content, 'type'),
    own(content, 'message_id'),
    own(content, 'messages'),
  ];
  if (sender === undefined || typeof type !== 'string' || !fitsIdLimit(type)) return undefined;
  if (typeof messageId !== 'string' || messageId.length > MAX_TAKEN_ID_LENGTH) return undefined;
  if (!isJsonObject(given)) return undefined;
  const messages = new Map<UserId, ReadonlyMap<string, JsonObject>>();
  for (const [userId, devices] of Object.entries(given)) {
    const user = parseUserId(userId);
    if (user.ok && serverOf(user.value) === here && isJsonObject(devices))
      messages.set(user.value, new Map(Object.entries(devices).filter(isMessage)));
  }
  return { sender, type, messageId, messages };
}

const isMessage = (entry: [string, JsonValue]): entry is [string, JsonObject] =>
  fitsIdLimit(entry[0]) &&
  isJsonObject(entry[1]) &&
  Buffer.byteLength(JSON.stringify(entry[1])) <= MAX_CONTENT_BYTES;
