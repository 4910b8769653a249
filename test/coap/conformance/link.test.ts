import { describe, expect, it } from 'vitest';
import { fromUtf8 } from '../../../src/base/bytes.ts';
import { METHOD } from '../../../src/coap/codes.ts';
import {
  encodeLinks,
  filterLinks,
  LINK_FORMAT,
  parseLinks,
  type WebLink,
} from '../../../src/coap/link_format.ts';
import { OPTION, uintOption } from '../../../src/coap/options.ts';
import { Plugtest } from './plugtest.ts';
import { content } from './plugtest_server.ts';
import { texts } from './wire.ts';

const link = (target: string, attributes: Record<string, string | null> = {}): WebLink => ({
  target,
  attributes: Object.entries(attributes).map(([name, value]) => ({ name, value })),
});

/** Types, interfaces and sizes in every combination that the descriptions ask for. */
const LINKS: readonly WebLink[] = [
  link('/test', { title: 'Test' }),
  link('/link1', { rt: 'Type1 Type2', if: 'If1' }),
  link('/link2', { rt: 'Type2 Type3', if: 'If2' }),
  link('/link3', { rt: 'Type1 Type3', if: 'foo' }),
  link('/link4', { rt: '' }),
  link('/link5', { rt: 'Type1' }),
  link('/large', { sz: '1700' }),
  link('/obs', { obs: null, rt: 'observe' }),
  link('/path', { ct: '40' }),
  link('/alternate', { ct: '0 41' }),
];

const SUB: readonly WebLink[] = ['/path/sub1', '/path/sub2', '/path/sub3'].map((target) => link(target));

const asLinkFormat = (links: readonly WebLink[]) =>
  content(encodeLinks(links), uintOption(OPTION.contentFormat, LINK_FORMAT));

/** A server that lists its links, filtered as the request's query says. */
function discoverable(seed: number): Plugtest {
  const test = new Plugtest(seed);
  const { handlers } = test.resources;
  handlers.set('/.well-known/core', ({ options }) =>
    asLinkFormat(filterLinks(LINKS, texts(options, OPTION.uriQuery))),
  );
  handlers.set('/path', () => asLinkFormat(SUB));
  for (const { target } of SUB) handlers.set(target, () => content(target));
  return test;
}

/** Discovers, checks what crossed, and answers the targets that the client displays. */
function discovered(seed: number, query?: string): { test: Plugtest; targets: string[] } {
  const test = discoverable(seed);
  const uri = `/.well-known/core${query === undefined ? '' : `?${query}`}`;
  const response = test.exchange(METHOD.get, { uri });
  test.expectLadder(`CON GET ${uri} ->`, '<- ACK 2.05');
  test.expectPiggybacked(0, 1);
  expect(test.format(1), test.wire.trace).toBe(LINK_FORMAT);
  expect(test.values(0, OPTION.uriQuery)).toEqual(query === undefined ? [] : [query]);
  return { test, targets: linksIn(response.payload).map(({ target }) => target) };
}

function linksIn(payload: Uint8Array): readonly WebLink[] {
  const links = parseLinks(fromUtf8(payload)!);
  if (!links.ok) throw new Error(links.problem);
  return links.value;
}

describe('ETSI test descriptions, link format', () => {
  it('TD_COAP_LINK_01: the well-known interface lists every link', () => {
    const { test, targets } = discovered(1);
    expect(targets).toEqual(LINKS.map(({ target }) => target));
    expect(linksIn(test.message(1).payload)).toEqual(LINKS);
  });

  it.each([
    ['02: the links of one type', 'rt=Type1', ['/link1', '/link3', '/link5']],
    [
      '03: the links that have a type, whichever',
      'rt=*',
      ['/link1', '/link2', '/link3', '/link4', '/link5', '/obs'],
    ],
    ['04: one of several types', 'rt=Type2', ['/link1', '/link2']],
    ['05: interfaces that begin alike', 'if=If*', ['/link1', '/link2']],
    ['06: the links that have a size', 'sz=*', ['/large']],
    ['07: one link by its reference', 'href=/link1', ['/link1']],
    [
      '08: links whose references begin alike',
      'href=/link*',
      ['/link1', '/link2', '/link3', '/link4', '/link5'],
    ],
  ])('TD_COAP_LINK_%s', (name, query, expected) => {
    expect(discovered(Number(name.slice(0, 2)), query).targets).toEqual(expected);
  });

  it('TD_COAP_LINK_09: a link that leads to a list of links', () => {
    const { test, targets } = discovered(9);
    expect(targets).toContain('/path');
    const list = linksIn(test.message(1).payload).find(({ target }) => target === '/path');
    expect(list).toEqual(link('/path', { ct: String(LINK_FORMAT) }));
    const below = linksIn(test.exchange(METHOD.get, { uri: '/path' }).payload);
    expect(test.format(3), test.wire.trace).toBe(LINK_FORMAT);
    expect(below).toEqual(SUB);
    const response = test.exchange(METHOD.get, { uri: below[0]!.target });
    test.expectLadder(
      'CON GET /.well-known/core ->',
      '<- ACK 2.05',
      'CON GET /path ->',
      '<- ACK 2.05',
      'CON GET /path/sub1 ->',
      '<- ACK 2.05',
    );
    expect(fromUtf8(response.payload)).toBe('/path/sub1');
  });
});
