import { describe, expect, it } from 'vitest';
import {
  localpartOf,
  parseEventId,
  parseKeyId,
  parseRoomAlias,
  parseRoomId,
  parseServerName,
  parseUserId,
  type RoomAlias,
  serverOf,
  type UserId,
} from '../../src/matrix/ids.ts';

describe('server names', () => {
  // The first six are the examples of the appendices, "Server Name".
  it.each([
    'matrix.org',
    'matrix.org:8888',
    '1.2.3.4',
    '1.2.3.4:1234',
    '255.255.255.255',
    '[1234:5678::abcd]',
    '[1234:5678::abcd]:5678',
    'localhost',
    'MATRIX.ORG',
    '[::ffff:1.2.3.4]',
    'a'.repeat(255),
  ])('takes %s', (name) => expect(parseServerName(name)).toEqual({ ok: true, value: name }));
  it.each([
    '',
    ':80',
    'matrix.org:',
    'matrix.org:123456',
    'matrix.org:80a',
    'mätrix.org',
    'a_b',
    'a b',
    '256.1.1.1',
    '1.2.3.0004',
    '[1::2::3]',
    '[zz]',
    '[1.2.3.4]',
    '1234::abcd',
    'a\n',
    'a'.repeat(256),
  ])('refuses %j', (name) => expect(parseServerName(name).ok).toBe(false));
});

describe('user ids', () => {
  it.each([
    '@alice:example.org',
    '@a.b_c=d-e/f+g:example.org:8448',
    '@UPPER:x',
    '@:empty.localpart',
    '@Zoë \u0001!:x',
    '@a:[::1]',
    `@${'a'.repeat(252)}:x`,
  ])('takes %s, historical ones too', (id) => expect(parseUserId(id)).toEqual({ ok: true, value: id }));
  it.each([
    '',
    '@',
    '@alice',
    'alice:x',
    '#alice:x',
    '@alice:',
    '@a\0b:x',
    '@a\ud800:x',
    '@alice:b c',
    `@${'a'.repeat(253)}:x`,
    `@${'é'.repeat(127)}:x`,
  ])('refuses %j', (id) => expect(parseUserId(id).ok).toBe(false));
  it('come apart at the first colon', () => {
    expect(serverOf('@a:[::1]:80' as UserId)).toBe('[::1]:80');
    expect(localpartOf('@a:b:80' as UserId)).toBe('a');
    expect(serverOf('#a:b:80' as RoomAlias)).toBe('b:80');
  });
});

describe('room ids, event ids, aliases, key ids', () => {
  it('takes rooms with and without a domain', () => {
    expect(parseRoomId('!Nhcu5BS-UMnFX7hBVfVSoXiD7OgH6iRT-xyIuqDnpYQ').ok).toBe(true);
    expect(parseRoomId('!abc:example.org').ok).toBe(true);
    for (const id of ['!', '$abc', '!abc:', '!abc:b c', `!${'a'.repeat(255)}`])
      expect(parseRoomId(id).ok, id).toBe(false);
  });
  it('takes event ids as opaque', () => {
    for (const id of [
      '$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk',
      '$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg',
      '$a:b',
      '$a/+',
    ])
      expect(parseEventId(id).ok, id).toBe(true);
    for (const id of ['$', '', '!a', `$${'a'.repeat(255)}`]) expect(parseEventId(id).ok, id).toBe(false);
  });
  it('takes aliases on a server', () => {
    expect(parseRoomAlias('#räum #1:example.org').ok).toBe(true);
    for (const alias of ['#room', '#:', 'room:x', '#a:b c'])
      expect(parseRoomAlias(alias).ok, alias).toBe(false);
  });
  it('takes signing key identifiers', () => {
    expect(parseKeyId('ed25519:a_Bc1').ok).toBe(true);
    for (const id of ['ed25519', 'ed25519:', ':1', 'ed25519:a-b', 'ed25519:a:b'])
      expect(parseKeyId(id).ok, id).toBe(false);
  });
});
