import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ConfigError, completeConfig, readConfig } from '../../src/server/config.ts';

const root = resolve(import.meta.dirname, '../..');
const example = readFileSync(resolve(root, 'config/ravine.example.yaml'), 'utf8');
const schema = JSON.parse(readFileSync(resolve(root, 'config/ravine.schema.json'), 'utf8')) as SchemaObject;

interface SchemaObject {
  readonly properties?: Readonly<Record<string, SchemaObject>>;
}

/** Every key of a schema, as `a.b.c`; keys of list items are not followed. */
function keysOf({ properties = {} }: SchemaObject, prefix = ''): string[] {
  return Object.entries(properties).flatMap(([key, value]) => [
    prefix + key,
    ...keysOf(value, `${prefix}${key}.`),
  ]);
}

const LINE = { name: 'radio', path: '/dev/ttyUSB0', baud: 9600, framing: 'kiss' };

/** A peer at an address, and a serial link, with a callsign or without. */
const serialPeer = (address: string, callsign?: string) => ({
  coap: { serial: [{ ...LINE, ...(callsign !== undefined && { ax25: { callsign } }) }] },
  federation: { peers: [{ server_name: 'b', address }] },
});

describe('the configuration', () => {
  it('is complete in the example file, and the example has the defaults', () => {
    const value = parse(example) as object;
    for (const path of keysOf(schema)) {
      const found = path
        .split('.')
        .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], value);
      expect(found, path).not.toBeUndefined();
    }
    expect(completeConfig(value, root)).toEqual(completeConfig({}, root));
    expect(new Ajv({ allowUnionTypes: true }).validate(schema, value)).toBe(true);
  });

  it('cannot be changed once it is read, and keeps what a file leaves out', () => {
    const config = completeConfig({ coap: { port: 1 } }, root);
    expect(config.coap).toEqual({ ...completeConfig({}, root).coap, port: 1 });
    expect(Object.isFrozen(config.coap.link)).toBe(true);
  });

  it.each([
    serialPeer('ravine+serial://radio'),
    serialPeer('ravine+serial://radio/B-2', 'A-1'),
    serialPeer('ravine+wss://b.example'),
    serialPeer('ravine+ws://[::1]:8008/other/path'),
    serialPeer('ravine://[::1]:5683'),
    serialPeer('https://b.example:8448'),
  ])('takes %j', (value) => {
    expect(completeConfig(value, root).federation.peers).toEqual(value.federation.peers);
  });

  it('closes registration unless it is told to open it, in one word or with terms', () => {
    expect(completeConfig({}, root).registration).toEqual({ mode: 'closed', terms: {}, shared_secret: null });
    expect(completeConfig({ registration: 'open' }, root).registration.mode).toBe('open');
    const documents = { en: { name: 'Privacy', url: 'https://a.example/privacy' } };
    const terms = { privacy: { version: '1', documents } };
    expect(completeConfig({ registration: { mode: 'token', terms } }, root).registration).toEqual({
      ...{ mode: 'token', terms, shared_secret: null },
    });
    for (const registration of [
      'half open',
      { terms: { privacy: { version: '1' } } },
      { terms: { privacy: { version: '1', documents: { version: documents.en } } } },
      { terms: { privacy: { version: '1', documents: { en: { name: 'x', url: 'javascript:1' } } } } },
      { shared_secret: 'short' },
    ])
      expect(() => completeConfig({ registration }, root)).toThrow(/registration/);
  });

  it('takes proxies by address, by network, and as this machine', () => {
    const trusted_proxies = ['loopback', '192.0.2.1', '192.0.2.0/24', '2001:db8::/32', '::1'];
    expect(completeConfig({ http: { trusted_proxies } }, root).http.trusted_proxies).toEqual(trusted_proxies);
  });

  it('takes paths relative to its file', () => {
    const config = completeConfig(
      { data: 'd', http: { listen: [{ host: '::1', port: 1, tls: { certificate: 'c', key: '/k' } }] } },
      '/etc/ravine',
    );
    expect(config.data).toBe('/etc/ravine/d');
    expect(config.http.listen[0]!.tls).toEqual({ certificate: '/etc/ravine/c', key: '/k' });
  });

  it.each([
    [{ server_nam: 'x' }, ' /server_nam: there is no such key'],
    [{ coap: { plan: 'off' } }, '/coap/plan: there is no such key'],
    [{ coap: { link: { airtime_per_hour_s: 36 } } }, '/coap/link/airtime_per_hour_s: '],
    [{ coap: { plain: 'maybe' } }, '/coap/plain'],
    [{ coap: { link: { rate: 0 } } }, '/coap/link/rate'],
    [{ coap: { pipe: { psk: 'too short' } } }, '/coap/pipe/psk'],
    [{ coap: { pipe: { station: 'two words' } } }, '/coap/pipe/station'],
    [{ federation: { peers: [{ server_name: 'a', address: 'udp://x' }] } }, '/federation/peers/0/address'],
    [
      { federation: { peers: [{ server_name: 'a', address: 'https://x', trust: 'blind' }] } },
      '/federation/peers/0/trust',
    ],
    [{ http: { listen: [{ host: '127.0.0.1', port: 65_536 }] } }, '/http/listen/0/port'],
    [{ coap: { serial: [{ ...LINE, ax25: { callsign: 'n0call' } }] } }, '/coap/serial/0/ax25/callsign'],
    [{ coap: { serial: [LINE, LINE] } }, 'two links have the same name'],
    [{ coap: { serial: [LINE, LINE, LINE, LINE] } }, '/coap/serial'],
    [{ coap: { serial: [{ ...LINE, framing: 'slip', ax25: { callsign: 'A-1' } }] } }, 'needs the framing'],
    [{ coap: { serial: [{ ...LINE, rate: 9600 }] } }, '/coap/serial/0/rate: the line carries 7561 bits'],
    [serialPeer('ravine+serial://other'), '/federation/peers/0/address: no serial link has that name'],
    [serialPeer('ravine+serial://radio/B-2'), 'only links with AX.25 have callsigns'],
    [serialPeer('ravine+serial://radio', 'A-1'), 'comes a callsign in capitals'],
    [serialPeer('ravine+serial://radio/b-2', 'A-1'), 'comes a callsign in capitals'],
    [serialPeer('ravine+serial://radio/A-1', 'A-1'), 'that is the callsign of this end'],
    [serialPeer('ravine+tcp://radio'), '/federation/peers/0/address'],
    [serialPeer('ravine://host:1/path'), '/federation/peers/0/address'],
    [{ http: { trusted_proxies: ['proxy.example'] } }, '/http/trusted_proxies/0: an IP address'],
    [{ http: { trusted_proxies: ['loopback', '192.0.2.0/33'] } }, '/http/trusted_proxies/1: an IP address'],
    [{ http: { well_known: { server: 'https://a.example' } } }, '/http/well_known/server: a host'],
    [{ http: { well_known: { contacts: [{ role: 'm.role.admin' }] } } }, '/http/well_known/contacts/0'],
    ['text', 'must be object'],
  ])('refuses %j and says where', (value, where) => {
    expect(() => completeConfig(value, root)).toThrow(ConfigError);
    expect(() => completeConfig(value, root)).toThrow(where);
  });
});

describe('docker-compose.yml', () => {
  it('has configurations that are valid and meet at the link', () => {
    const compose = parse(readFileSync(resolve(root, 'docker-compose.yml'), 'utf8')) as {
      services: { link: { command: string[] } };
    };
    const { command } = compose.services.link;
    for (const [name, option] of [
      ['alpha', '--left-port'],
      ['bravo', '--right-port'],
    ] as const) {
      const config = readConfig(resolve(root, `config/compose/${name}.yaml`));
      const port = command.find((argument) => argument.startsWith(`${option}=`))!.split('=')[1];
      expect(config.federation.peers.map(({ address }) => address)).toEqual([`ravine://link:${port}`]);
      const rate = command.find((argument) => argument.startsWith('--rate='))!.split('=')[1];
      expect(config.coap.link.rate).toBe(Number(rate));
    }
  });
});
