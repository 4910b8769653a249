import { expect, it } from 'vitest';
import { hostAndPort } from '../../src/cli/arguments.ts';

it.each(['127.0.0.1:5683', 'alpha:1', '[::1]:65535'])('takes the host and port %s', (text) => {
  expect(hostAndPort(text)).toBe(text);
});

it.each(['127.0.0.1', 'alpha:', ':5683', '::1:5683', 'alpha:0', 'alpha:65536', 'a b:1'])(
  'does not take %s as a host and a port',
  (text) => {
    expect(() => hostAndPort(text)).toThrow('a host, a colon, and a port');
  },
);
