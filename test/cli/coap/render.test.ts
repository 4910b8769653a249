import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromHex, hex, utf8 } from '../../../src/base/bytes.ts';
import { cborText, jsonText } from '../../../src/cli/coap/diagnostic.ts';
import { collectOption, contentFormat, methodCode } from '../../../src/cli/coap/options.ts';
import {
  codeText,
  describeDatagram,
  forTerminal,
  hexDump,
  linkTable,
  renderPayload,
} from '../../../src/cli/coap/render.ts';
import { blockOption } from '../../../src/coap/block.ts';
import { encode } from '../../../src/coap/message.ts';
import { OPTION, stringOption, uintOption } from '../../../src/coap/options.ts';
import { encodeJson } from '../../../src/compact/cbor.ts';
import type { JsonValue } from '../../../src/matrix/json.ts';

const cbor = (digits: string, pretty = false): string => {
  const text = cborText(fromHex(digits)!, pretty);
  return text.ok ? text.value : `problem: ${text.problem}`;
};

describe('CBOR for people', () => {
  // RFC 8949, appendix A; strings of indefinite length are shown as the whole that they are.
  it.each([
    ['1bffffffffffffffff', '18446744073709551615'],
    ['3bffffffffffffffff', '-18446744073709551616'],
    ['3903e7', '-1000'],
    ['f93e00', '1.5'],
    ['f93c00', '1.0'],
    ['f98000', '-0.0'],
    ['fa47c35000', '100000.0'],
    ['fb7e37e43c8800759c', '1e+300'],
    ['f97c00', 'Infinity'],
    ['f97e00', 'NaN'],
    ['f6', 'null'],
    ['f7', 'undefined'],
    ['f0', 'simple(16)'],
    ['f8ff', 'simple(255)'],
    ['c11a514b67b0', '1(1363896240)'],
    ['4401020304', "h'01020304'"],
    ['62225c', '"\\"\\\\"'],
    ['8301820203820405', '[1,[2,3],[4,5]]'],
    ['a201020304', '{1:2,3:4}'],
    ['5f42010243030405ff', "h'0102030405'"],
    ['7f657374726561646d696e67ff', '"streaming"'],
    ['9f018202039f0405ffff', '[1,[2,3],[4,5]]'],
    ['bf61610161629f0203ffff', '{"a":1,"b":[2,3]}'],
    ['80', '[]'],
    ['a0', '{}'],
  ])('shows %s as %s', (digits, text) => {
    expect(cbor(digits)).toBe(text);
  });

  it.each([
    ['', 'it ends in the middle'],
    ['62', 'it ends in the middle'],
    ['9f01', 'it ends in the middle'],
    ['0102', 'there are bytes after its end'],
    ['1c', 'it is malformed'],
    ['ff', 'it is malformed'],
    ['61ff', 'a text in it is not UTF-8'],
    ['5f6101ff', 'a string in it is malformed'],
    ['81'.repeat(300), 'it is nested too deeply'],
    ['9bffffffffffffffff01', 'it ends in the middle'],
  ])('says what is wrong with %s', (digits, problem) => {
    expect(cbor(digits)).toBe(`problem: ${problem}`);
  });

  it('puts a member on a line each', () => {
    expect(cbor('a261610161628102', true)).toBe('{\n  "a": 1,\n  "b": [\n    2\n  ]\n}');
  });

  it('of JSON is JSON of the same value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), fc.boolean(), (value, pretty) => {
        const json = JSON.parse(JSON.stringify(value)) as JsonValue;
        const text = cborText(encodeJson(json), pretty);
        expect(text.ok && JSON.parse(text.value)).toEqual(json);
      }),
      { seed: 8949 },
    );
  });

  it('is never thrown at', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        cborText(bytes, true);
      }),
      { seed: 8949, numRuns: 2000 },
    );
  });
});

describe('JSON for people', () => {
  it('is indented without touching numbers, strings and the order', () => {
    const text = jsonText('{"b":12345678901234567890.10,"a" : [ ] ,"c":[{ },"x, {y}: \\"",null]}');
    expect(text).toEqual({
      ok: true,
      value:
        '{\n  "b": 12345678901234567890.10,\n  "a": [],\n  "c": [\n    {},\n    "x, {y}: \\"",\n    null\n  ]\n}',
    });
  });

  it('is as JSON.stringify indents it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        const text = jsonText(JSON.stringify(value));
        expect(text.ok && text.value).toBe(JSON.stringify(value, undefined, 2));
      }),
      { seed: 8259 },
    );
  });

  it('takes a string of megabytes', () => {
    expect(jsonText(JSON.stringify('\\a'.repeat(2 ** 21))).ok).toBe(true);
  });
});

describe('a payload', () => {
  it('is text or binary as its Content-Format says, or as it looks where none is said', () => {
    expect(renderPayload(utf8('on'), 0, true)).toEqual({ kind: 'text', text: 'on' });
    expect(renderPayload(utf8('on'), undefined, true)).toEqual({ kind: 'text', text: 'on' });
    expect(renderPayload(Uint8Array.of(0, 1), undefined, true)).toMatchObject({ kind: 'binary' });
    expect(renderPayload(utf8('on'), 42, true)).toEqual({
      kind: 'binary',
      text: '2 bytes of application/octet-stream',
    });
    expect(renderPayload(Uint8Array.of(0xff), 0, true)).toMatchObject({ kind: 'binary' });
    expect(renderPayload(Uint8Array.of(0xa1), 60, true)).toMatchObject({
      kind: 'binary',
      text: '1 bytes that are said to be CBOR, but it ends in the middle',
    });
    expect(renderPayload(utf8('{"a":1}'), 50, false)).toEqual({ kind: 'text', text: '{"a":1}' });
    expect(renderPayload(utf8('{"a":'), 50, true)).toEqual({ kind: 'text', text: '{"a":' });
  });

  it('cannot give orders to a terminal', () => {
    expect(forTerminal('a\x1b[31m\n\tb\x9b\u202e')).toBe('a\\u001b[31m\n\tb\\u009b\\u202e');
  });

  it('does not become very long by its indentation, whatever a server sends', () => {
    const [json, deep] = [utf8(`${'['.repeat(10_000)}${']'.repeat(10_000)}`), Buffer.alloc(250, 0x9f)];
    const items = Buffer.concat([deep, Buffer.alloc(10_000, 1), Buffer.alloc(250, 0xff)]);
    expect(renderPayload(json, 50, true).text.length).toBeLessThan(100 * json.length);
    expect(renderPayload(items, 60, true).text.length).toBeLessThan(100 * items.length);
    const long = utf8(`[${'1,'.repeat(2 ** 19)}1]`);
    expect(renderPayload(long, 50, true).text.length).toBe(long.length);
  });
});

describe('a message in one line', () => {
  const TOKEN = 'syt_secret_token';
  const message = encode({
    type: 'CON',
    code: 3,
    id: 4711,
    token: Uint8Array.of(0xab, 1),
    options: [
      stringOption(OPTION.uriHost, 'a.example'),
      stringOption(OPTION.uriPath, '.well-known'),
      stringOption(OPTION.uriPath, 'core'),
      stringOption(OPTION.uriQuery, 'a=1'),
      stringOption(OPTION.uriQuery, 'b'),
      uintOption(OPTION.contentFormat, 60),
      blockOption(OPTION.block1, { num: 2, more: true, size: 64 }),
      stringOption(256, TOKEN),
      { number: OPTION.ifNoneMatch, value: new Uint8Array(0) },
      { number: 2048, value: Uint8Array.of(1) },
    ],
    payload: utf8('x\x1b'),
  });

  it('stays in one line, whatever stands in an option', () => {
    const options = [stringOption(OPTION.locationPath, 'a\n<   0.001 s  ACK 2.05 Content\tb')];
    const forged = encode({ type: 'ACK', code: 65, id: 1, token: utf8(''), options, payload: utf8('') });
    expect(describeDatagram(forged)).toBe(
      'ACK 2.01 Created, id 1, Location-Path a\\u000a<   0.001 s  ACK 2.05 Content\\u0009b',
    );
    expect(linkTable([{ target: '/a', attributes: [{ name: 'title', value: 'b\n/c  d' }] }])).toBe(
      'path  title\n/a    b\\u000a/c  d',
    );
  });

  it('says type, code, id, token, options and length', () => {
    expect(describeDatagram(message)).toBe(
      'CON PUT, id 4711, token ab01, Uri-Host a.example, If-None-Match, Uri-Path .well-known/core, ' +
        'Content-Format application/cbor, Uri-Query a=1&b, Block1 2+/64, access token (16 B, not shown), ' +
        'option 2048 0x01, 2 B',
    );
    expect(describeDatagram(fromHex('40000001')!)).toBe('CON ping, id 1');
    expect(describeDatagram(fromHex('60000001')!)).toBe('ACK empty, id 1');
    expect(describeDatagram(fromHex('60840001')!)).toBe('ACK 4.04 Not Found, id 1');
    expect(describeDatagram(fromHex('c0ffee')!)).toBe('a record of a pipe, 3 B');
    expect(describeDatagram(fromHex('41')!)).toBe('no CoAP message, 1 B');
  });

  it('never shows an access token, in bytes neither', () => {
    const dump = hexDump(message);
    expect(describeDatagram(message)).not.toContain(TOKEN);
    expect(dump.replaceAll(/^.* {2}/gm, '').replaceAll('\n', '')).not.toContain('secret');
    expect(dump.replaceAll(/[^0-9a-f]/g, '')).not.toContain(hex(utf8(TOKEN)).slice(0, 16));
    expect(dump).toContain('.. .. ..');
  });

  it('dumps sixteen bytes a line', () => {
    expect(hexDump(utf8('0123456789abcdef\n'))).toBe(
      '    0000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n' +
        `    0010  0a${' '.repeat(47)}.`,
    );
  });

  it('has a meaning for codes, and the number for unknown ones', () => {
    expect(codeText(0x45)).toBe('2.05 Content');
    expect(codeText(0x9e)).toBe('4.30');
  });
});

describe('what is typed for options', () => {
  const one = (text: string): string => {
    const [option] = collectOption(text, []);
    return `${option!.number}=${hex(option!.value)}`;
  };

  it('is a number or a name, and text, hexadecimal digits or a number', () => {
    expect(one('2048,0xCAFE')).toBe('2048=cafe');
    expect(one('2048,cafe')).toBe(`2048=${hex(utf8('cafe'))}`);
    expect(one('If-None-Match')).toBe('5=');
    expect(one('max-age,300')).toBe('14=012c');
    expect(one('Max-Age,0')).toBe('14=');
    expect(one('Uri-Query,a,b')).toBe(`15=${hex(utf8('a,b'))}`);
  });

  it('is refused where it makes no sense, or is the endpoint’s own', () => {
    expect(() => collectOption('Nonsense,1', [])).toThrow('neither the number nor the name');
    expect(() => collectOption('65536,1', [])).toThrow('neither the number nor the name');
    expect(() => collectOption('Max-Age,soon', [])).toThrow('whole number');
    for (const own of ['Observe,0', 'Block2,6', '23,6', 'Request-Tag,1'])
      expect(() => collectOption(own, [])).toThrow('is set by the options');
  });

  it('is a format by number, media type or short name', () => {
    expect(['50', 'json', 'application/json', 'CBOR', 'text', 'text/plain'].map(contentFormat)).toEqual([
      50, 50, 50, 60, 0, 0,
    ]);
    expect(() => contentFormat('pictures')).toThrow('media type');
    expect(() => contentFormat('65536')).toThrow('65535');
  });

  it('is a method in any case', () => {
    expect(['GET', 'fetch', 'iPATCH', 'toString', 'head'].map(methodCode)).toEqual([
      1,
      5,
      7,
      undefined,
      undefined,
    ]);
  });
});

describe('the table of links', () => {
  it('has the columns in which something stands', () => {
    const links = [
      { target: '/a', attributes: [{ name: 'rt', value: 'x\x1b y' }] },
      {
        target: '/longer',
        attributes: [
          { name: 'ct', value: '50 60 999' },
          { name: 'obs', value: null },
        ],
      },
    ];
    expect(linkTable(links)).toBe(
      [
        'path     type       formats                                observable',
        '/a       x\\u001b y',
        '/longer             application/json application/cbor 999  yes',
      ].join('\n'),
    );
  });
});
