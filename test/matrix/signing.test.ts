import { describe, expect, it } from 'vitest';
import { base64, fromBase64 } from '../../src/base/bytes.ts';
import { canonicalJson } from '../../src/matrix/canonical_json.ts';
import { contentHash, eventId, roomIdOf } from '../../src/matrix/hashes.ts';
import type { KeyId, RoomId, ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import type { Pdu, UnsignedPdu } from '../../src/matrix/pdu.ts';
import { redact } from '../../src/matrix/redaction.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room_version.ts';
import {
  addSignature,
  contentHashMatches,
  requiredSigners,
  signEvent,
  signingKey,
  signJson,
  verifyEventSignature,
  verifyJson,
} from '../../src/matrix/signing.ts';
import { createEvent, makeEvent, user, v12 } from './rooms.ts';

// Appendices, "Cryptographic Test Vectors".
const domain = 'domain' as ServerName;
const keyId = 'ed25519:1' as KeyId;
const key = signingKey(keyId, fromBase64('YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1')!);
const other = signingKey('ed25519:2' as KeyId, new Uint8Array(32).fill(2));

/** The vectors' events are of room version 1, but not all state an id; this one protects the same. */
const protectingOrigin = ROOM_VERSIONS.get('5')!;

describe('signing JSON', () => {
  it.each([
    [{}, 'K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ'],
    [
      { one: 1, two: 'Two' },
      'KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw',
    ],
  ])('signs %j as the appendices do', (object, signature) => {
    const signed = signJson(object, domain, key);
    expect(signed).toEqual({ ...object, signatures: { domain: { 'ed25519:1': signature } } });
    expect(verifyJson(signed, domain, keyId, key.publicKey)).toBe(true);
  });

  it('leaves other signatures and unsigned alone, and does not cover them', () => {
    const signed = signJson({ a: 1, unsigned: { age: 1 } }, domain, key);
    const twice = signJson(signJson(signed, domain, other), 'else.example' as ServerName, key);
    const changed: JsonObject = { ...twice, unsigned: { age: 2 } };
    expect(Object.keys(changed.signatures as JsonObject)).toEqual(['domain', 'else.example']);
    expect(verifyJson(changed, domain, keyId, key.publicKey)).toBe(true);
    expect(verifyJson(changed, domain, other.keyId, other.publicKey)).toBe(true);
    expect(verifyJson(changed, 'else.example' as ServerName, keyId, key.publicKey)).toBe(true);
  });

  it('is not fooled', () => {
    const signed = signJson({ a: 1 }, domain, key);
    const check = (
      object: JsonObject,
      server = 'domain',
      id = 'ed25519:1',
      publicKey = key.publicKey,
    ): boolean => verifyJson(object, server as ServerName, id as KeyId, publicKey);
    expect(check(signed)).toBe(true);
    expect(check({ ...signed, a: 2 })).toBe(false);
    expect(check({ ...signed, b: 0.5 })).toBe(false);
    expect(check(signed, 'other')).toBe(false);
    expect(check(signed, 'constructor')).toBe(false);
    expect(check(signed, 'domain', 'ed25519:2')).toBe(false);
    expect(check(signed, 'domain', 'ed25519:1', other.publicKey)).toBe(false);
    expect(check(signed, 'domain', 'ed25519:1', new Uint8Array(31))).toBe(false);
    expect(check({ a: 1, signatures: { domain: { 'ed25519:1': '!' } } })).toBe(false);
    expect(check({ a: 1, signatures: { domain: 'ed25519:1' } })).toBe(false);
    expect(check({ a: 1, signatures: [] })).toBe(false);
    expect(check({ a: 1 })).toBe(false);
    const text = (signed.signatures as { domain: { 'ed25519:1': string } }).domain['ed25519:1'];
    expect(check({ a: 1, signatures: { domain: { 'rsa:1': text } } }, 'domain', 'rsa:1')).toBe(false);
  });
});

describe('signing events', () => {
  const minimal = {
    room_id: '!x:domain',
    sender: '@a:domain',
    origin: 'domain',
    origin_server_ts: 1000000,
    type: 'X',
    content: {},
    prev_events: [],
    auth_events: [],
    depth: 3,
    unsigned: { age_ts: 1000000 },
  } as unknown as UnsignedPdu;
  const redactable = {
    content: { body: 'Here is the message content' },
    event_id: '$0:domain',
    origin: 'domain',
    origin_server_ts: 1000000,
    type: 'm.room.message',
    room_id: '!r:domain',
    sender: '@u:domain',
    unsigned: { age_ts: 1000000 },
  } as unknown as UnsignedPdu;

  it.each([
    [
      minimal,
      '5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos',
      'KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg',
    ],
    [
      redactable,
      'onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g',
      'Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA',
    ],
  ])('signs event %# of the appendices as they do', (event, sha256, signature) => {
    const { pdu } = signEvent(event, protectingOrigin, domain, key);
    expect(pdu).toEqual({ ...event, hashes: { sha256 }, signatures: { domain: { 'ed25519:1': signature } } });
    expect(contentHashMatches(pdu, protectingOrigin)).toBe(true);
    expect(verifyEventSignature(pdu, protectingOrigin, domain, keyId, key.publicKey)).toBe(true);
  });

  const unsigned: UnsignedPdu = {
    ...makeEvent({ room_id: '!room' as RoomId, content: { body: 'hello' } }).pdu,
  };
  const event = signEvent(unsigned, v12, domain, key);
  const valid = (pdu: Pdu): boolean => verifyEventSignature(pdu, v12, domain, keyId, key.publicKey);

  it('signs what survives redaction: the redacted copy verifies, and its hash tells that it is not whole', () => {
    const redacted = redact(event.pdu, v12);
    expect([valid(event.pdu), valid(redacted)]).toEqual([true, true]);
    expect([contentHashMatches(event.pdu, v12), contentHashMatches(redacted, v12)]).toEqual([true, false]);
    expect(eventId(redacted, v12)).toBe(event.id);
  });

  it('notices a change of what is protected by the signature, of the rest by the hash', () => {
    expect(valid({ ...event.pdu, depth: 2 })).toBe(false);
    const body = { ...event.pdu, content: { body: 'goodbye' } };
    expect([valid(body), contentHashMatches(body, v12)]).toEqual([true, false]);
    expect(contentHashMatches({ ...event.pdu, unsigned: { age: 1 } }, v12)).toBe(true);
    expect(contentHashMatches({ ...event.pdu, hashes: { sha256: 'not base64!' } }, v12)).toBe(false);
  });

  it('adds signatures without changing the event id', () => {
    const both = addSignature(addSignature(event, v12, domain, other), v12, 'else' as ServerName, other);
    expect([both.id, eventId(both.pdu, v12)]).toEqual([event.id, event.id]);
    expect(Object.keys(both.pdu.signatures.domain!)).toEqual(['ed25519:1', 'ed25519:2']);
    expect(valid(both.pdu)).toBe(true);
    expect(verifyEventSignature(both.pdu, v12, 'else' as ServerName, other.keyId, other.publicKey)).toBe(
      true,
    );
  });

  it('asserts that an event of our own has a canonical form', () => {
    expect(() => signEvent({ ...unsigned, content: { x: 0.5 } }, v12, domain, key)).toThrow('assertion');
  });

  it('hashes all but signatures, hashes and unsigned', () => {
    const { hashes: _h, signatures: _s, ...rest } = event.pdu;
    expect(base64(contentHash(rest, v12))).toBe(event.pdu.hashes.sha256);
    expect(canonicalJson(event.pdu).ok).toBe(true);
  });
});

describe('ids of room version 12', () => {
  it('are URL-safe hashes, and the room is its create event', () => {
    const create = createEvent();
    expect(create.id).toMatch(/^\$[A-Za-z0-9_-]{43}$/);
    expect(create.room).toBe(`!${create.id.slice(1)}`);
    expect(roomIdOf(create.pdu, v12)).toBe(create.room);
    expect(roomIdOf(makeEvent({ room_id: create.room }).pdu, v12)).toBe(create.room);
  });
  it('do not let a create event choose its room', () => {
    const posing = makeEvent({ type: 'm.room.create', state_key: '', room_id: '!chosen' as RoomId });
    expect(posing.room).toBe(`!${posing.id.slice(1)}`);
  });
});

describe('who has to have signed', () => {
  const member = (content: JsonObject): Pdu =>
    makeEvent({ type: 'm.room.member', state_key: user('bob'), room_id: '!r' as RoomId, content }).pdu;
  it.each([
    [{ membership: 'join' }, ['alice.example']],
    [
      { membership: 'join', join_authorised_via_users_server: user('carol') },
      ['alice.example', 'carol.example'],
    ],
    [{ membership: 'join', join_authorised_via_users_server: user('alice') }, ['alice.example']],
    [{ membership: 'join', join_authorised_via_users_server: 'nobody' }, ['alice.example']],
    [{ membership: 'invite' }, ['alice.example']],
    [{ membership: 'invite', third_party_invite: { signed: {} } }, []],
    [{ membership: 'invite', third_party_invite: 'text' }, ['alice.example']],
    [{ membership: 'join', third_party_invite: { signed: {} } }, ['alice.example']],
  ])('of a member event with %j: %j', (content, servers) =>
    expect(requiredSigners(member(content), v12)).toEqual(servers),
  );
  it('of any other event: the server of its sender, whatever its content', () => {
    const { pdu } = makeEvent({
      room_id: '!r' as RoomId,
      content: {
        membership: 'invite',
        third_party_invite: {},
        join_authorised_via_users_server: user('carol'),
      },
    });
    expect(requiredSigners(pdu, v12)).toEqual(['alice.example']);
  });
});
