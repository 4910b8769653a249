import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import type { CompactContext, MessageHandles } from '../../src/compact/context.ts';
import { ALIAS, QUERY_KEYS, ROUTES, VERSIONS } from '../../src/compact/routes.ts';
import { decodeTarget, encodeTarget, type Target } from '../../src/compact/target.ts';
import { ids, texts } from './generators.ts';

const ENDPOINTS = new URL('../../../shared/reference/endpoints-v1.19.tsv', import.meta.url);

const get = (path: string, query = ''): Target => ({ method: 'GET', path, query });
const written = (target: Target, context?: CompactContext): string => hex(encodeTarget(target, context));

function mustComeBack(target: Target, context?: CompactContext): number {
  const bytes = encodeTarget(target, context);
  expect(decodeTarget(bytes, context)).toStrictEqual({ ok: true, value: target });
  return bytes.length;
}

/** One room, known by the number 5. */
const HANDLES: MessageHandles = {
  write: (kind, text) =>
    kind === 'room' && text === '!a:b.example' ? { kind: 'known', slot: 5 } : undefined,
  read: (kind, slot) => (kind === 'room' && slot === 5 ? '!a:b.example' : { kind: 'unknown handle' }),
  introduce: () => false,
};

/** Every character that a URL may or may not have, percent-encoded rightly, strangely or not at all. */
const segment = fc.oneof(
  texts.filter((text) => text.isWellFormed()).map(encodeURIComponent),
  ids.map(encodeURIComponent),
  ids,
  texts,
  fc.constantFrom(
    '',
    '.',
    '..',
    '%',
    '%zz',
    '%c3',
    '%2f',
    '%3A',
    '%3a',
    '+',
    '%20',
    'a b',
    '!a:b',
    '%21a%3Ab',
    '\ud800',
    '?',
    '#',
  ),
);
const versioned = fc.constantFrom('v3', 'v1', 'r0', 'unstable', 'v9', 'constructor', '');
/** Paths of a route with anything for its parameters and its version, and paths of no route. */
const paths = fc.oneof(
  fc
    .tuple(
      fc.constantFrom(...ROUTES),
      fc.array(segment, { minLength: 8, maxLength: 8 }),
      fc.option(versioned),
    )
    .map(([route, parts, version]) =>
      route.segments
        .map((one, i) => (typeof one !== 'string' ? parts[i]! : i === 3 && version !== null ? version : one))
        .join('/'),
    ),
  fc.array(segment, { maxLength: 6 }).map((segments) => segments.join('/')),
  texts,
);
const queries = fc.oneof(
  fc.constant(''),
  texts,
  fc
    .array(fc.tuple(fc.oneof(fc.constantFrom(...QUERY_KEYS.keys()), segment), fc.option(segment)), {
      maxLength: 5,
    })
    .map((parts) => parts.map(([key, value]) => (value === null ? key : `${key}=${value}`)).join('&')),
);
const methods = fc.constantFrom('GET', 'PUT', 'POST', 'DELETE', 'PATCH', 'BREW', '', 'constructor');

describe('a target', () => {
  test('comes back exactly, whatever its path and query are', () => {
    fc.assert(
      fc.property(methods, paths, queries, fc.boolean(), (method, path, query, known) => {
        mustComeBack({ method, path, query }, known ? { handles: HANDLES } : {});
      }),
      { seed: 1, numRuns: 1500 },
    );
  });

  test('of every route has the number of the route, under each of its versions', () => {
    for (const route of ROUTES) {
      const path = route.segments.map((one) => (typeof one === 'string' ? one : '1')).join('/');
      const bytes = encodeTarget({ method: route.method, path, query: '' });
      expect(bytes[0]).toBe(route.number);
      mustComeBack({ method: route.method, path, query: '' });
    }
    const old = get('/_matrix/client/r0/sync');
    expect(encodeTarget(old)[0]).toBe(ALIAS);
    expect(mustComeBack(old)).toBe(3);
    expect(mustComeBack(get('/_matrix/client/unstable/org.example.msc1234/sync'))).toBeGreaterThan(40);
    for (const version of VERSIONS) mustComeBack(get(`/_matrix/client/${version}/rooms/!a:b/messages`));
  });

  test.each([
    [get('/_matrix/client/v3/sync'), 1],
    [get('/_matrix/client/v3/sync', 'since=s1_4711&timeout=30000'), 13],
    [get('/_matrix/client/v3/rooms/!a%3Ab.example/messages', 'dir=b&limit=20&from=s1_300'), 15],
    [{ method: 'PUT', path: '/_matrix/client/v3/rooms/!a%3Ab.example/send/m.room.message/7', query: '' }, 3],
    [{ method: 'PUT', path: '/_matrix/client/v3/rooms/!a:b.example/send/m.room.message/7', query: '' }, 4],
    [
      {
        method: 'PUT',
        path: '/_matrix/client/v3/rooms/!a%3Ab.example/send/m.room.message/m1795000000123.4',
        query: '',
      },
      6,
    ],
    [{ method: 'PUT', path: '/_matrix/client/v3/rooms/!a%3Ab.example/state/m.room.topic/', query: '' }, 5],
    [{ method: 'PUT', path: '/_matrix/federation/v1/send/1795000000000-3', query: '' }, 17],
  ])('%o takes %i bytes', (target, bytes) => {
    expect(mustComeBack(target, { handles: HANDLES, now: 1_795_000_000_000 })).toBe(bytes);
  });

  test('has the bytes that its documentation says', () => {
    const path = '/_matrix/client/v3/rooms/!a%3Ab.example/send/m.room.message/7';
    expect(written({ method: 'PUT', path, query: '' }, { handles: HANDLES })).toBe('000508');
    const any = path.replace(/7$/, '~');
    expect(written({ method: 'PUT', path: any, query: '' }, { handles: HANDLES })).toBe('000500');
    expect(
      written({ method: 'PUT', path: path.replace('%3A', '%3a'), query: '' }, { handles: HANDLES }),
    ).toMatch(/^00f7/);
    expect(written({ method: 'PUT', path, query: 'a&ts=1' }, { handles: HANDLES })).toBe(
      '000508f702206161181b01',
    );
    expect(written(get('/x'))).toBe('ff00622f78');
  });

  test.each([
    ['', 'truncated'],
    ['fe', 'truncated'],
    ['fe 00', 'unknown route'],
    ['fe 09 00', 'unknown text'],
    ['fe 00 fe', 'unknown route'],
    ['fd', 'unknown route'],
    ['ff 05 61 61', 'unknown text'],
    ['ff 00 01', 'not a text'],
    ['00 05 07', 'unknown handle'],
    ['00 61 61 07 f7 ff ff ff ff 0f', 'truncated'],
    ['00 61 61 07 f7 01 21 61 61', 'unknown key'],
    ['00 61 61 07 f7 01 18 ff 61 61', 'unknown key'],
    ['00 61 61 07 00', 'trailing bytes'],
    ['00 cc 01 d8 00 07', 'not a text'],
  ])('of %s is refused: %s', (text, expected) => {
    const result = decodeTarget(fromHex(text.replaceAll(' ', ''))!);
    if (result.ok) throw new Error(`accepted ${JSON.stringify(result.value)}`);
    const { problem } = result;
    expect(problem.kind === 'malformed' ? problem.reason : problem.kind).toBe(expected);
  });

  test('is never thrown at, whatever the bytes', () => {
    let read = 0;
    fc.assert(
      fc.property(fc.nat(255), fc.uint8Array({ maxLength: 40 }), (first, rest) => {
        const result = decodeTarget(Uint8Array.of(first, ...rest));
        if (!result.ok) return;
        read++;
        mustComeBack(result.value);
      }),
      { seed: 2, numRuns: 20_000 },
    );
    expect(read).toBeGreaterThan(20);
  });
});

describe('the route table', () => {
  test('of version 1 is what it has always been', () => {
    const tables = JSON.stringify([ROUTES, [...QUERY_KEYS], VERSIONS]);
    expect(ROUTES.length).toBeLessThan(ALIAS);
    expect(createHash('sha256').update(tables).digest('hex')).toBe(
      'd6a6cc338810d572eeb8ed4ca53df07345b710a261e298e2806ba0ae2a11d3df',
    );
  });

  test('has no operation twice', () => {
    const told = ROUTES.map(({ method, segments }) =>
      [method, ...segments.map((one) => (typeof one === 'string' ? one : '{}'))].join('/'),
    );
    expect(new Set(told).size).toBe(told.length);
  });

  test.skipIf(!existsSync(ENDPOINTS))(
    'has every operation of the specification (needs the reference files beside the project)',
    () => {
      const rows = readFileSync(ENDPOINTS, 'utf8')
        .split('\n')
        .map((line) => line.split('\t'))
        .filter((row) => row.length > 3);
      expect(rows.length).toBe(211);
      for (const [, , method, template] of rows) {
        const path = template!.replaceAll(/\{\w+\}/g, 'x');
        expect(encodeTarget({ method: method!, path, query: '' })[0], `${method} ${template}`).toBeLessThan(
          ALIAS,
        );
      }
    },
  );
});
