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

/** What follows the version in a path of the client-server API: requests and answers with passwords and tokens. */
const SECRET = new Set(['account', 'delete_devices', 'devices', 'login', 'logout', 'refresh', 'register']);
/** The same one level below: keys that a password unlocks, tokens for other services. */
const SECRET_BELOW = new Set(['device_signing', 'openid']);
/** What follows a room's id where the content is what is said in that room. */
const OF_ONE_ROOM = new Set(['send', 'state', 'event', 'context', 'messages']);

/** A path that has no route may be about anything, so that it is packed with nothing. */
export function contextClassOf({ method, path }: Target): ContextClass {
  const segments = path.split('/');
  const route = routeOf(method, segments, true);
  if (route === undefined) return { kind: 'nothing' };
  const [, , api, , first = '', second = '', third = ''] = segments;
  if (api !== 'client')
    return api === 'federation' && first === 'openid' ? { kind: 'nothing' } : { kind: 'static' };
  if (SECRET.has(first) || SECRET_BELOW.has(second) || SECRET_BELOW.has(third)) return { kind: 'nothing' };
  if (first !== 'rooms' || !OF_ONE_ROOM.has(third)) return { kind: 'static' };
  try {
    return { kind: 'history', roomId: decodeURIComponent(second) };
  } catch {
    return { kind: 'nothing' };
  }
}
