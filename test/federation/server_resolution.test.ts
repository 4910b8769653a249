import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { isPublicAddress } from '../../src/federation/addresses.ts';
import {
  maxAge,
  type ResolutionSources,
  ServerResolver,
  type SrvRecord,
} from '../../src/federation/server_resolution.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { HOUR } from './fixtures.ts';

interface World {
  readonly wellKnown?: Record<string, unknown>;
  readonly maxAgeMs?: number;
  readonly srv?: Record<string, SrvRecord[]>;
}

function resolver(world: World) {
  const asked: string[] = [];
  const clock = new VirtualClock();
  const sources: ResolutionSources = {
    async wellKnown(host) {
      asked.push(`well-known ${host}`);
      const body = world.wellKnown?.[host];
      return body === undefined ? undefined : { body, maxAgeMs: world.maxAgeMs };
    },
    async srv(name) {
      asked.push(name);
      return world.srv?.[name] ?? [];
    },
  };
  const server = new ServerResolver({ sources, clock, random: seededRandom(1) });
  return { asked, clock, resolve: (name: string) => server.resolve(name as ServerName) };
}

const record = (name: string, port = 443, priority = 0, weight = 0): SrvRecord => ({
  name,
  port,
  priority,
  weight,
});
const delegated = (to: string): World => ({ wellKnown: { 'hs.example': { 'm.server': to } } });

describe('resolving a server name', () => {
  // The numbers are the steps of the specification.
  it.each<[string, string, World, string, number, string]>([
    ['1: an IPv4 literal', '1.2.3.4', {}, '1.2.3.4', 8448, '1.2.3.4'],
    ['1: an IPv6 literal with a port', '[2001:db8::1]:99', {}, '2001:db8::1', 99, '[2001:db8::1]:99'],
    [
      '2: an explicit port',
      'hs.example:1234',
      delegated('no.example'),
      'hs.example',
      1234,
      'hs.example:1234',
    ],
    ['3.1: delegation to an IP literal', 'hs.example', delegated('5.6.7.8'), '5.6.7.8', 8448, '5.6.7.8'],
    ['3.2: delegation with a port', 'hs.example', delegated('m.example:77'), 'm.example', 77, 'm.example:77'],
    [
      '3.3: delegation, then SRV of the delegated name',
      'hs.example',
      {
        ...delegated('m.example'),
        srv: {
          '_matrix-fed._tcp.m.example': [record('t.example', 5)],
          '_matrix._tcp.m.example': [record('old.example')],
        },
      },
      't.example',
      5,
      'm.example',
    ],
    [
      '3.4: the deprecated SRV of the delegated name',
      'hs.example',
      { ...delegated('m.example'), srv: { '_matrix._tcp.m.example': [record('old.example', 6)] } },
      'old.example',
      6,
      'm.example',
    ],
    ['3.5: delegation without SRV', 'hs.example', delegated('m.example'), 'm.example', 8448, 'm.example'],
    [
      '4: SRV',
      'hs.example',
      { srv: { '_matrix-fed._tcp.hs.example': [record('t.example', 5)] } },
      't.example',
      5,
      'hs.example',
    ],
    [
      '5: the deprecated SRV',
      'hs.example',
      { srv: { '_matrix._tcp.hs.example': [record('t.example', 5)] } },
      't.example',
      5,
      'hs.example',
    ],
    ['6: nothing of all this', 'hs.example', {}, 'hs.example', 8448, 'hs.example'],
    [
      '3, invalid: goes on with step 6',
      'hs.example',
      delegated('not a name'),
      'hs.example',
      8448,
      'hs.example',
    ],
  ])('step %s', async (_, name, world, host, port, hostHeader) => {
    expect((await resolver(world).resolve(name))[0]).toEqual({ host, port, hostHeader });
  });

  it('does not look for a well-known file where there is a port or an IP literal', async () => {
    const { asked, resolve } = resolver({});
    await resolve('hs.example:1');
    await resolve('1.2.3.4');
    expect(asked).toEqual([]);
  });

  it('tries SRV targets by priority, and leaves out the one that says there is none', async () => {
    const { resolve } = resolver({
      srv: {
        '_matrix-fed._tcp.hs.example': [
          record('c', 1, 20),
          record('.', 1, 0),
          record('b', 1, 10, 5),
          record('a', 1, 5),
        ],
      },
    });
    expect((await resolve('hs.example')).map(({ host }) => host)).toEqual(['a', 'b', 'c']);
  });

  it('draws within a priority by weight', async () => {
    const { resolve } = resolver({
      srv: { '_matrix-fed._tcp.hs.example': [record('heavy', 1, 0, 90), record('light', 1, 0, 10)] },
    });
    const firsts = [];
    for (let i = 0; i < 200; i++) firsts.push((await resolve('hs.example'))[0]!.host);
    const heavy = firsts.filter((host) => host === 'heavy').length;
    expect(heavy).toBeGreaterThan(150);
    expect(heavy).toBeLessThan(200);
  });

  it('keeps a delegation for as long as it says, at most 48 hours', async () => {
    const { asked, clock, resolve } = resolver({ ...delegated('m.example:1'), maxAgeMs: 1000 * HOUR });
    await resolve('hs.example');
    clock.advanceTo(48 * HOUR - 1);
    await resolve('hs.example');
    expect(asked).toHaveLength(1);
    clock.advanceTo(48 * HOUR);
    await resolve('hs.example');
    expect(asked).toHaveLength(2);
  });

  it('asks less and less often where there is no well-known file, at least once in an hour', async () => {
    const { asked, clock, resolve } = resolver({});
    const times: number[] = [];
    for (let minute = 0; minute < 24 * 60; minute++) {
      clock.advanceTo(minute * 60_000);
      const before = asked.length;
      await resolve('hs.example');
      if (asked.slice(before).some((one) => one.startsWith('well-known'))) times.push(minute);
    }
    expect(times.slice(0, 6)).toEqual([0, 1, 3, 7, 15, 31]);
    expect(Math.max(...times.slice(1).map((time, i) => time - times[i]!))).toBe(60);
  });

  it('reads Cache-Control', () => {
    expect(maxAge('public, max-age=60')).toBe(60_000);
    expect(maxAge('no-store')).toBe(0);
    expect(maxAge('private')).toBeUndefined();
    expect(maxAge(undefined)).toBeUndefined();
  });
});

describe('public addresses', () => {
  it.each(['1.1.1.1', '8.8.8.8', '2606:4700::1111', '[2606:4700::1111]', '::ffff:8.8.8.8'])(
    '%s is one',
    (address) => {
      expect(isPublicAddress(address)).toBe(true);
    },
  );

  it.each([
    '127.0.0.1',
    '10.1.2.3',
    '172.20.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::1',
    '::',
    '[::1]',
    'fe80::1',
    'fd00::1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '2002:7f00:1::',
    'localhost',
  ])('%s is not', (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });
});
