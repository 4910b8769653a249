import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CompactReader } from '../../src/compact/value_reader.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import {
  hasDocuments,
  plainQuery,
  readDocuments,
  readKeyQuery,
  writeDocuments,
  writeKeyQuery,
} from '../../src/federation/forms/key_query_form.ts';
import { ownKeyDocument } from '../../src/federation/key_document.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { signJson } from '../../src/matrix/signing.ts';
import { A, B, C, testKey } from './fixtures.ts';

const [notaryKey, key] = [testKey(1, 'ed25519:notary'), testKey(2, 'ed25519:v1')];
const documentOf = (server: ServerName, changes: JsonObject = {}): JsonObject =>
  signJson(
    signJson({ ...ownKeyDocument(server, key, 1_700_000_000_000), ...changes, signatures: {} }, server, key),
    A,
    notaryKey,
  );

function written(documents: readonly JsonObject[], servers: readonly string[]): Uint8Array {
  const writer = new CompactWriter({});
  writeDocuments(writer, { server_keys: [...documents] }, servers, A);
  return writer.done();
}
const read = (bytes: Uint8Array, servers: readonly string[]) =>
  readDocuments(new CompactReader(bytes, 0, {}), servers, A);

describe('what a notary answers', () => {
  it('is told in the bytes of a key, two signatures and a time, and comes back as it was', () => {
    const documents = [documentOf(C), documentOf(B)];
    const bytes = written(documents, [B, C]);
    // The notary's key id is said once.
    expect(bytes.length).toBeLessThan(2 * (1 + 3 + 6 + 32 + 64 + 64 + 1) + 8);
    expect(read(bytes, [B, C])).toEqual({ ok: true, value: { server_keys: documents } });
  });

  it('goes whole where it is anything else', () => {
    const { signatures: _signatures, ...unsigned } = documentOf(B);
    const other: readonly JsonObject[] = [
      documentOf(B, { old_verify_keys: { 'ed25519:old': { key: 'AAAA', expired_ts: 1 } } }),
      documentOf(B, { verify_keys: {} }),
      documentOf(B, { unknown: 'field' }),
      documentOf(B, { valid_until_ts: -1 }),
      signJson(documentOf(B), B, testKey(3, 'ed25519:v2')),
      signJson(unsigned, A, notaryKey),
      signJson(documentOf(B), C, testKey(3)),
      { server_name: B },
    ];
    for (const document of other)
      expect(read(written([document], [B]), [B])).toEqual({ ok: true, value: { server_keys: [document] } });
  });

  it('has a form where it answers for servers that were asked for, and says nothing besides', () => {
    expect(hasDocuments({ server_keys: [documentOf(B)] }, [B])).toBe(true);
    expect(hasDocuments({ server_keys: [documentOf(C)] }, [B])).toBe(false);
    expect(hasDocuments({ server_keys: [], more: 1 }, [B])).toBe(false);
    expect(hasDocuments({ errcode: 'M_UNKNOWN' }, [B])).toBe(false);
  });

  it('of any bytes, or cut off, is a value', () => {
    const bytes = written([documentOf(B), documentOf(C)], [B, C]);
    for (let length = 1; length < bytes.length; length++) read(bytes.subarray(0, length), [B, C]);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (any) => {
        const result = read(any, [B, C]);
        if (result.ok) expect((result.value.server_keys as unknown[]).length).toBeLessThanOrEqual(2);
      }),
      { seed: 1, numRuns: 500 },
    );
    // Nobody asked for so many.
    expect(read(written([documentOf(B), documentOf(B)], [B]), [B]).ok).toBe(false);
  });
});

describe('what a notary is asked', () => {
  it('is names, which come back', () => {
    const names = fc.uniqueArray(fc.domain(), { maxLength: 20 });
    fc.assert(
      fc.property(names, (servers) => {
        const writer = new CompactWriter({});
        writeKeyQuery(writer, servers);
        const body = { server_keys: Object.fromEntries(servers.map((server) => [server, {}])) };
        expect(readKeyQuery(new CompactReader(writer.done(), 0, {}))).toEqual({ ok: true, value: body });
        expect(plainQuery(body)).toEqual(servers);
      }),
      { seed: 2 },
    );
  });

  it('goes as JSON where keys or times are named, and has a bound', () => {
    expect(plainQuery({ server_keys: { [B]: { 'ed25519:1': {} } } })).toBeUndefined();
    expect(plainQuery({ server_keys: [] })).toBeUndefined();
    expect(plainQuery(undefined)).toBeUndefined();
    const writer = new CompactWriter({});
    writeKeyQuery(
      writer,
      Array.from({ length: 101 }, (_, i) => `s${i}.example`),
    );
    expect(readKeyQuery(new CompactReader(writer.done(), 0, {}))).toMatchObject({
      problem: { kind: 'malformed' },
    });
  });
});
