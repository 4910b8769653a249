import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attributeOf,
  encodeLinks,
  filterLinks,
  hasAttribute,
  parseLinks,
  type WebLink,
} from '../../src/coap/link_format.ts';

/** The links of a text, or a failed test. */
function links(text: string): readonly WebLink[] {
  const parsed = parseLinks(text);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.value;
}

const characters = (alphabet: string) => fc.constantFrom(...alphabet);
const NAME_CHARACTERS = 'abcxyzABC019!#$&+-.^_`|~';
const name = fc.string({ unit: characters(NAME_CHARACTERS), minLength: 1, maxLength: 8 });
const attribute = fc.oneof(
  fc.record({ name, value: fc.option(fc.string({ unit: 'binary', maxLength: 12 })) }),
  fc.record({
    name: name.map((text) => `${text}*`),
    value: fc.string({ unit: characters("UTF-8'en%20ab:;".replace(';', '')), minLength: 1 }),
  }),
);
const link = fc.record({
  target: fc.string({ unit: characters('/abc?&=%20:#."\\;,é '), maxLength: 20 }),
  attributes: fc.array(attribute, { maxLength: 5 }),
});

describe('the CoRE link format (RFC 6690)', () => {
  it('reads links with quoted, bare and valueless attributes', () => {
    expect(links('</sensors/temp>;rt="temperature-c outdoor";ct=41;obs,</firmware/v2.1>;sz=262144')).toEqual([
      {
        target: '/sensors/temp',
        attributes: [
          { name: 'rt', value: 'temperature-c outdoor' },
          { name: 'ct', value: '41' },
          { name: 'obs', value: null },
        ],
      },
      { target: '/firmware/v2.1', attributes: [{ name: 'sz', value: '262144' }] },
    ]);
  });

  it('does not take commas, semicolons and escapes inside quotes for structure', () => {
    const [one, two] = links(
      String.raw`</a>;title="x, </y>; \"z\" \\";if=core.s,</b>;title*=UTF-8'en'%e2%82`,
    );
    expect(attributeOf(one!, 'title')).toBe(String.raw`x, </y>; "z" \ `.trimEnd());
    expect(attributeOf(one!, 'if')).toBe('core.s');
    expect(attributeOf(two!, 'title*')).toBe("UTF-8'en'%e2%82");
  });

  it('allows white space between the parts, as people write them', () => {
    expect(links(' </a>; rt = "x" ;obs ,\r\n </b>\n')).toEqual(links('</a>;rt="x";obs,</b>'));
  });

  it('takes the first of an attribute that is repeated', () => {
    const [one] = links('</a>;rt="first";rt="second"');
    expect(attributeOf(one!, 'rt')).toBe('first');
    expect(hasAttribute(one!, 'obs')).toBe(false);
  });

  it('has no links in an empty text', () => {
    expect(links('')).toEqual([]);
    expect(encodeLinks([])).toBe('');
  });

  it.each([
    ['/a', 'a target in angle brackets was expected at character 1'],
    ['</a', 'a target in angle brackets was expected at character 1'],
    ['</a>,', 'a target in angle brackets was expected at character 6'],
    ['</a>;', "an attribute's name was expected at character 6"],
    ['</a>;rt=', "an attribute's value was expected at character 9"],
    ['</a>;rt="x', "an attribute's value was expected at character 9"],
    ['</a>;rt="x"y', 'a semicolon or a comma was expected at character 12'],
    ['</a></b>', 'a semicolon or a comma was expected at character 5'],
  ])('says what is wrong with %s, and where', (text, problem) => {
    expect(parseLinks(text)).toEqual({ ok: false, problem });
  });

  it('writes numbers bare and everything else in quotes', () => {
    expect(
      encodeLinks([
        {
          target: '/a',
          attributes: [
            { name: 'ct', value: '50 60' },
            { name: 'sz', value: '12' },
            { name: 'obs', value: null },
          ],
        },
        { target: '/b', attributes: [{ name: 'title', value: 'a "b"' }] },
      ]),
    ).toBe(String.raw`</a>;ct="50 60";sz=12;obs,</b>;title="a \"b\""`);
  });

  it('reads what it has written, whatever that is', () => {
    fc.assert(
      fc.property(fc.array(link, { maxLength: 5 }), (list) => {
        expect(links(encodeLinks(list))).toEqual(list);
      }),
      { seed: 6690, numRuns: 500 },
    );
  });

  it('is never thrown at, and what it reads it can write', () => {
    const text = fc.oneof(
      fc.string({ unit: characters('<>;,="\\ /ab*'), maxLength: 30 }),
      fc.string({ unit: 'binary' }),
    );
    let read = 0;
    fc.assert(
      fc.property(text, (any) => {
        const parsed = parseLinks(any);
        if (!parsed.ok) return;
        if (parsed.value.length > 0) read++;
        if (parsed.value.every(({ target }) => !/[<\p{Cc}]/u.test(target)))
          expect(links(encodeLinks(parsed.value))).toEqual(parsed.value);
      }),
      { seed: 6690, numRuns: 5000 },
    );
    expect(read).toBeGreaterThan(10);
  });

  it('takes time in proportion to the length of hostile text', () => {
    for (const part of ['\\', '"', '</a>;a="', ' ', ';a', ','])
      expect(parseLinks(`</a>;rt="${part.repeat(200_000)}`).ok).toBe(false);
  });
});

describe('a query of /.well-known/core (RFC 6690, section 4.1)', () => {
  const list = links(
    '</link1>;rt="Type1 Type2";if="If1",</link2>;rt="Type2 Type3";if="Foo";sz=20,</other>;title="x y";obs;ct="50 60"',
  );
  const targets = (...query: string[]): string[] => filterLinks(list, query).map(({ target }) => target);

  it('without a filter gets all links', () => {
    expect(targets()).toEqual(['/link1', '/link2', '/other']);
    expect(targets('page')).toEqual(['/link1', '/link2', '/other']);
  });

  it('finds one of several values of rt, if, rel and ct, but no part of one', () => {
    expect(targets('rt=Type2')).toEqual(['/link1', '/link2']);
    expect(targets('rt=Type')).toEqual([]);
    expect(targets('ct=60')).toEqual(['/other']);
    expect(targets('ct=50 60')).toEqual(['/other']);
  });

  it('compares every other attribute as a whole', () => {
    expect(targets('title=x y')).toEqual(['/other']);
    expect(targets('title=x')).toEqual([]);
  });

  it('with a star at the end compares the beginning', () => {
    expect(targets('rt=Type3*')).toEqual(['/link2']);
    expect(targets('if=If*')).toEqual(['/link1']);
    expect(targets('href=/link*')).toEqual(['/link1', '/link2']);
    expect(targets('title=x*')).toEqual(['/other']);
  });

  it('with a star alone asks whether the attribute is there', () => {
    expect(targets('sz=*')).toEqual(['/link2']);
    expect(targets('obs=*')).toEqual(['/other']);
    expect(targets('foo=*')).toEqual([]);
  });

  it('compares the target of href exactly', () => {
    expect(targets('href=/link1')).toEqual(['/link1']);
    expect(targets('href=/link')).toEqual([]);
  });

  it('narrows with each filter', () => {
    expect(targets('rt=Type2', 'if=Foo')).toEqual(['/link2']);
  });
});
