import fc from 'fast-check';
import type { Body, ExchangeRequest } from '../../src/exchange/request.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import type { JsonValue } from '../../src/matrix/json.ts';

export const jsonValues = fc.jsonValue({ maxDepth: 4, noUnicodeString: false }).map(
  // Through text once, since JSON has no negative zero.
  (value) => JSON.parse(JSON.stringify(value)) as JsonValue,
);

export const bodies: fc.Arbitrary<Body> = fc.oneof(
  jsonValues.map((value): Body => ({ kind: 'json', value })),
  fc.record({
    kind: fc.constant('bytes' as const),
    contentType: fc.constantFrom(
      'image/png',
      'application/octet-stream',
      'text/plain',
      'video/mp4',
      'text/plain; charset=utf-8',
    ),
    bytes: fc.uint8Array({ maxLength: 500 }),
  }),
);

const segment = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 20 })
  .filter((text) => text.isWellFormed() && !/^\.\.?$/.test(text));

/** A path as URLs have it after normalisation: every segment as encodeURIComponent writes it. */
const path = fc
  .array(segment, { maxLength: 5 })
  .map((segments) => `/${segments.map(encodeURIComponent).join('/')}`);
const query = fc
  .array(
    fc.tuple(
      segment.filter((text) => !text.includes('=')),
      fc.option(segment),
    ),
    { maxLength: 4 },
  )
  .map((pairs) =>
    pairs
      .map(
        ([key, value]) => encodeURIComponent(key) + (value === null ? '' : `=${encodeURIComponent(value)}`),
      )
      .join('&'),
  );

export const requests: fc.Arbitrary<ExchangeRequest> = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'PATCH'),
    path,
    query,
    authorization: fc.option(
      fc.constantFrom('Bearer syt_token', 'X-Matrix origin="a.example",key="ed25519:1",sig="AAAA"'),
    ),
    body: fc.option(bodies),
  })
  .map(({ authorization, body, ...rest }) => ({
    ...rest,
    ...(authorization === null ? {} : { authorization }),
    ...(body === null ? {} : { body }),
  }));

export const responses: fc.Arbitrary<ExchangeResponse> = fc
  .record({
    status: fc.integer({ min: 200, max: 599 }),
    headers: fc
      .record(
        {
          'retry-after': fc.oneof(
            fc.nat(2 ** 32 - 1).map(String),
            fc.constant('Fri, 31 Dec 1999 23:59:59 GMT'),
          ),
          'content-disposition': fc.constantFrom('inline', 'attachment; filename="a.png"'),
          location: fc.constantFrom('https://cdn.example/a', '/b'),
        },
        { requiredKeys: [] },
      )
      .map((headers) => headers as Record<string, string>),
    body: fc.option(bodies),
  })
  .map(({ body, ...rest }) => ({ ...rest, ...(body === null ? {} : { body }) }));
