import { isJsonObject, type JsonValue } from '../matrix/json.ts';
import { routeOf } from './routes.ts';
import type { Target } from './target.ts';

/**
 * What a request, and the answer to it, may be packed with (`Packing` in `container.ts`): what is secret not beside what
 * somebody else may choose. `history`: with what was learnt from the same room's earlier messages.
 */
export type ContextClass =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'static' }
  | { readonly kind: 'history'; readonly roomId: string };

/** What follows the version in a path of the client-server API: requests and answers with passwords, tokens and credentials. */
const SECRET = new Set([
  'account',
  'delete_devices',
  'devices',
  'login',
  'logout',
  'refresh',
  'register',
  'voip',
]);
/** The same one level below: keys that a password unlocks, tokens for other services. */
const SECRET_BELOW = new Set(['device_signing', 'openid']);
/** What follows a room's id where the content is what is said in that room. */
const OF_ONE_ROOM = new Set(['send', 'state', 'event', 'context', 'messages']);

/**
 * A path that has no route may be about anything, so that it is packed with nothing.
 * @param body of the request, if it is JSON
 */
export function contextClassOf({ method, path }: Target, body?: JsonValue): ContextClass {
  const segments = path.split('/');
  const route = routeOf(method, segments, true);
  if (route === undefined) return { kind: 'nothing' };
  const [, , api, , first = '', second = '', third = ''] = segments;
  if (api === 'federation' && first === 'openid') return { kind: 'nothing' };
  if (api === 'federation' && first === 'send') return transactionClass(body);
  if (api !== 'client') return { kind: 'static' };
  if (SECRET.has(first) || SECRET_BELOW.has(second) || SECRET_BELOW.has(third)) return { kind: 'nothing' };
  if (first !== 'rooms' || !OF_ONE_ROOM.has(third)) return { kind: 'static' };
  try {
    return { kind: 'history', roomId: decodeURIComponent(second) };
  } catch {
    return { kind: 'nothing' };
  }
}

/** Of a transaction: what is said in one room, if nothing else is in it. */
function transactionClass(body: JsonValue | undefined): ContextClass {
  const { pdus, edus = [] } = isJsonObject(body) ? body : {};
  if (!Array.isArray(pdus) || !Array.isArray(edus) || edus.length > 0) return { kind: 'static' };
  const rooms = new Set(pdus.map((pdu) => (isJsonObject(pdu) ? pdu.room_id : undefined)));
  const [roomId] = rooms;
  return rooms.size === 1 && typeof roomId === 'string' ? { kind: 'history', roomId } : { kind: 'static' };
}
