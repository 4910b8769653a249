import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8 } from '../../../src/base/bytes.ts';
import { decodePage, readPageHead } from '../../../src/homeserver/media/html_head.ts';

const read = (html: string) => {
  const { title, meta } = readPageHead(html);
  return { title, meta: Object.fromEntries(meta) };
};

test('titles and meta tags are read however they are written', () => {
  expect(
    read(`<!DOCTYPE html><HTML><head><!-- <title>no</title> --><script>"<title>no</title>"</script>
      <TITLE>Fish &amp;\n chips &#x1F41F;&#8230; &unknown; &lt;b&gt;</TITLE><title>second</title>
      <meta property='OG:Title' content='It''s'><meta content="a > b" property="og:description"/>
      <meta name=author content=Alice><meta property="og:title" content="second"><meta charset=utf-8>
      <meta name="empty" content=""><metal name="x" content="y"><meta name="broken" content="never closed`),
  ).toEqual({
    title: 'Fish & chips 🐟… &unknown; <b>',
    meta: { 'og:title': 'It', 'og:description': 'a > b', author: 'Alice', empty: '' },
  });
  expect(read('')).toEqual({ title: undefined, meta: {} });
  expect(read('<title></title>')).toEqual({ title: undefined, meta: {} });
  expect(read('<style><meta name="a" content="b"></style><meta name="c" content="d">').meta).toEqual({
    c: 'd',
  });
  expect(read('<meta name="__proto__" content="x">').meta).toEqual(Object.fromEntries([['__proto__', 'x']]));
  expect(read('<title>&#0;&#xd800;&#x110000;&#9999999;x</title>').title).toBe('x');
});

test('hostile pages take no longer than their length', () => {
  const parts = [
    '<',
    '<!--',
    '<a "',
    "<meta a='",
    '<script>',
    '<meta content="',
    '&',
    '<title>',
    '="',
    '</',
    ' ',
  ];
  const size = 500_000;
  for (const part of parts) {
    const page = part.repeat(size / part.length);
    const before = process.cpuUsage();
    readPageHead(page);
    const { user } = process.cpuUsage(before);
    expect(user / 1000, JSON.stringify(part)).toBeLessThan(2_000);
  }
});

test('nothing makes the reader fail', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '<',
      '>',
      '"',
      "'",
      '<meta ',
      'content=',
      'property="og:x"',
      '<!--',
      '-->',
      '<title>',
      '</title',
      '&#',
      ';',
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
      const { title = '', meta } = readPageHead(pieces.join(''));
      expect(title.length).toBeLessThanOrEqual(1_000);
      for (const value of meta.values()) expect(typeof value).toBe('string');
    }),
    { seed: 11 },
  );
});

test('text is read in the encoding that the header, or the page, names', () => {
  const latin = Uint8Array.of(0x3c, 0x74, 0x3e, 0xfc);
  expect(decodePage(latin, 'text/html; charset=iso-8859-1')).toBe('<t>ü');
  const named = new Uint8Array([...utf8('<meta charset="windows-1252">'), 0xfc]);
  expect(decodePage(named, 'text/html')).toContain('ü');
  expect(decodePage(utf8('ü'), 'text/html; charset=nonsense')).toBe('ü');
  expect(decodePage(latin, 'text/html')).toBe('<t>\ufffd');
});
