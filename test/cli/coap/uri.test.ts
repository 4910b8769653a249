import { describe, expect, it } from 'vitest';
import { hex } from '../../../src/base/bytes.ts';
import { type CoapUri, parseCoapUri } from '../../../src/cli/coap/uri.ts';
import { OPTION, stringOf } from '../../../src/coap/options.ts';

function parsed(text: string): CoapUri {
  const uri = parseCoapUri(text);
  if (!uri.ok) throw new Error(uri.problem);
  return uri.value;
}

/** The options as `number=text`. */
const options = (text: string): string[] =>
  parsed(text).options.map((option) => `${option.number}=${stringOf(option)}`);

describe('a URI of CoAP (RFC 7252, section 6.4)', () => {
  it('becomes a destination, Uri-Path and Uri-Query', () => {
    expect(parsed('coap://192.0.2.1:61616/a/b?c=d&e')).toMatchObject({ host: '192.0.2.1', port: 61616 });
    expect(options('coap://192.0.2.1:61616/a/b?c=d&e')).toEqual(['11=a', '11=b', '15=c=d', '15=e']);
  });

  it('has the standard ports where it names none', () => {
    expect(parsed('coap://192.0.2.1/').port).toBe(5683);
    expect(parsed('coap://192.0.2.1:/').port).toBe(5683);
    expect(parsed('coap+ws://a/').port).toBe(80);
    expect(parsed('coaps+ws://a/').port).toBe(443);
  });

  it('says the name in Uri-Host, decoded and in lower case, and an address not at all', () => {
    expect(options('COAP://EXAMPLE.com')).toEqual(['3=example.com']);
    expect(options('coap://ex%61mple/')).toEqual(['3=example']);
    expect(options('coap://[2001:db8::1]/')).toEqual([]);
    expect(parsed('coap://[2001:db8::1]:7/')).toMatchObject({ host: '2001:db8::1', port: 7 });
    expect(options('coap+ws://example.com/a')).toEqual(['11=a']);
  });

  it('makes no option of an empty path or of a slash alone, but keeps empty segments', () => {
    expect(options('coap://192.0.2.1')).toEqual([]);
    expect(options('coap://192.0.2.1/')).toEqual([]);
    expect(options('coap://192.0.2.1/a/')).toEqual(['11=a', '11=']);
    expect(options('coap://192.0.2.1//a')).toEqual(['11=', '11=a']);
  });

  it('tells an empty query from none', () => {
    expect(options('coap://192.0.2.1?')).toEqual(['15=']);
    expect(options('coap://192.0.2.1/?a&&b')).toEqual(['15=a', '15=', '15=b']);
  });

  it('decodes what is percent-encoded after it has split at the delimiters', () => {
    expect(options('coap://192.0.2.1/a%2Fb/%23?c%26d=%25&+')).toEqual(['11=a/b', '11=#', '15=c&d=%', '15=+']);
    expect(hex(parsed('coap://192.0.2.1/%C3%A9é').options[0]!.value)).toBe('c3a9c3a9');
  });

  it('reads the three URIs of RFC 7252, section 6.3, as the same', () => {
    const same = ['coap://example.com:5683/~sensors/temp.xml', 'coap://EXAMPLE.com/%7Esensors/temp.xml'];
    for (const text of [...same, 'coap://EXAMPLE.com:/%7esensors/temp.xml']) {
      expect(parsed(text).port).toBe(5683);
      expect(options(text)).toEqual(['3=example.com', '11=~sensors', '11=temp.xml']);
    }
  });

  it('takes dot segments away, which no option may hold', () => {
    expect(options('coap://192.0.2.1/a/./b/../c')).toEqual(['11=a', '11=c']);
    expect(options('coap://192.0.2.1/a/%2E%2e')).toEqual([]);
    expect(options('coap://192.0.2.1/a/b/..')).toEqual(['11=a', '11=']);
  });

  it('takes a value of 255 bytes', () => {
    const [option] = parsed(`coap://192.0.2.1/${'a'.repeat(255)}`).options;
    expect(option).toMatchObject({ number: OPTION.uriPath });
  });

  it('names the server of a pipe before its address', () => {
    expect(parsed('ravine://bravo.example:8448@192.0.2.1:7000/x')).toMatchObject({
      serverName: 'bravo.example:8448',
      host: '192.0.2.1',
      port: 7000,
    });
    expect(parsed('ravine://bravo.example/x')).toMatchObject({
      serverName: 'bravo.example',
      host: 'bravo.example',
      port: 5683,
    });
  });

  it.each([
    ['http://example.com/', /begin with coap:\/\//],
    ['example.com/a', /begin with coap:\/\//],
    ['coap:/a', /begin with coap:\/\//],
    ['coap://', /names no host/],
    ['coap://:5683/', /names no host/],
    ['coap://a/b#c', /no fragment/],
    ['coap://a:0/', /not a port/],
    ['coap://a:65536/', /not a port/],
    ['coap://a:x/', /not a host and a port/],
    ['coap://2001:db8::1/', /brackets/],
    ['coap://[2001:db8::g]/', /not an IPv6 address/],
    ['coap://me@a/', /no user/],
    ['coap://a/%ff', /not UTF-8/],
    [`coap://a/${'a'.repeat(256)}`, /256 bytes/],
    [`coap://a/?${'é'.repeat(128)}`, /256 bytes/],
  ])('says in a sentence why %s is none', (text, sentence) => {
    const uri = parseCoapUri(text);
    expect(uri.ok ? '' : uri.problem).toMatch(sentence);
  });
});
