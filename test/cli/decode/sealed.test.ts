import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { base64, concat, fromHex, hex, utf8 } from '../../../src/base/bytes.ts';
import { Explainer } from '../../../src/cli/decode/explain.ts';
import type { Explained, Part } from '../../../src/cli/decode/parts.ts';
import { KeyLogFile, ReadKeyLog, readKeyLog } from '../../../src/cli/key_log.ts';
import { encodeJson } from '../../../src/compact/cbor.ts';
import { packCompact } from '../../../src/compact/container.ts';
import type { CompactWriter } from '../../../src/compact/value_writer.ts';
import { encodeCompactParts } from '../../../src/exchange/compact_payload.ts';
import type { Body } from '../../../src/exchange/request.ts';
import { writeDocuments, writeKeyQuery } from '../../../src/federation/forms/key_query_form.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { encodeMessage } from '../../../src/pipe/message_header.ts';
import { SUITE } from '../../../src/pipe/prologue.ts';
import { type ConnectionId, decodeRecord, transportHeader } from '../../../src/pipe/record.ts';
import { loadModel } from '../../../src/server/models.ts';
import { ravine, ravineIn } from '../run.ts';
import { captureDevice, captureServers, into } from './captured.ts';
import { documented, overview } from './protocol_overview.ts';

const FIXTURES = join(import.meta.dirname, 'golden');
const CAPTURE = join(FIXTURES, 'capture.hex');
const KEYS = join(FIXTURES, 'capture.keys');
const DECODED = join(FIXTURES, 'decoded.txt');

const CONNECTION = 5 as ConnectionId;
/** Of what comes back. */
const BACK = 6 as ConnectionId;
const KEY = new Uint8Array(32).fill(7);
const ENDS = { sender: 'a.example', receiver: 'b.example' };
const PEER = { name: 'b.example', sends: false };

/** A record that the key of `keys` fits. */
function sealed(plaintext: Uint8Array, number = 300, isResend = false, connection = CONNECTION): Uint8Array {
  const clear = { phase: 0, isResend, salt: undefined, truncated: number % 256, numberLength: 1 } as const;
  const header = transportHeader('data', connection, clear);
  return concat(header, SUITE.cipher.aead.seal(KEY, SUITE.cipher.nonce(BigInt(number)), header, plaintext));
}

function keys(): ReadKeyLog {
  const log = new ReadKeyLog();
  log.record(CONNECTION, { epoch: 0, key: KEY, ...ENDS });
  log.record(BACK, { epoch: 0, key: KEY, sender: ENDS.receiver, receiver: ENDS.sender });
  return log;
}

const sum = (parts: readonly { readonly bytes: number }[]): number =>
  parts.reduce((total, { bytes }) => total + bytes, 0);

/** Every byte is in a part, and every unpacked byte in one inside of a part. */
function expectWhole({ layers }: Explained, length: number): void {
  expect(sum(layers)).toBe(42 + length);
  for (const { bytes, parts } of layers.slice(1)) expect(sum(parts)).toBe(bytes);
  for (const { inside, insideBytes } of layers.flatMap(({ parts }) => parts))
    if (inside !== undefined) expect(sum(inside)).toBe(insideBytes);
}

const partsOf = ({ layers }: Explained): readonly Part[] =>
  layers.flatMap(({ parts }) => parts.flatMap((part) => [part, ...(part.inside ?? [])]));

describe('with the key log of a run', () => {
  it('every record of two servers and a device is opened, and every byte of it accounted for', async () => {
    const log = new ReadKeyLog();
    const captured = await captureServers(into(log));
    const explainer = new Explainer(log, await Promise.all((['large', 'small'] as const).map(loadModel)));
    const explained = captured.map((datagram) => {
      const one = explainer.explain(datagram.bytes, datagram);
      expectWhole(one, datagram.bytes.length);
      return one;
    });
    const names = new Set(explained.flatMap(partsOf).map(({ name }) => name));
    for (const name of ['sealed', 'payload, sealed', 'not understood', 'bytes', 'left over'])
      expect(names).not.toContain(name);
    for (const name of ['generation', 'server name', 'features', 'target', 'body', 'blobs'])
      expect(names).toContain(name);
    const said = explained.flatMap(partsOf).map(({ value }) => value);
    expect(said.some((value) => value.startsWith('PUT /_matrix/client/v3/rooms/'))).toBe(true);
    expect(said.some((value) => value.includes('"Hello"'))).toBe(true);
    expect(said.some((value) => value.includes('password of alice'))).toBe(false);
  });

  it('tells the same of a captured run as ever: UPDATE_SNAPSHOT=1 captures another', async () => {
    if (process.env.UPDATE_SNAPSHOT === '1') await captureAnew();
    const { code, stdout, stderr } = await ravine('decode', '--file', CAPTURE, '--keylog', KEYS);
    expect([code, stderr]).toEqual([0, '']);
    if (process.env.UPDATE_SNAPSHOT === '1') writeFileSync(DECODED, stdout);
    expect(stdout).toBe(readFileSync(DECODED, 'utf8'));
  });
});

it('docs/protocol.md tells W1 as it is: node test/cli/decode/protocol_overview.ts writes it', async () => {
  expect(documented()).toBe(await overview());
});

async function captureAnew(): Promise<void> {
  for (const file of [KEYS]) if (existsSync(file)) rmSync(file);
  const log = new KeyLogFile(KEYS, 'alpha.example', () => undefined);
  const captured = await captureDevice(() => log);
  log.close();
  writeFileSync(CAPTURE, captured.map(({ bytes }) => `${hex(bytes)}\n`).join(''));
}

describe('a record that a key fits', () => {
  const request = encodeMessage(
    {
      type: 'CON',
      code: 3,
      copy: null,
      token: { kind: 'new' },
      rest: concat(
        Uint8Array.of(0xff),
        packCompact(
          encodeCompactParts(
            {},
            { method: 'PUT', path: '/_matrix/client/v3/rooms/!a%3Ab/send/m.room.message/7', query: '' },
            { kind: 'json', value: { msgtype: 'm.text', body: 'Hello' } },
          ),
          { kind: 'static' },
        ),
      ),
    },
    300,
    false,
  );

  it('is told by its parts', () => {
    const { what, layers } = new Explainer(keys()).explain(sealed(request));
    expect(what).toContain('CON PUT');
    expect(layers.map(({ name, bytes }) => [name, bytes])).toEqual([
      ['Ethernet, IP, UDP', 42],
      ['record', 3],
      ['CoAP header, compact', 1],
      ['container', 1],
      ['target', 7],
      ['body', 7],
      ['record, its end', 16],
    ]);
    expect(layers[4]!.parts[0]!.value).toBe('PUT /_matrix/client/v3/rooms/!a%3Ab/send/m.room.message/7');
    expect(layers[5]!.parts[0]!.value).toBe('{"msgtype":"m.text","body":"Hello"}');
  });

  it('is sealed for whoever has another key, epoch or connection', () => {
    const record = sealed(request);
    const others: readonly (readonly [number, number, Uint8Array])[] = [
      [6, 0, KEY],
      [5, 2, KEY],
      [5, 0, new Uint8Array(32)],
    ];
    for (const [connection, epoch, key] of others) {
      const log = new ReadKeyLog();
      log.record(connection as ConnectionId, { epoch, key, ...ENDS });
      expect(partsOf(new Explainer(log).explain(record)).map(({ name }) => name)).toContain('sealed');
    }
  });

  it('says what a name stands for that an earlier one has introduced, or its number', () => {
    const marks = { read: () => '', introduce: () => true };
    const say = (mark: 'introduce' | 'known', number: number): Uint8Array => {
      const handles = { ...marks, write: () => ({ kind: mark, slot: 3 }) as const };
      const target = { method: 'GET', path: '/_matrix/client/v3/rooms/!a%3Ab/members', query: '' };
      const rest = concat(
        Uint8Array.of(0xff),
        packCompact(encodeCompactParts({ handles }, target, undefined), { kind: 'nothing' }),
      );
      const message = { type: 'CON', code: 1, copy: null, token: { kind: 'new' }, rest } as const;
      return sealed(encodeMessage(message, number, false), number);
    };
    const explainer = new Explainer(keys());
    const targets = [say('known', 1), say('introduce', 2), say('known', 3)].map(
      (record) => partsOf(explainer.explain(record)).find(({ name }) => name === 'target')?.value,
    );
    expect(targets.map((target) => decodeURIComponent(target ?? ''))).toEqual([
      'GET /_matrix/client/v3/rooms/<room 3>/members',
      'GET /_matrix/client/v3/rooms/!a:b/members',
      'GET /_matrix/client/v3/rooms/!a:b/members',
    ]);
  });

  it('shows no password', () => {
    const value = { password: 'secret', deep: [{ access_token: 'secret' }] };
    const body: Body = { kind: 'json', value };
    const target = { method: 'POST', path: '/_matrix/client/v3/login', query: '' };
    for (const payload of [
      packCompact(encodeCompactParts({}, target, body), { kind: 'nothing' }),
      concat(Uint8Array.of(0), encodeJson('/_matrix/client/v3/login'), encodeJson(value)),
    ]) {
      const rest = concat(Uint8Array.of(0xff), payload);
      const message = { type: 'CON', code: 2, copy: null, token: { kind: 'new' }, rest } as const;
      const told = JSON.stringify(new Explainer(keys()).explain(sealed(encodeMessage(message, 300, false))));
      expect(told).toContain('(not shown)');
      expect(told).not.toContain('secret');
      expect(told).not.toContain(hex(utf8('secret')));
    }
  });

  it('may say anything: nothing is thrown, and nothing left out', () => {
    const first = fc.constantFrom(
      0,
      1,
      3,
      4,
      5,
      8,
      9,
      0x0a,
      0x13,
      0x23,
      0x33,
      0x52,
      0x53,
      0x4d,
      0xa3,
      0xc0,
      0xd1,
    );
    const marker = fc.constantFrom(0xff, 0x11, 0xd2, 0x00);
    const container = fc.constantFrom(0, 1, 0x82, 0x92, 0xa2, 0xb2, 0xc2, 0xe2, 0x80, 0xf1);
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc
        .tuple(first, marker, container, fc.uint8Array({ maxLength: 60 }))
        .map(([a, b, c, rest]) => Uint8Array.of(a, b, c, ...rest)),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 3 }).map((changes) => {
        const copy = request.slice();
        for (const [at, value] of changes) copy[at % copy.length] = value;
        return copy;
      }),
    );
    const explainer = new Explainer(keys());
    fc.assert(
      fc.property(bytes, fc.boolean(), (plaintext, isResend) => {
        const record = sealed(plaintext, 300, isResend);
        expectWhole(explainer.explain(record), record.length);
      }),
      { numRuns: 3_000 },
    );
  });
});

describe('an answer to a request that was seen', () => {
  const target = { method: 'PUT', path: '/_matrix/client/v3/rooms/!a%3Ab/send/m.room.message/7', query: '' };
  const rest = concat(
    Uint8Array.of(0xff),
    packCompact(encodeCompactParts({}, target, undefined), { kind: 'nothing' }),
  );
  const request = encodeMessage(
    { type: 'CON', code: 3, copy: null, token: { kind: 'new' }, rest },
    300,
    false,
  );
  /** 2.04 and 4.04 to a number that ends like 300. */
  const [CHANGED, NOT_FOUND] = [0xc0 | (300 % 16), 0xf0 | (300 % 16)];
  const seen = (): Explainer => {
    const explainer = new Explainer(keys());
    explainer.explain(sealed(request));
    return explainer;
  };

  it('is told by the parts that such an answer has', () => {
    const answer = Uint8Array.of(CHANGED, 0x25, 1, 2, 3, 4, 5, 6);
    const { layers } = seen().explain(sealed(answer, 9, false, BACK));
    expect(layers.at(-2)!.parts.map(({ name, bytes }) => [name, bytes])).toEqual([
      ['header', 1],
      ["check of the event's id", 4],
      ['time', 2],
    ]);
  });

  it('is text where the request was refused', () => {
    const answer = concat(Uint8Array.of(NOT_FOUND), utf8('nothing here'));
    expect(partsOf(seen().explain(sealed(answer, 9, false, BACK))).map(({ value }) => value)).toContain(
      'nothing here',
    );
  });

  it('may say anything: nothing is thrown, and nothing left out', () => {
    const explainer = seen();
    const first = fc.constantFrom(CHANGED, NOT_FOUND, 0xd0 | (300 % 16));
    const head = fc.constantFrom(0x20, 0x25, 0x30, 0x31, 0x60, 0x7f, 0x82, 0x92, 0xa2, 0x00);
    fc.assert(
      fc.property(first, head, fc.uint8Array({ maxLength: 40 }), (code, byte, more) => {
        const record = sealed(Uint8Array.of(code, byte, ...more), 9, false, BACK);
        expectWhole(explainer.explain(record), record.length);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('what a notary is asked and answers', () => {
  const path = '/_matrix/key/v2/query';
  const SERVERS = ['c.example', 'd.example'];
  const query: Body = {
    kind: 'formed',
    json: null,
    write: (writer) => writeKeyQuery(writer, SERVERS),
  };
  const signature = (n: number): string => base64(new Uint8Array(64).fill(n));
  const documentOf = (server: string, n: number): JsonObject => ({
    server_name: server,
    valid_until_ts: 1_800_000_000_000,
    verify_keys: { 'ed25519:1': { key: base64(new Uint8Array(32).fill(n)) } },
    old_verify_keys: {},
    signatures: { [server]: { 'ed25519:1': signature(n) }, 'b.example': { 'ed25519:b': signature(n + 1) } },
  });
  const answer = { server_keys: SERVERS.map((server, i) => documentOf(server, 3 * i)) };

  function told(isPacked: boolean): readonly Part[] {
    const explainer = new Explainer(keys());
    const asked = packCompact(encodeCompactParts({}, { method: 'POST', path, query: '' }, query), {
      kind: 'nothing',
    });
    const message = { type: 'CON', code: 2, copy: null, token: { kind: 'new' } } as const;
    const rest = concat(Uint8Array.of(0xff), asked);
    const request = explainer.explain(sealed(encodeMessage({ ...message, rest }, 300, false)));
    expect(partsOf(request).filter(({ name }) => name === 'server')).toHaveLength(2);
    const write = (writer: CompactWriter): void => writeDocuments(writer, answer, SERVERS, 'b.example');
    const content = encodeCompactParts({}, undefined, { kind: 'formed', json: answer, write });
    const packed = packCompact(content, { kind: isPacked ? 'static' : 'nothing' });
    const record = sealed(concat(Uint8Array.of(0xc0 | (300 % 16)), packed), 9, false, BACK);
    const explained = explainer.explain(record);
    expectWhole(explained, record.length);
    return partsOf(explained);
  }

  it('is told by keys and signatures', () => {
    const parts = told(false);
    const bytesOf = (wanted: string): number => sum(parts.filter(({ name }) => name === wanted));
    expect(['key', "server's signature", "notary's signature"].map(bytesOf)).toEqual([64, 128, 128]);
    expect(bytesOf('key id')).toBeGreaterThan(0);
    expect(bytesOf('valid until')).toBeGreaterThan(0);
  });

  it('is told by what stands in front of it, where that is packed', () => {
    const body = told(true).find(({ name }) => name === 'body');
    expect(body?.value).toBe(
      "in a form of its route (in front: 2 x key 64 B, 2 x server's signature 128 B, 2 x notary's signature 128 B):",
    );
  });
});

describe('a handshake message whose payload is logged', () => {
  it('may say anything: nothing is thrown, and nothing left out', () => {
    const kind = fc.constantFrom(0x90, 0xa0, 0xb0, 0xc0, 0xd0);
    const flags = fc.constantFrom(0x00, 0x02, 0x20, 0x46, 0xff);
    const payload = fc
      .tuple(fc.uint8Array({ maxLength: 30 }), flags, fc.uint8Array({ maxLength: 60 }))
      .map(([a, b, c]) => concat(a, Uint8Array.of(b), c));
    fc.assert(
      fc.property(kind, fc.integer({ min: 0, max: 96 }), payload, (first, keyBytes, said) => {
        const isFirst = first === 0x90 || first === 0xc0;
        const head = Uint8Array.of(first, ...(isFirst ? [0x11] : []), 5);
        const datagram = concat(head, new Uint8Array(keyBytes), said, new Uint8Array(16).fill(9));
        const record = decodeRecord(datagram);
        const log = new ReadKeyLog();
        if (record.ok && 'message' in record.value) log.handshake(record.value.message, said);
        expectWhole(new Explainer(log).explain(datagram), datagram.length);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('a key log', () => {
  it('is written for its owner alone, and read again', () => {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-keys-'));
    try {
      const file = join(folder, 'keys');
      const log = new KeyLogFile(file, 'a.example', () => undefined);
      log.record(CONNECTION, 0, KEY, PEER);
      log.handshake(fromHex('00'.repeat(20))!, utf8('payload'));
      log.close();
      log.record(CONNECTION, 1, KEY, PEER);
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const read = readKeyLog(`\n# a comment\nlater 1 2\n${readFileSync(file, 'utf8')}`);
      expect(read.ok && read.value.keysOf(CONNECTION)).toEqual([{ epoch: 0, key: KEY, ...ENDS }]);
      expect(read.ok && read.value.payloadOf(new Uint8Array(16))).toEqual(utf8('payload'));
      expect(() => new KeyLogFile(file, 'a.example', () => undefined)).toThrow('EEXIST');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each([
    'record 05 0 00',
    'record 05 x 07',
    `record 05 9999999999999 ${hex(KEY)} a b`,
    `record 80 0 ${hex(KEY)} a b`,
    `record 05 0 ${hex(KEY)} a`,
    'handshake 00 00',
  ])('with an odd line is refused by the number of the line: %s', (line) => {
    expect(readKeyLog(`\n${line}`)).toEqual({ ok: false, problem: 'line 2 is not of a key log' });
  });

  it('is refused where secret keys are sealed', async () => {
    const { code, stderr } = await ravineIn(
      { RAVINE_SEAL_KEY: Buffer.from(KEY).toString('base64') },
      ...['serve', '--keylog', join(tmpdir(), 'ravine-keys-never')],
    );
    expect(code).toBe(1);
    expect(stderr).toContain('--keylog would lay open what RAVINE_SEAL_KEY seals');
    expect(existsSync(join(tmpdir(), 'ravine-keys-never'))).toBe(false);
  });
});
