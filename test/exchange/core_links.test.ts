import { describe, expect, it } from 'vitest';
import { fromUtf8 } from '../../src/base/bytes.ts';
import { coreResponse } from '../../src/exchange/core_links.ts';

const LINKS = [
  { target: '/a', attributes: [{ name: 'rt', value: 'x y' }] },
  { target: '/b', attributes: [] },
];

function found(query: string): string | undefined {
  const { status, body } = coreResponse(LINKS, query);
  expect({ status, kind: body?.kind }).toEqual({ status: 200, kind: 'bytes' });
  return body?.kind === 'bytes' ? fromUtf8(body.bytes) : undefined;
}

describe('/.well-known/core', () => {
  it('lists all links, or those that the query asks for', () => {
    expect(found('')).toBe('</a>;rt="x y",</b>');
    expect(found('rt=y')).toBe('</a>;rt="x y"');
    expect(found('href=%2Fb*')).toBe('</b>');
    expect(found('rt=none')).toBe('');
  });

  it('finds nothing by a filter that is no percent-encoded text', () => {
    expect(found('rt=%zz')).toBe('');
  });
});
