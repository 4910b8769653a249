/**
 * MSC3079, "Appendix B", version 1: paths that clients of plain CoAP and DTLS may write as one character and what stands for
 * the parameters, in their order: `/9/!room:a.example/m.room.message/1`. They lie below `/_matrix/client/v3/`, which is what
 * the proposal's r0 has become.
 */
const TEMPLATES: Readonly<Record<string, string>> = {
  0: '/_matrix/client/versions',
  1: 'login',
  2: 'capabilities',
  3: 'logout',
  4: 'register',
  5: 'user/{userId}/filter',
  6: 'user/{userId}/filter/{filterId}',
  7: 'sync',
  8: 'rooms/{roomId}/state/{eventType}/{stateKey}',
  9: 'rooms/{roomId}/send/{eventType}/{txnId}',
  A: 'rooms/{roomId}/event/{eventId}',
  B: 'rooms/{roomId}/state',
  C: 'rooms/{roomId}/members',
  D: 'rooms/{roomId}/joined_members',
  E: 'rooms/{roomId}/messages',
  F: 'rooms/{roomId}/redact/{eventId}/{txnId}',
  G: 'createRoom',
  H: 'directory/room/{roomAlias}',
  I: 'joined_rooms',
  J: 'rooms/{roomId}/invite',
  K: 'rooms/{roomId}/join',
  L: 'join/{roomIdOrAlias}',
  M: 'rooms/{roomId}/leave',
  N: 'rooms/{roomId}/forget',
  O: 'rooms/{roomId}/kick',
  P: 'rooms/{roomId}/ban',
  Q: 'rooms/{roomId}/unban',
  R: 'directory/list/room/{roomId}',
  S: 'publicRooms',
  T: 'user_directory/search',
  U: 'profile/{userId}/displayname',
  V: 'profile/{userId}/avatar_url',
  W: 'profile/{userId}',
  X: 'voip/turnServer',
  Y: 'rooms/{roomId}/typing/{userId}',
  Z: 'rooms/{roomId}/receipt/{receiptType}/{eventId}',
  a: 'rooms/{roomId}/read_markers',
  b: 'presence/{userId}/status',
  c: 'sendToDevice/{eventType}/{txnId}',
  d: 'devices',
  e: 'devices/{deviceId}',
  f: 'delete_devices',
  g: 'keys/upload',
  h: 'keys/query',
  i: 'keys/claim',
  j: 'keys/changes',
  k: 'pushers',
  l: 'pushers/set',
  m: 'notifications',
  n: 'pushrules/',
  o: 'search',
  p: 'user/{userId}/rooms/{roomId}/tags',
  q: 'user/{userId}/rooms/{roomId}/tags/{tag}',
  r: 'user/{userId}/account_data/{type}',
  s: 'user/{userId}/rooms/{roomId}/account_data/{type}',
  t: 'rooms/{roomId}/context/{eventId}',
  u: 'rooms/{roomId}/report/{eventId}',
};

const BASE = '/_matrix/client/v3/';

/**
 * The segments of the path that such a short one stands for; undefined where it is none. There are as many as the path has
 * parameters; an empty state key at the end may be missing.
 */
export function expandPath(segments: readonly string[]): string[] | undefined {
  const [first = '', ...parameters] = segments;
  const template = Object.hasOwn(TEMPLATES, first) ? TEMPLATES[first]! : undefined;
  if (template === undefined) return undefined;
  const wanted = template.match(/\{\w+\}/g)?.length ?? 0;
  const given = parameters.length + (template.endsWith('/{stateKey}') ? 1 : 0);
  if (parameters.length !== wanted && given !== wanted) return undefined;
  let next = 0;
  return (template.startsWith('/') ? template : BASE + template)
    .slice(1)
    .split('/')
    .map((segment) => (segment.startsWith('{') ? (parameters[next++] ?? '') : segment));
}
