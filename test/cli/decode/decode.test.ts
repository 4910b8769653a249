import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { concat, hex, utf8 } from '../../../src/base/bytes.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import { CaptureFile } from '../../../src/cli/capture.ts';
import { explain } from '../../../src/cli/decode/explain.ts';
import { readInput } from '../../../src/cli/decode/input.ts';
import { encode } from '../../../src/coap/message.ts';
import { OPTION, stringOption, uintOption } from '../../../src/coap/options.ts';
import { encodeJson } from '../../../src/compact/cbor.ts';
import { type ConnectionId, encodeHint, firstHeader, transportHeader } from '../../../src/pipe/record.ts';
import { ravine } from '../run.ts';

const SECRET = 'syt_c2VjcmV0';
const MESSAGE = encode({
  type: 'CON',
  code: 3,
  id: 0x7d34,
  token: Uint8Array.of(1, 2, 3, 4),
  options: [
    stringOption(OPTION.uriPath, '_matrix'),
    stringOption(OPTION.uriPath, 'a path segment that needs a longer length'),
    uintOption(OPTION.contentFormat, 60),
    stringOption(256, SECRET),
    uintOption(OPTION.noResponse, 2),
  ],
  payload: encodeJson({ body: 'Hello World' }),
});
const CONNECTION = 0x9234 as ConnectionId;
const RECORDS = [
  concat(
    transportHeader('data', CONNECTION, {
      phase: 1,
      isResend: true,
      salt: undefined,
      truncated: 7,
      numberLength: 1,
    }),
    new Uint8Array(30),
  ),
  concat(
    transportHeader('control', CONNECTION, {
      phase: 0,
      isResend: false,
      salt: new Uint8Array(8),
      truncated: 7,
      numberLength: 4,
    }),
    new Uint8Array(16),
  ),
  concat(firstHeader('XX1', { version: 0x11, refused: [0x21], source: CONNECTION }), new Uint8Array(84)),
  concat(firstHeader('IK1', { version: 0x11, refused: [], source: CONNECTION }), new Uint8Array(130)),
  encodeHint(CONNECTION, { truncated: 7, numberLength: 2 }),
];

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

/** Layers add up to the datagram, and parts to their layer. */
function check(datagram: Uint8Array): void {
  const { layers } = explain(datagram);
  expect(sum(layers.map(({ bytes }) => bytes))).toBe(42 + datagram.length);
  for (const { bytes, parts } of layers.slice(1)) expect(sum(parts.map((part) => part.bytes))).toBe(bytes);
}

describe('a datagram', () => {
  it('of CoAP is told by header, options and payload', () => {
    const { what, layers } = explain(MESSAGE);
    expect(what).toContain('CON PUT, id 32052, token 01020304, Uri-Path _matrix/a path segment');
    expect(layers.map(({ name }) => name)).toEqual([
      'Ethernet, IP, UDP',
      'CoAP header',
      'CoAP options',
      'payload',
    ]);
    expect(layers[2]!.parts.map(({ name, bytes }) => [name, bytes])).toEqual([
      ['Uri-Path', 8],
      ['Uri-Path', 43],
      ['Content-Format', 2],
      ['access token', 14],
      ['No-Response', 2],
    ]);
    expect(layers[3]!.parts[1]!.value).toBe('{"body":"Hello World"}');
  });

  it('of a pipe is told by its clear part, and by how much is sealed', () => {
    const [data, control] = RECORDS.map((record) => explain(record));
    expect(data!.layers[1]!.parts).toEqual([
      { name: 'kind, flags', value: 'data, phase 1, resend', bytes: 1 },
      { name: 'destination connection', value: '9234', bytes: 2 },
      { name: 'number', value: '...07', bytes: 1 },
      { name: 'sealed', value: 'with a key that is not known here', bytes: 14 },
      { name: 'tag', value: '00'.repeat(16), bytes: 16 },
    ]);
    expect(control!.layers[1]!.parts.map(({ name }) => name)).toEqual([
      'kind, flags',
      'destination connection',
      'salt',
      'number',
      'tag',
    ]);
  });

  it.each(RECORDS)('adds up to what it takes on the wire: %#', (record) => check(record));

  it('adds up whatever bytes it has', () => {
    const anyBytes = fc.oneof(
      fc.uint8Array({ maxLength: 120 }),
      fc
        .tuple(fc.integer({ min: 0x40, max: 0xff }), fc.uint8Array({ maxLength: 120 }))
        .map(([first, rest]) => Uint8Array.of(first, ...rest)),
      fc
        .tuple(
          fc.constantFrom(MESSAGE, ...RECORDS),
          fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
        )
        .map(([datagram, changes]) => {
          const copy = datagram.slice();
          for (const [at, value] of changes) copy[at % copy.length] = value;
          return copy;
        }),
    );
    fc.assert(fc.property(anyBytes, check), { numRuns: 3_000 });
  });
});

describe('what is decoded', () => {
  it('may be text with a datagram a line', () => {
    const read = readInput(utf8('0x60007d34\n\n 60:00 7d:35 \n'));
    expect(read.ok && read.value.datagrams.map(({ bytes }) => hex(bytes))).toEqual(['60007d34', '60007d35']);
    expect(readInput(utf8('6000\n60007d3'))).toMatchObject({ ok: false });
    expect(readInput(Uint8Array.of(0xff, 0xfe))).toMatchObject({ ok: false });
  });

  it('may be what `ravine serve --capture` has written, for its owner alone', () => {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-decode-'));
    try {
      const file = join(folder, 'a.pcapng');
      const ends: string[] = [];
      const capture = new CaptureFile(file, new VirtualClock(), (reason) => ends.push(reason));
      capture.ownAddress = '127.0.0.1:5683';
      const datagram = { at: 0, bytes: MESSAGE };
      capture.observe({ ...datagram, direction: 'received', peer: '192.0.2.1:5000', label: '' });
      capture.observe({ ...datagram, direction: 'sent', peer: 'N0CALL-2', label: 'CON PUT' });
      capture.close();
      capture.observe({ ...datagram, direction: 'sent', peer: '192.0.2.1:5000', label: '' });
      capture.observe({ ...datagram, direction: 'sent', peer: '192.0.2.1:5000', label: '' });
      expect(ends).toHaveLength(1);
      expect(statSync(file).mode & 0o777).toBe(0o600);
      expect(readInput(new Uint8Array(readFileSync(file)))).toMatchObject({
        value: {
          datagrams: [
            { bytes: MESSAGE, at: Date.UTC(2026, 0, 1), from: '192.0.2.1:5000', to: '127.0.0.1:5683' },
            { bytes: MESSAGE, from: '127.0.0.1:5683', to: '0.0.0.0:0', comment: 'CON PUT, sent, N0CALL-2' },
          ],
        },
      });
      expect(() => new CaptureFile(file, new VirtualClock(), () => undefined)).toThrow('EEXIST');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('the command', () => {
  it('prints each layer with its bytes, and no access token', async () => {
    const { code, stdout, stderr } = await ravine('decode', hex(MESSAGE));
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`${42 + MESSAGE.length} B  CON PUT`);
    expect(stdout).toContain('access token              (12 B, not shown)');
    expect(stdout).not.toContain(SECRET);
    expect(stdout).not.toContain(hex(utf8(SECRET)));
  });

  it('prints JSON', async () => {
    const { stdout } = await ravine('decode', '--json', '60007d34', hex(RECORDS[0]!));
    expect(JSON.parse(stdout)).toMatchObject({
      datagrams: [
        { wire: 46, what: 'ACK empty, id 32052' },
        { wire: 42 + RECORDS[0]!.length, what: `pipe data, ${RECORDS[0]!.length} B` },
      ],
      skipped: {},
    });
  });

  it('reads the standard input, and a file', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-decode-'));
    try {
      const file = join(folder, 'a.txt');
      writeFileSync(file, `${hex(MESSAGE)}\n`);
      const fromFile = await ravine('decode', '--file', file);
      expect(fromFile.stdout).toContain('CON PUT, id 32052');
      expect(await throughInput(`${hex(MESSAGE)}\n`)).toBe(fromFile.stdout);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('says what it cannot read', async () => {
    const { code, stderr } = await ravine('decode', 'xyz');
    expect(code).toBe(1);
    expect(stderr).toBe('ravine: This cannot be read: not hexadecimal digits, two for each byte.\n');
  });
});

/** What `ravine decode` prints of its standard input. */
function throughInput(text: string): Promise<string> {
  const bin = resolve(import.meta.dirname, '../../../bin/ravine.js');
  const child = spawn(process.execPath, [bin, 'decode'], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.end(text);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((done) => {
    child.on('close', () => done(Buffer.concat(chunks).toString()));
  });
}
