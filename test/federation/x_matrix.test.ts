import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import {
  authorizationHeader,
  parseAuthorization,
  RequestAuthenticator,
} from '../../src/federation/x_matrix.ts';
import type { KeyId } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { A, B, C, testKey } from './fixtures.ts';

const key = testKey(1);
const request = {
  origin: A,
  destination: B,
  method: 'PUT',
  uri: '/_matrix/federation/v1/send/1?x=%2F',
  content: { pdus: [] } as JsonValue | undefined,
};

function authenticator(known = true) {
  return new RequestAuthenticator({
    serverName: B,
    clock: new VirtualClock(),
    keys: {
      requestKey: async (server, id) =>
        known && server === A && id === key.keyId ? key.publicKey : undefined,
    },
  });
}

const authenticate = (changes: Partial<typeof request> & { authorization?: string } = {}, known = true) =>
  authenticator(known).authenticate({
    ...request,
    authorization: authorizationHeader(request, key),
    ...changes,
  });

describe('the Authorization header', () => {
  it('is built as the specification writes it', () => {
    expect(authorizationHeader(request, key)).toMatch(
      /^X-Matrix origin="a\.example",destination="b\.example",key="ed25519:1",sig="[A-Za-z0-9+/]{86}"$/,
    );
  });

  it.each([
    [
      'the example',
      'X-Matrix origin="origin.hs.example.com",destination="destination.hs.example.com",key="ed25519:key1",sig="ABCDEF"',
    ],
    [
      'names in capitals, any order, more spaces',
      'x-MATRIX   SIG="ABCDEF" ,\tKEY="ed25519:key1" , Destination="destination.hs.example.com",oRigin="origin.hs.example.com"',
    ],
    [
      'tokens without quotes, with colons',
      'X-Matrix origin=origin.hs.example.com,destination=destination.hs.example.com,key=ed25519:key1,sig=ABCDEF',
    ],
    [
      'backslashes',
      'X-Matrix origin="origin.hs.\\example.com",destination="destination.hs.example.com",key="ed25519:\\key1",sig="ABC\\DEF"',
    ],
    [
      'unknown parameters and empty elements',
      'X-Matrix origin="origin.hs.example.com",, destination="destination.hs.example.com",key="ed25519:key1",sig="ABCDEF",extra="a,b=\\"c"',
    ],
  ])('is understood with %s', (_, header) => {
    expect(parseAuthorization(header)).toEqual({
      ok: true,
      value: {
        origin: 'origin.hs.example.com',
        destination: 'destination.hs.example.com',
        key: 'ed25519:key1',
        signature: 'ABCDEF',
      },
    });
  });

  it.each([
    ['another scheme', 'Bearer abc'],
    ['the scheme run into the parameters', 'X-Matrixorigin="a.b",key="ed25519:1",sig="AA"'],
    ['no comma between parameters', 'X-Matrix origin="a.b" key="ed25519:1",sig="AA"'],
    ['a parameter twice', 'X-Matrix origin="a.b",origin="c.d",key="ed25519:1",sig="AA"'],
    ['no signature', 'X-Matrix origin="a.b",key="ed25519:1"'],
    ['a signature that is not base64', 'X-Matrix origin="a.b",key="ed25519:1",sig="*"'],
    ['an origin that is no server name', 'X-Matrix origin="a b",key="ed25519:1",sig="AA"'],
    ['a quote that does not end', 'X-Matrix origin="a.b,key="ed25519:1'],
    ['a length past the bound', `X-Matrix origin="a.b",key="ed25519:1",sig="AA",x="${'y'.repeat(5000)}"`],
  ])('is refused with %s', (_, header) => {
    expect(parseAuthorization(header).ok).toBe(false);
  });

  it('never throws, and ends, whatever it holds', () => {
    const part = fc.constantFrom(
      'X-Matrix ',
      'origin',
      'sig',
      'key',
      '=',
      '"',
      '\\',
      ',',
      ' ',
      '\t',
      'a.b',
      'ed25519:1',
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(part).map((parts) => parts.join('')),
        ),
        (header) => {
          parseAuthorization(header);
        },
      ),
      { seed: 7, numRuns: 2_000 },
    );
  });
});

describe('authenticating a request', () => {
  it('answers who signed it', async () => {
    await expect(authenticate()).resolves.toBe(A);
  });

  it('accepts a request without a body', async () => {
    const bare = { ...request, method: 'GET', content: undefined };
    await expect(authenticate({ ...bare, authorization: authorizationHeader(bare, key) })).resolves.toBe(A);
  });

  it('accepts a server older than v1.3, which neither names nor signs the destination', async () => {
    const { destination: _, ...old } = request;
    const { signJson } = await import('../../src/matrix/signing.ts');
    const signed = signJson({ ...old, content: old.content! }, A, key);
    const sig = (signed.signatures as Record<string, Record<string, string>>)[A]![key.keyId];
    const authorization = `X-Matrix origin="${A}",key="${key.keyId}",sig="${sig}"`;
    await expect(authenticate({ authorization })).resolves.toBe(A);
  });

  it.each([
    ['another method', { method: 'POST' }],
    ['another target', { uri: '/_matrix/federation/v1/send/1?x=/' }],
    ['another body', { content: { pdus: [1] } }],
    ['no body', { content: undefined }],
    ['a body that has no canonical form', { content: { pdus: [0.5] } }],
    ['no header', { authorization: undefined as unknown as string }],
  ])('refuses a signature over %s', async (_, changes) => {
    await expect(authenticate(changes)).rejects.toMatchObject({ status: 401, errcode: 'M_UNAUTHORIZED' });
  });

  it('refuses a request to another server with 401', async () => {
    const elsewhere = { ...request, destination: C };
    const authorization = authorizationHeader(elsewhere, key);
    await expect(authenticate({ authorization })).rejects.toMatchObject({ status: 401 });
  });

  it('refuses a request that claims to come from this server', async () => {
    const own = { ...request, origin: B };
    await expect(authenticate({ authorization: authorizationHeader(own, key) })).rejects.toMatchObject({
      status: 401,
    });
  });

  it('refuses a key that is not known, and a signature by another key under a known id', async () => {
    await expect(authenticate({}, false)).rejects.toMatchObject({ status: 401 });
    const forged = authorizationHeader(request, { ...testKey(2), keyId: key.keyId as KeyId });
    await expect(authenticate({ authorization: forged })).rejects.toMatchObject({ status: 401 });
  });
});
