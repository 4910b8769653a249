import { bad, ok, type Result } from '../base/result.ts';

/** Identifiers of the Matrix specification, appendices, "Identifier Grammar". Branded: only a parser makes one. */
export type ServerName = string & { readonly __brand: 'ServerName' };
export type UserId = string & { readonly __brand: 'UserId' };
export type RoomId = string & { readonly __brand: 'RoomId' };
export type EventId = string & { readonly __brand: 'EventId' };
export type RoomAlias = string & { readonly __brand: 'RoomAlias' };
export type DeviceId = string & { readonly __brand: 'DeviceId' };
export type KeyId = string & { readonly __brand: 'KeyId' };

/** The limit of user ids, room ids, aliases, event ids, and of an event's `type` and `state_key`, in UTF-8 bytes. */
export const MAX_ID_BYTES = 255;

const DNS_NAME_OR_IPV4 = /^([0-9A-Za-z.-]{1,255})(?::[0-9]{1,5})?$/;
const IPV6_LITERAL = /^(\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$/;
const DOTTED_QUAD = /^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/;
const SIGNING_KEY_ID = /^[0-9A-Za-z_]+:[0-9A-Za-z_]+$/;

/** Appendices, "Server Name": `hostname [":" port]`. */
export function parseServerName(text: string): Result<ServerName> {
  const host = DNS_NAME_OR_IPV4.exec(text)?.[1];
  if (host !== undefined) {
    const valid =
      !DOTTED_QUAD.test(host) || host.split('.').every((part) => part.length <= 3 && Number(part) <= 255);
    return valid ? ok(text as ServerName) : bad('an IPv4 address has a part above 255');
  }
  const literal = IPV6_LITERAL.exec(text)?.[1];
  return literal !== undefined && URL.canParse(`http://${literal}`)
    ? ok(text as ServerName)
    : bad('not a server name');
}

/** Appendices, "User Identifiers", with the historical localparts that servers must accept (the empty one too). */
export const parseUserId = (text: string): Result<UserId> => parseOnDomain<UserId>(text, '@', 'user id');

/** Appendices, "Room Aliases". */
export const parseRoomAlias = (text: string): Result<RoomAlias> =>
  parseOnDomain<RoomAlias>(text, '#', 'room alias');

/** Appendices, "Room IDs": with or without a domain, since this depends on a room version that may not be known. */
export function parseRoomId(text: string): Result<RoomId> {
  if (text.includes(':')) return parseOnDomain<RoomId>(text, '!', 'room id');
  return parseOpaque<RoomId>(text, '!', 'room id');
}

/** Appendices, "Event IDs": opaque after the sigil. */
export const parseEventId = (text: string): Result<EventId> => parseOpaque<EventId>(text, '$', 'event id');

/** Appendices, "Signing Details": `algorithm ":" identifier`, both of `[a-zA-Z0-9_]`. */
export const parseKeyId = (text: string): Result<KeyId> =>
  SIGNING_KEY_ID.test(text) ? ok(text as KeyId) : bad('not a signing key identifier');

/** Room versions 1 and 2, "Event IDs": with a domain. */
export const parseStatedEventId = (text: string): Result<EventId> =>
  parseOnDomain<EventId>(text, '$', 'event id');

/**
 * The server that allocated the identifier. An event id has one in room versions 1 and 2, a room id up to version 11;
 * of one that has none, it is the empty text.
 */
export const serverOf = (id: UserId | RoomAlias | EventId | RoomId): ServerName =>
  (id.includes(':') ? id.slice(id.indexOf(':') + 1) : '') as ServerName;

/** What stands between the sigil and the domain. */
export const localpartOf = (id: UserId | RoomAlias): string => id.slice(1, id.indexOf(':'));

/** Whether a text is at most `MAX_ID_BYTES` long in UTF-8. */
export function fitsIdLimit(text: string): boolean {
  // A UTF-16 code unit takes one to three bytes.
  if (text.length * 3 <= MAX_ID_BYTES) return true;
  return text.length <= MAX_ID_BYTES && Buffer.byteLength(text) <= MAX_ID_BYTES;
}

function parseOnDomain<Id extends string>(text: string, sigil: string, name: string): Result<Id> {
  const opaque = parseOpaque<Id>(text, sigil, name);
  if (!opaque.ok) return opaque;
  const colon = text.indexOf(':');
  if (colon < 0) return bad(`a ${name} has no domain`);
  return parseServerName(text.slice(colon + 1)).ok
    ? opaque
    : bad(`the domain of a ${name} is not a server name`);
}

function parseOpaque<Id extends string>(text: string, sigil: string, name: string): Result<Id> {
  if (!text.startsWith(sigil) || text.length < 2) return bad(`a ${name} is ${sigil} and more`);
  if (!fitsIdLimit(text)) return bad(`a ${name} is longer than ${MAX_ID_BYTES} bytes`);
  if (text.includes('\0') || !text.isWellFormed()) return bad(`a ${name} has a NUL or a lone surrogate`);
  return ok(text as Id);
}
