import { describe, expect, it } from 'vitest';
import type { Link } from '../../src/link/link.ts';
import { resolvingLink } from '../../src/link/resolving.ts';

function recording(): { link: Link; sent: string[] } {
  const sent: string[] = [];
  const link: Link = {
    profile: { mtu: 1200, rate: null, delay: 0, overhead: 42 },
    send: (to, bytes) => void sent.push(`${to} ${bytes[0]}`),
    onReceive: () => undefined,
    close: async () => undefined,
  };
  return { link, sent };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a link that resolves names', () => {
  it('passes numeric addresses on as they are', () => {
    const { link, sent } = recording();
    const lookup = (): never => {
      throw new Error('nothing to look up');
    };
    const resolving = resolvingLink({ link, lookup, now: () => 0 });
    resolving.send('127.0.0.1:5683', new Uint8Array([1]));
    resolving.send('[::1]:5683', new Uint8Array([2]));
    expect(sent).toEqual(['127.0.0.1:5683 1', '[::1]:5683 2']);
  });

  it('looks a name up once a minute, and does not lose the first datagram over it', async () => {
    const { link, sent } = recording();
    let now = 0;
    let lookups = 0;
    const lookup = async (): Promise<string> => `192.0.2.${++lookups}:1`;
    const resolving = resolvingLink({ link, lookup, now: () => now });
    resolving.send('bravo:1', new Uint8Array([1]));
    await settled();
    resolving.send('bravo:1', new Uint8Array([2]));
    now = 61_000;
    resolving.send('bravo:1', new Uint8Array([3]));
    await settled();
    resolving.send('bravo:1', new Uint8Array([4]));
    expect(sent).toEqual(['192.0.2.1:1 1', '192.0.2.1:1 2', '192.0.2.1:1 3', '192.0.2.2:1 4']);
    expect(lookups).toBe(2);
  });

  it('loses what goes to a name that has no address', async () => {
    const { link, sent } = recording();
    const resolving = resolvingLink({ link, lookup: async () => undefined, now: () => 0 });
    resolving.send('nowhere:1', new Uint8Array([1]));
    await settled();
    expect(sent).toEqual([]);
  });
});
