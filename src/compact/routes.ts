import type { HandleKind } from './forms.ts';
import { OPERATIONS } from './route_table.ts';

/** What stands in a path for a parameter, and in a query behind a key: how its text is written. */
export type PartKind = HandleKind | 'digits' | 'transaction' | 'text';

const PARAMETER_KINDS: Readonly<Record<string, PartKind>> = {
  roomId: 'room',
  roomIdOrAlias: 'room',
  userId: 'user',
  eventId: 'event',
  deviceId: 'device',
  serverName: 'server',
  txnId: 'transaction',
  version: 'digits',
  filterId: 'digits',
};

/** Keys of queries, by number, with the kind of what stands behind them. */
const QUERY_KEYS_IN_ORDER: readonly (readonly [key: string, kind: PartKind])[] = [
  ...keys('text', 'since from to at dir filter full_state set_presence'),
  ...keys('digits', 'timeout limit'),
  ...keys('event', 'event_id v event'),
  ...keys('room', 'room_id'),
  ...keys('user', 'user_id'),
  ...keys('server', 'server_name server'),
  ...keys('text', 'ver via membership not_membership kind omit_members field room_alias'),
  ...keys('digits', 'width height ts timeout_ms version max_depth minimum_valid_until_ts'),
  ...keys(
    'text',
    'method animated allow_remote allow_redirect format token session_id access_token only include_threads',
  ),
  ...keys(
    'text',
    'recurse suggested_only include_all_networks third_party_instance_id search_term username filename',
  ),
  ...keys(
    'text',
    'next_batch include redirectUrl action url key txn_id use_state_after archived order_by guest',
  ),
  ...keys('device', 'device_id'),
];

export const QUERY_KEYS: ReadonlyMap<string, { readonly number: number; readonly kind: PartKind }> = new Map(
  QUERY_KEYS_IN_ORDER.map(([key, kind], number) => [key, { number, kind }]),
);
export const QUERY_KEY_OF_NUMBER: ReadonlyMap<number, { readonly key: string; readonly kind: PartKind }> =
  new Map(QUERY_KEYS_IN_ORDER.map(([key, kind], number) => [number, { key, kind }]));

/** Versions that stand in a path in place of the one that its route has. */
export const VERSIONS: readonly string[] = ['r0', 'v1', 'v2', 'v3', 'unstable'];
/** Which segment that is, after the empty one before the first slash: `/_matrix/client/v3`. */
export const VERSION_SEGMENT = 3;

export interface Route {
  readonly number: number;
  readonly method: string;
  /** What a segment is: this text, or a parameter of this kind. The first one is empty: the path begins with a slash. */
  readonly segments: readonly (string | { readonly kind: PartKind })[];
}

/** The bytes of a target that are no route's number. */
export const ALIAS = 0xfe;
export const LITERAL = 0xff;

export const ROUTES: readonly Route[] = OPERATIONS.flatMap(([base, operations]) =>
  operations
    .trim()
    .split('\n')
    .flatMap((line) => {
      const words = line.trim().split(' ');
      const template = base + words.at(-1)!;
      return words.slice(0, -1).map((method) => ({ method, segments: template.split('/').map(segmentOf) }));
    }),
).map((route, number) => ({ number, ...route }));

function segmentOf(text: string): Route['segments'][number] {
  const parameter = /^\{(\w+)\}$/.exec(text)?.[1];
  return parameter === undefined ? text : { kind: PARAMETER_KINDS[parameter] ?? 'text' };
}

/** Routes by method and number of segments; those with more fixed segments first, as they say more. */
const BY_SHAPE: ReadonlyMap<string, readonly Route[]> = new Map(
  [...Map.groupBy(ROUTES, ({ method, segments }) => shapeOf(method, segments.length))].map(
    ([shape, routes]) => [shape, routes.toSorted((a, b) => fixedSegments(b) - fixedSegments(a))],
  ),
);

function shapeOf(method: string, segments: number): string {
  return `${method} ${segments}`;
}

function fixedSegments({ segments }: Route): number {
  return segments.filter((segment) => typeof segment === 'string').length;
}

/** The route of a method and a path's segments; `aliases`: also where the version is another one. */
export function routeOf(method: string, segments: readonly string[], aliases: boolean): Route | undefined {
  return BY_SHAPE.get(shapeOf(method, segments.length))?.find((route) =>
    route.segments.every(
      (segment, i) =>
        typeof segment !== 'string' ||
        segment === segments[i] ||
        (aliases && i === VERSION_SEGMENT && hasVersion(route)),
    ),
  );
}

/** Whether a path of this route has a version in it. */
export const hasVersion = ({ segments }: Route): boolean =>
  segments[1] === '_matrix' &&
  typeof segments[VERSION_SEGMENT] === 'string' &&
  segments.length > VERSION_SEGMENT + 1;

function keys(kind: PartKind, names: string): readonly (readonly [string, PartKind])[] {
  return names.split(' ').map((name) => [name, kind]);
}
