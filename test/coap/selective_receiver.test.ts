import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { Block } from '../../src/coap/block.ts';
import { code } from '../../src/coap/codes.ts';
import { DEFAULT_LIMITS, Peer } from '../../src/coap/core.ts';
import { REACH } from '../../src/coap/missing_blocks.ts';
import { OPTION, type Option, uintOption } from '../../src/coap/options.ts';
import { type AssemblySpace, SelectiveReceiver } from '../../src/coap/selective_receiver.ts';
import { SelectiveUploads } from '../../src/coap/selective_uploads.ts';
import { modelledTiming } from '../../src/coap/timing.ts';
import { bodyOf, same } from './bad_links.ts';

const SIZE = 16;
const FORMAT: Option = uintOption(OPTION.contentFormat, 60);

const spaceOf = (bodyBytes: number, assemblyBytes: number): AssemblySpace => ({
  limits: { bodyBytes, assemblyBytes },
  assembling: 0,
});

function blocksOf(body: Uint8Array): { block: Block; options: readonly Option[]; payload: Uint8Array }[] {
  const count = Math.ceil(body.length / SIZE);
  return Array.from({ length: count }, (_, num) => ({
    block: { num, more: num + 1 < count, size: SIZE },
    options: num === 0 ? [FORMAT] : [],
    payload: body.slice(num * SIZE, (num + 1) * SIZE),
  }));
}

const block = (num: number, more = true, size: Block['size'] = SIZE): Block => ({ num, more, size });
const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(7);

describe('the receiver of blocks', () => {
  it('hands a body out once and whole, with the options of its first block, in whatever order blocks come', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 * SIZE }), fc.integer({ min: 0 }), (length, seed) => {
        const random = seededRandom(seed);
        const space = spaceOf(10_000, 20_000);
        const receiver = new SelectiveReceiver(space);
        const body = bodyOf(`${seed}`, length);
        const blocks = blocksOf(body);
        const arrived = new Set<number>();
        let outcome: ReturnType<SelectiveReceiver['add']> | undefined;
        while (outcome === undefined) {
          const { block: one, options, payload } = blocks[random.integer(blocks.length)]!;
          const progress = receiver.add(one, options, payload);
          expect(progress.kind === 'ignored').toBe(arrived.has(one.num));
          arrived.add(one.num);
          if (progress.kind === 'complete') outcome = progress;
          else expect(space.assembling).toBeGreaterThan(0);
        }
        expect(arrived.size).toBe(blocks.length);
        expect(outcome.kind === 'complete' && same(outcome.body, body)).toBe(true);
        expect(outcome).toMatchObject({ options: [FORMAT] });
        expect(space.assembling).toBe(0);
        // Late copies find it over, and their acknowledgements still say that all has arrived.
        expect(receiver.add(blocks[0]!.block, [], blocks[0]!.payload)).toEqual({ kind: 'ignored' });
        expect(receiver.missing).toEqual({ first: blocks.length, behind: new Uint8Array(0) });
      }),
      { numRuns: 60 },
    );
  });

  it('says which blocks are missing', () => {
    const receiver = new SelectiveReceiver(spaceOf(1_000, 1_000));
    for (const num of [0, 1, 4, 6]) receiver.add(block(num), [], bytes(SIZE));
    expect(receiver.missing).toEqual({ first: 2, behind: Uint8Array.of(0b0101_0000) });
    receiver.add(block(2), [], bytes(SIZE));
    expect(receiver.missing).toEqual({ first: 3, behind: Uint8Array.of(0b1010_0000) });
  });

  it('takes room for what has arrived, and none for a block beyond the reach of a bitmap', () => {
    const space = spaceOf(2 ** 20, 2 ** 20);
    const receiver = new SelectiveReceiver(space);
    expect(receiver.add(block(REACH + 1), [], bytes(SIZE))).toEqual({ kind: 'ignored' });
    expect(space.assembling).toBe(0);
    for (let num = 0; num < 1_000; num++) {
      receiver.add(block(num), [], bytes(SIZE));
      expect(space.assembling).toBeLessThanOrEqual(Math.max(4 * SIZE, 2 * (num + 1) * SIZE));
    }
    expect(receiver.add(block(1_000 + REACH), [], bytes(SIZE))).toEqual({ kind: 'stored' });
    expect(receiver.add(block(1_001 + REACH), [], bytes(SIZE))).toEqual({ kind: 'ignored' });
    receiver.end();
    expect(space.assembling).toBe(0);
  });

  it.each<[string, readonly [Block, Uint8Array, (readonly Option[])?][], number]>([
    [
      'a block of another size',
      [
        [block(0), bytes(16)],
        [block(1, true, 32), bytes(32)],
      ],
      code(4, 0),
    ],
    ['a short block that is not the last', [[block(0), bytes(15)]], code(4, 0)],
    [
      'an empty last block',
      [
        [block(0), bytes(16)],
        [block(1, false), bytes(0)],
      ],
      code(4, 0),
    ],
    [
      'a last block in front of others',
      [
        [block(3), bytes(16)],
        [block(2, false), bytes(1)],
      ],
      code(4, 0),
    ],
    [
      'a block behind the last',
      [
        [block(2, false), bytes(1)],
        [block(3), bytes(16)],
      ],
      code(4, 0),
    ],
    [
      'a second last block',
      [
        [block(2, false), bytes(1)],
        [block(1, false), bytes(1)],
      ],
      code(4, 0),
    ],
    ['a body beyond its bound', [[block(62), bytes(16)]], code(4, 13)],
    [
      'a first block that announces too much',
      [[block(0), bytes(16), [uintOption(OPTION.size1, 1_001)]]],
      code(4, 13),
    ],
    ['a body for which there is no room', [[block(40), bytes(16)]], code(5, 3)],
  ])('ends the transfer at %s', (_, blocks, expected) => {
    const space = spaceOf(1_000, 500);
    const receiver = new SelectiveReceiver(space);
    const progress = blocks.map(([one, payload, options = []]) => receiver.add(one, options, payload));
    expect(progress.map(({ kind }) => kind)).toEqual([...blocks.slice(1).map(() => 'stored'), 'refused']);
    expect(progress.at(-1)).toEqual({ kind: 'refused', code: expected });
    expect(space.assembling).toBe(0);
  });
});

describe('the bodies that a server receives', () => {
  const timing = modelledTiming({ rate: 1200, delay: 300, overhead: 62, mtu: 1200 });
  const make = (limits = {}) => {
    const core = { limits: { ...DEFAULT_LIMITS, ...limits }, assembling: 0, timing: () => timing };
    const peers = ['a', 'b', 'c'].map(
      (name, i) => new Peer(name, seededRandom(i), { token: 2, handle: 2 }, 0),
    );
    return { core, uploads: new SelectiveUploads(core), peers };
  };
  const message = (length: number) => ({ options: [], payload: bytes(length) });

  it('are told apart by peer and token', () => {
    const { uploads, peers } = make();
    const [a, b] = [peers[0]!, peers[1]!];
    for (const [peer, token] of [
      [a, '01'],
      [a, '02'],
      [b, '01'],
    ] as const) {
      expect(uploads.add(peer, token, block(0), message(16), 0).missing.first).toBe(1);
    }
    expect(uploads.size).toBe(3);
    expect(uploads.add(a, '02', block(1, false), message(3), 0).progress).toMatchObject({ kind: 'complete' });
    expect(uploads.size).toBe(2);
  });

  it('expire when no block has come for a lifetime, and leave nothing', () => {
    const { core, uploads, peers } = make();
    uploads.add(peers[0]!, '01', block(0), message(16), 0);
    uploads.add(peers[0]!, '01', block(1), message(16), 5_000);
    uploads.add(peers[0]!, '02', block(0, false), message(16), 5_000);
    uploads.expire(4_999 + timing.exchangeLifetime);
    expect([uploads.size, uploads.over]).toEqual([1, 1]);
    uploads.expire(5_000 + timing.exchangeLifetime);
    expect([uploads.size, uploads.over, core.assembling]).toEqual([0, 0, 0]);
  });

  it('are forgotten with their peer', () => {
    const { core, uploads, peers } = make();
    for (const peer of peers) uploads.add(peer, '01', block(0), message(16), 0);
    uploads.forget(peers[0]!);
    expect(uploads.size).toBe(2);
    expect(core.assembling).toBe(2 * 4 * SIZE);
  });

  it('are recognised when late blocks come after the end: a copy starts no second body', () => {
    const { uploads, peers } = make();
    uploads.add(peers[0]!, '01', block(1, false), message(16), 0);
    expect(uploads.add(peers[0]!, '01', block(0), message(16), 0).progress.kind).toBe('complete');
    for (const late of [block(0), block(1, false)]) {
      const { progress, missing } = uploads.add(peers[0]!, '01', late, message(16), 0);
      expect([progress.kind, missing.first]).toEqual(['ignored', 2]);
    }
    expect(uploads.size).toBe(0);
  });

  it('stay refused: the checkpoint behind the block that was refused is told', () => {
    const { core, uploads, peers } = make({ bodyBytes: 100 });
    const announced = { options: [uintOption(OPTION.size1, 101)], payload: bytes(SIZE) };
    const refused = { kind: 'refused', code: code(4, 13) };
    expect(uploads.add(peers[0]!, '01', block(0), announced, 0).progress).toEqual(refused);
    expect(uploads.add(peers[0]!, '01', block(1), message(16), 0).progress).toEqual(refused);
    expect(uploads.add(peers[0]!, '02', block(1), message(16), 0).progress).toEqual({ kind: 'stored' });
    expect([uploads.size, uploads.over, core.assembling]).toEqual([1, 1, 4 * SIZE]);
  });

  it('are bounded for each peer, where the least recent gives way, and in all, where the new one is refused', () => {
    const { core, uploads, peers } = make({ assembliesPerPeer: 2, assemblies: 3 });
    const add = (peer: number, token: string, num = 0) =>
      uploads.add(peers[peer]!, token, block(num), message(16), 0);
    for (const token of ['01', '02']) add(0, token);
    add(0, '01', 1);
    add(0, '03');
    expect(uploads.size).toBe(2);
    expect(core.assembling).toBe(2 * 4 * SIZE);
    expect(add(0, '01', 2).missing.first).toBe(3);
    add(1, '01');
    expect(add(2, '01').progress).toEqual({ kind: 'refused', code: code(5, 3) });
    expect(uploads.size).toBe(3);
    for (let n = 0; n < 300; n++) {
      uploads.add(peers[1]!, `f${n}`, block(0, false), message(5), 0);
    }
    expect(uploads.over).toBeLessThan(256);
  });

  it('stay within their bounds whatever blocks come', () => {
    const limits = { bodyBytes: 5_000, assemblyBytes: 12_000, assembliesPerPeer: 3, assemblies: 7 };
    const kinds = new Map<string, number>();
    for (let seed = 0; seed < 20; seed++) {
      const random = seededRandom(seed);
      const { core, uploads, peers } = make(limits);
      for (let n = 0; n < 1_000; n++) {
        const size = random.integer(6) === 0 ? 64 : SIZE;
        const num = random.integer(random.integer(4) === 0 ? 2 ** 20 : 40);
        const more = random.integer(20) > 0;
        const length = more && random.integer(40) > 0 ? size : random.integer(size + 2);
        const { progress, missing } = uploads.add(
          peers[random.integer(peers.length)]!,
          `${random.integer(6)}`,
          { num, more, size },
          message(length),
          n * 1_000,
        );
        kinds.set(progress.kind, (kinds.get(progress.kind) ?? 0) + 1);
        expect(missing.behind.length).toBeLessThanOrEqual(REACH / 8);
        expect(core.assembling).toBeLessThanOrEqual(limits.assemblyBytes);
        expect(uploads.size).toBeLessThanOrEqual(limits.assemblies);
        if (random.integer(100) === 0) uploads.forget(peers[random.integer(peers.length)]!);
      }
      uploads.expire(Number.MAX_SAFE_INTEGER);
      expect(core.assembling, `seed ${seed}`).toBe(0);
    }
    expect([...kinds.keys()].sort()).toEqual(['complete', 'ignored', 'refused', 'stored']);
  });
});
