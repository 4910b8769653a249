import type { ExchangeRequest } from './request.ts';

// By what follows the version in the path; everything below is meant as well.
/** Client-server API: passwords and tokens, keys for end-to-end encryption and their backups, to-device messages. */
const CLIENT_ROUTES = new Set([
  'account',
  'auth',
  'delete_devices',
  // The password that confirms a deletion.
  'devices',
  'keys',
  'login',
  'logout',
  'refresh',
  'register',
  'room_keys',
  'sendToDevice',
  // The credentials of a TURN server.
  'voip',
]);
/** Below `user` and an id: a token that tells others who somebody is. */
const CLIENT_USER_ROUTES = new Set(['openid']);
/** Server-server API. */
const FEDERATION_ROUTES = new Set(['openid']);
/** Below `user`: one-time keys and device keys. */
const FEDERATION_USER_ROUTES = new Set(['keys', 'devices']);

/**
 * Whether a request is not to pass where everybody can read it and where, by the rules of amateur radio, nothing may be
 * hidden: those that carry a token, a password, or what belongs to end-to-end encryption. In doubt it is.
 */
export function isSecret({ path, authorization }: ExchangeRequest): boolean {
  if (authorization !== undefined) return true;
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    return true;
  }
  const [root, api, , route = '', below = '', last = ''] = decoded.split('/').filter((part) => part !== '');
  // Accounts are made there, with passwords.
  if (root === '_synapse') return true;
  if (root !== '_matrix') return false;
  if (api === 'client') return CLIENT_ROUTES.has(route) || (route === 'user' && CLIENT_USER_ROUTES.has(last));
  if (api !== 'federation') return false;
  return FEDERATION_ROUTES.has(route) || (route === 'user' && FEDERATION_USER_ROUTES.has(below));
}
