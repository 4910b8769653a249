import { expect, it } from 'vitest';
import { allowsServer } from '../../src/homeserver/server_acls.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';

const allows = (content: JsonObject, server: string): boolean => allowsServer(content, server as ServerName);

it.each<[string, JsonObject, string, boolean]>([
  ['nobody is on the list', {}, 'a.example', false],
  ['everybody may', { allow: ['*'] }, 'a.example', true],
  ['a denial outweighs', { allow: ['*'], deny: ['*.example'] }, 'a.example', false],
  ['a star may stand for nothing', { allow: ['a*.example*'] }, 'a.example', true],
  ['stars try again further on', { allow: ['*a.b*b'] }, 'xa.a.b.cb', true],
  ['a question mark is one character', { allow: ['?.example'] }, 'ab.example', false],
  ['a dot is a dot', { allow: ['a.example'] }, 'axexample', false],
  ['all of the name has to fit', { allow: ['a.exam'] }, 'a.example', false],
  ['capitals do not matter', { allow: ['A.Example'] }, 'a.eXample', true],
  ['the port does not count', { allow: ['*'], deny: ['a.example'] }, 'a.example:8448', false],
  ['addresses may be denied', { allow: ['*'], allow_ip_literals: false }, '192.0.2.1:80', false],
  ['those of IPv6 too', { allow: ['*'], allow_ip_literals: false }, '[2001:db8::1]', false],
  ['else they may', { allow: ['*'], allow_ip_literals: 'no' }, '192.0.2.1', true],
  ['what is no text fits nothing', { allow: [3, null], deny: '*' }, 'a.example', false],
])('a list of servers: %s', (_, content, server, isAllowed) => {
  expect(allows(content, server)).toBe(isAllowed);
});

it('a list made to take long does not', () => {
  expect(allows({ allow: [`${'*a'.repeat(100)}b`] }, 'a'.repeat(230))).toBe(false);
});
