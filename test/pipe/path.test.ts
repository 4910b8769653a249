import { describe, expect, it } from 'vitest';
import { Path } from '../../src/pipe/path.ts';

const challenge = new Uint8Array(8).fill(7);
const make = (): Uint8Array => challenge;

describe('the address of a session', () => {
  it('is the new one once a challenge has come back from there, and both get everything until then', () => {
    const path = new Path('old');
    path.heard('new', 100, make);
    expect(path.route(40)).toEqual(['new', 'old']);
    path.answered('new', new Uint8Array(8));
    path.answered('elsewhere', challenge);
    expect(path.address).toBe('old');
    path.answered('new', challenge);
    expect(path.address).toBe('new');
    expect(path.route(10_000)).toEqual(['new']);
  });

  it('is not proved by an answer to the challenge of another one', () => {
    const path = new Path('old');
    path.heard('victim', 100, make);
    path.heard('other', 100, () => new Uint8Array(8).fill(8));
    path.answered('victim', challenge);
    path.answered('other', challenge);
    expect(path.address).toBe('old');
  });

  it('gets three times what came from it at most while it is not proved', () => {
    const path = new Path('old');
    path.heard('victim', 20, make);
    path.heard('victim', 20, make);
    let sent = 0;
    for (let i = 0; i < 50; i++) for (const to of path.route(17)) if (to === 'victim') sent += 17;
    expect(sent).toBe(119);
    expect(path.challengeTo(17)).toBeUndefined();
    expect(path.route(17)).toEqual(['old']);
  });

  it('is the old one again as soon as the peer is heard there', () => {
    const path = new Path('old');
    path.heard('victim', 100, make);
    path.heard('old', 20, make);
    expect(path.route(40)).toEqual(['old']);
    expect(path.includes('victim')).toBe(false);
    path.answered('victim', challenge);
    expect(path.address).toBe('old');
  });
});
