import { describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createIdentity, type ServerIdentity } from '../../src/pipe/identity.ts';
import { decodeRecord } from '../../src/pipe/record.ts';
import { type Captured, identityOf, Network, pair, perfect, Side, storingPair } from './harness.ts';

const MINUTE = 60_000;
const ETHERNET_IPV4_UDP = 42;
const count = (network: Network, label: string): number =>
  network.labels().filter((seen) => seen === label).length;
const sent = (network: Network, label: string): Captured[] =>
  network.captured.filter(({ from, datagram }) => `${from} ${datagram.label}` === label);
const established = (side: Side): number => side.events.filter(({ kind }) => kind === 'established').length;

/** A pair that has spoken; everything is quiet. */
function connected(sides = pair()): ReturnType<typeof pair> {
  const { network, a, b } = sides;
  b.onPayload = (peer, text) => b.send(peer, `re ${text}`);
  a.send('b.example', 'hello');
  network.advance(MINUTE);
  expect(a.payloads).toEqual(['b.example: re hello']);
  network.captured.length = 0;
  return sides;
}

const renew = (side: Side, peer: string): void => side.run(side.endpoint.renew(peer, side.now));

/** Both have one session, and it carries records both ways. */
function isWell({ network, a, b }: ReturnType<typeof pair>, text: string): void {
  a.send('b.example', text);
  network.advance(MINUTE);
  expect(b.payloads).toContain(`a.example: ${text}`);
  expect(a.payloads).toContain(`b.example: re ${text}`);
  network.advance(10 * MINUTE);
  expect([a, b].map(({ endpoint }) => endpoint.sizes)).toMatchObject([
    { sessions: 1, openings: 0, undecided: 0 },
    { sessions: 1, openings: 0, undecided: 0 },
  ]);
}

/** The same server with other keys. */
const rotated = (side: Side, serial: number): ServerIdentity => {
  const { serverName, signingKeyId } = side.identity;
  const signingSecret = seededRandom(7).bytes(32);
  return createIdentity({
    ...{ serverName, signingKeyId, signingSecret, serial },
    noiseSecret: seededRandom(90 + serial).bytes(32),
  });
};

function restartAs(side: Side, identity: ServerIdentity): void {
  side.config = { ...side.config, identity };
  side.restart();
}

describe('a handshake with a peer whose key is known', () => {
  it('takes IK1, IK2, a question and a confirmation, within the budget of W6', () => {
    const sides = connected();
    const { network, a } = sides;
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(network.labels()).toEqual(['a IK1', 'b IK2', 'a ask', 'b confirm']);
    const wire = network.captured
      .slice(0, 2)
      .reduce((sum, { datagram }) => sum + datagram.bytes.length + ETHERNET_IPV4_UDP, 0);
    // The row of its own: two boot ids, and the check of the identity.
    const identities = 8 + 8 + 6;
    expect(wire - identities).toBeLessThanOrEqual(144 + 2 * 48);
    isWell(sides, 'later');
  });

  it('carries data right behind IK2, and asks nothing then', () => {
    const sides = connected();
    const { network, a, b } = sides;
    renew(a, 'b.example');
    // While the answer is on its way there is the old session; without one what waits goes behind IK2.
    a.send('b.example', 'on the old one');
    network.advance(MINUTE);
    expect(b.payloads.at(-1)).toBe('a.example: on the old one');
    expect(established(b)).toBe(2);
    isWell(sides, 'later');
  });

  it('is what seven days lead to', () => {
    const sides = connected(pair(1, { renewAfterMs: 60 * MINUTE }));
    const { network, a, b } = sides;
    for (let hour = 0; hour < 4; hour++) {
      network.advance(61 * MINUTE);
      a.send('b.example', `hour ${hour}`);
      network.advance(MINUTE);
    }
    expect(b.payloads.slice(1)).toEqual([0, 1, 2, 3].map((hour) => `a.example: hour ${hour}`));
    expect(count(network, 'a IK1')).toBe(4);
    expect(network.labels().filter((label) => / XX/.test(label))).toEqual([]);
    expect(a.events.filter((event) => event.kind === 'established' && event.restarted)).toEqual([]);
  });

  it('is also known after a restart with stored sessions, and replayed handshakes from before do nothing', () => {
    const sides = connected(storingPair());
    const { network, a, b } = sides;
    renew(a, 'b.example');
    network.advance(MINUTE);
    const old = sent(network, 'a IK1')[0]!.datagram.bytes;
    b.restart();
    a.restart();
    network.captured.length = 0;
    network.deliver('a', 'b', old);
    expect(network.labels()).toEqual([]);
    expect(b.endpoint.statistics.replayed).toBe(1);
    renew(b, 'a.example');
    network.advance(MINUTE);
    expect(network.labels().slice(0, 2)).toEqual(['b IK1', 'a IK2']);
    expect(network.labels().filter((label) => / XX/.test(label))).toEqual([]);
    isWell(sides, 'after the restart');
  });

  it.each(['IK1', 'IK2', 'ask', 'confirm'])('survives the loss of %s', (lost) => {
    const sides = connected();
    const { network, a, b } = sides;
    let left = 1;
    network.channel = (seen) => (seen.datagram.label === lost && left-- > 0 ? [] : perfect()(seen));
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(left).toBe(-1);
    expect([established(a), established(b)]).toEqual([2, 2]);
    isWell(sides, 'later');
  });

  it('survives each message twice, late ones included', () => {
    const sides = connected();
    const { network, a, b } = sides;
    network.channel = (seen) => [
      ...perfect()(seen),
      { after: 60, bytes: seen.datagram.bytes },
      { after: 5_000, bytes: seen.datagram.bytes },
    ];
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect([established(a), established(b)]).toEqual([2, 2]);
    const answers = sent(network, 'b IK2').map(({ datagram }) => hex(datagram.bytes));
    expect(answers.length).toBeGreaterThan(1);
    expect(new Set(answers).size).toBe(1);
    isWell(sides, 'later');
  });

  it.each(['IK1', 'IK2', 'ask', 'confirm'])('survives a restart of either side behind %s', (label) => {
    for (const which of ['a', 'b'] as const) {
      for (const make of [pair, storingPair]) {
        const sides = connected(make());
        const { network, a } = sides;
        network.onSend = (_, datagram) => {
          if (datagram.label !== label) return;
          network.onSend = () => {};
          network.clock.after(1, () => sides[which].restart());
        };
        renew(a, 'b.example');
        network.advance(MINUTE);
        // Copies, as a protocol above would send them.
        for (let copy = 0; copy < 20; copy++) {
          a.send('b.example', `copy ${copy}`);
          network.advance(3_000);
          if (copy % 4 === 3) renew(a, 'b.example');
        }
        isWell(sides, 'later');
      }
    }
  });
});

describe('forged messages of IK first, the genuine one after', () => {
  it('IK1: bytes changed, and an attacker who has a key of his own', () => {
    const sides = connected();
    const { network, a, b } = sides;
    const before = b.events.length;
    let genuine = false;
    network.channel = (seen) => {
      if (seen.datagram.label === 'IK1') {
        const { bytes } = seen.datagram;
        for (let at = 0; at < bytes.length; at++) {
          const changed = bytes.slice();
          changed[at]! ^= 0x41;
          network.deliver('a', 'b', changed);
        }
        genuine = true;
      }
      return perfect()(seen);
    };
    // A server that b knows as well, and that is not a.
    const mallory = network.add('mallory.example', 'mallory', 99);
    mallory.send('b.example', 'hello');
    network.advance(1_000);
    network.captured.length = 0;
    renew(mallory, 'b.example');
    const own = network.captured[0]!.datagram.bytes;
    network.deliver('a', 'b', own);
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(genuine).toBe(true);
    const peers = b.events.slice(before).filter(({ kind }) => kind === 'established');
    expect(peers.filter((event) => event.kind === 'established' && event.peer === 'a.example')).toHaveLength(
      1,
    );
    expect(b.payloads).toEqual(['a.example: hello', 'mallory.example: hello']);
    a.send('b.example', 'later');
    network.advance(MINUTE);
    expect(a.payloads.at(-1)).toBe('b.example: re later');
  });

  it('IK2: bytes changed, and an attacker who goes on with XX under the name of the peer, or under his own', () => {
    for (const name of ['b.example', 'mallory.example']) {
      const sides = connected();
      const { network, a, b } = sides;
      a.trust = ({ serverName, noisePublic }) =>
        serverName !== 'b.example' || hex(noisePublic) === hex(b.identity.noisePublic)
          ? { trusted: true }
          : { trusted: false, reason: 'not yours' };
      const shadow = new Network();
      const mallory = new Side(shadow, 'b', identityOf(name, seededRandom(99)), seededRandom(98));
      shadow.join(mallory);
      network.channel = (seen) => {
        if (seen.datagram.label === 'IK1') {
          mallory.run(mallory.endpoint.receive('a', seen.datagram.bytes, network.clock.monotonic()));
          const second = shadow.captured.find(({ datagram }) => datagram.label === 'XX2')!.datagram.bytes;
          network.deliver('b', 'a', second);
        }
        if (seen.datagram.label === 'IK2') {
          const { bytes } = seen.datagram;
          for (let at = 0; at < bytes.length; at++) {
            const changed = bytes.slice();
            changed[at]! ^= 0x41;
            network.deliver('b', 'a', changed);
          }
        }
        return perfect()(seen);
      };
      renew(a, 'b.example');
      network.advance(MINUTE);
      expect(a.events.filter(({ kind }) => kind === 'refused')).toHaveLength(1);
      expect([established(a), established(b)]).toEqual([2, 2]);
      network.channel = perfect();
      isWell(sides, 'later');
    }
  });

  it('the first record: bytes changed make nothing of the answer, and nobody uses the new session before it', () => {
    const sides = connected();
    const { network, a, b } = sides;
    network.channel = (seen) => {
      if (seen.datagram.label !== 'ask') return perfect()(seen);
      const { bytes } = seen.datagram;
      for (let at = 0; at < bytes.length; at++) {
        const changed = bytes.slice();
        changed[at]! ^= 0x41;
        network.deliver('a', 'b', changed);
      }
      expect(established(b)).toBe(1);
      return perfect()(seen);
    };
    renew(a, 'b.example');
    network.advance(30);
    expect(b.endpoint.sizes).toMatchObject({ sessions: 1, halfOpen: 2 });
    b.send('a.example', 'from b, on the old session');
    network.advance(MINUTE);
    expect(a.payloads).toContain('b.example: from b, on the old session');
    expect(established(b)).toBe(2);
    isWell(sides, 'later');
  });
});

describe('an IK1 that comes late', () => {
  it('is answered once more while its answer is kept, and by nothing after that', () => {
    const sides = connected();
    const { network, a, b } = sides;
    renew(a, 'b.example');
    network.advance(MINUTE);
    const first = sent(network, 'a IK1')[0]!.datagram.bytes;
    network.captured.length = 0;
    network.deliver('mallory', 'b', first);
    expect(network.labels()).toEqual(['b IK2']);
    network.advance(15 * MINUTE);
    network.captured.length = 0;
    network.deliver('mallory', 'b', first);
    network.deliver('a', 'b', first);
    expect(network.labels()).toEqual([]);
    expect(b.endpoint.statistics.replayed).toBe(2);
    expect(b.endpoint.sizes).toMatchObject({ halfOpen: 0, sessions: 1 });
    isWell(sides, 'later');
  });

  it('held back and delivered when both have gone on changes nothing that is in use', () => {
    const sides = connected();
    const { network, a, b } = sides;
    let held: Uint8Array | undefined;
    network.channel = (seen) => {
      if (seen.datagram.label !== 'IK1' || held !== undefined) return perfect()(seen);
      held = seen.datagram.bytes;
      return [];
    };
    renew(a, 'b.example');
    a.restart();
    network.advance(MINUTE);
    // Fresh for b, and a does not know of it any more.
    network.deliver('a', 'b', held!);
    network.advance(1_000);
    expect(established(b)).toBe(1);
    b.send('a.example', 'lost with the restart');
    network.advance(MINUTE);
    isWell(sides, 'later');
    expect(established(a)).toBe(2);
  });
});

describe('an IK1 that cannot be accepted', () => {
  it('by a responder with a new static key: XX goes on from it, and the new key is accepted', () => {
    const sides = connected();
    const { network, a, b } = sides;
    restartAs(b, rotated(b, 2));
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(network.labels().slice(0, 3)).toEqual(['a IK1', 'b XX2', 'a XX3']);
    expect(a.events.findLast(({ kind }) => kind === 'established')).toMatchObject({ claim: { serial: 2 } });
    isWell(sides, 'later');
    network.captured.length = 0;
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(network.labels()).toEqual(['a IK1', 'b IK2', 'a ask', 'b confirm']);
  });

  it('by a responder that has the same key and another identity, as a new signing key', () => {
    const sides = connected();
    const { network, a, b } = sides;
    const signingSecret = seededRandom(5).bytes(32);
    const { serverName, noiseSecret } = b.identity;
    restartAs(
      b,
      createIdentity({ serverName, noiseSecret, signingSecret, signingKeyId: 'ed25519:k2', serial: 1 }),
    );
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(network.labels().slice(0, 2)).toEqual(['a IK1', 'b XX2']);
    expect(a.events.findLast(({ kind }) => kind === 'established')).toMatchObject({
      claim: { signingKeyId: 'ed25519:k2' },
    });
  });

  it('by a responder that has forgotten the initiator', () => {
    const sides = connected();
    const { network, a, b } = sides;
    b.restart();
    a.send('b.example', 'hint, please');
    network.advance(MINUTE);
    expect(network.labels().slice(1, 5)).toEqual(['b hint', 'a IK1', 'b XX2', 'a XX3']);
    isWell(sides, 'later');
  });

  it('from an initiator with another identity under the same key', () => {
    const sides = connected(storingPair());
    const { network, a, b } = sides;
    const signingSecret = seededRandom(5).bytes(32);
    const { serverName, noiseSecret } = a.identity;
    restartAs(
      a,
      createIdentity({ serverName, noiseSecret, signingSecret, signingKeyId: 'ed25519:k2', serial: 2 }),
    );
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(network.labels()).toEqual(expect.arrayContaining(['a IK1', 'b XX2', 'a XX3']));
    expect(b.events.findLast(({ kind }) => kind === 'established')).toMatchObject({
      claim: { signingKeyId: 'ed25519:k2', serial: 2 },
    });
  });

  it('binds what was refused: XX2 to another IK1 under the same ephemeral key is no answer', () => {
    const sides = connected();
    const { network, a, b } = sides;
    restartAs(b, rotated(b, 2));
    let attacked = false;
    network.channel = (seen) => {
      if (seen.datagram.label !== 'IK1' || attacked) return perfect()(seen);
      attacked = true;
      // One byte of the sealed static key: b cannot read either, and answers both.
      const changed = seen.datagram.bytes.slice();
      changed[60]! ^= 1;
      return [{ after: 20, bytes: changed }];
    };
    renew(a, 'b.example');
    network.advance(100);
    expect(count(network, 'b XX2')).toBe(1);
    expect(a.endpoint.statistics.unauthenticated).toBe(1);
    expect(established(a)).toBe(1);
    network.advance(MINUTE);
    isWell(sides, 'later');
  });

  it('that stays unanswered gives way to XX', () => {
    const sides = connected();
    const { network, a } = sides;
    network.channel = (seen) => (seen.datagram.label === 'IK1' ? [] : perfect()(seen));
    renew(a, 'b.example');
    network.advance(5 * MINUTE);
    expect(count(network, 'a IK1')).toBe(3);
    expect(network.labels().slice(3, 5)).toEqual(['a XX1', 'b XX2']);
    isWell(sides, 'later');
  });

  it('is long enough that the answer is no amplification, and is not answered where it was cut', () => {
    const network = new Network();
    const name = `${'b'.repeat(200)}.example`;
    const a = network.add('a.example', 'a', 1);
    const b = network.add(name, 'b', 2);
    a.send(name, 'hello');
    network.advance(MINUTE);
    restartAs(b, rotated(b, 2));
    network.captured.length = 0;
    renew(a, name);
    network.advance(MINUTE);
    const [first, second] = ['a IK1', 'b XX2'].map((label) => sent(network, label)[0]!.datagram.bytes);
    expect(second!.length).toBeGreaterThan(400);
    expect(second!.length).toBeLessThanOrEqual(3 * first!.length);
    b.restart();
    network.captured.length = 0;
    network.deliver('a', 'b', first!.subarray(0, 110));
    expect(network.labels()).toEqual([]);
  });
});

describe('two openings that cross', () => {
  it.each([1, 2, 3, 4, 5, 6])(
    'both IK: one session comes of it, the one of the smaller key (seed %i)',
    (seed) => {
      const sides = connected(pair(seed));
      const { network, a, b } = sides;
      renew(a, 'b.example');
      renew(b, 'a.example');
      a.send('b.example', 'from a');
      b.send('a.example', 'from b');
      network.advance(MINUTE);
      const winner = hex(a.identity.noisePublic) < hex(b.identity.noisePublic) ? 'a' : 'b';
      expect(network.labels().filter((label) => label.endsWith('ask'))).toEqual([`${winner} ask`]);
      expect([established(a), established(b)]).toEqual([2, 2]);
      expect(a.payloads).toContain('b.example: from b');
      expect(b.payloads).toContain('a.example: from a');
      isWell(sides, 'later');
    },
  );

  it.each([1, 2, 3, 4, 5, 6])('IK and XX, where one side has forgotten the other (seed %i)', (seed) => {
    for (const which of ['a', 'b'] as const) {
      const sides = connected(pair(seed));
      const { network, a, b } = sides;
      sides[which].restart();
      const from = network.captured.length;
      if (which === 'a') renew(b, 'a.example');
      else renew(a, 'b.example');
      sides[which].send(which === 'a' ? 'b.example' : 'a.example', 'crossing');
      network.advance(MINUTE);
      expect(
        network
          .labels()
          .slice(from, from + 2)
          .sort(),
      ).toEqual(which === 'a' ? ['a XX1', 'b IK1'] : ['a IK1', 'b XX1']);
      expect((which === 'a' ? b : a).payloads.at(-1)).toMatch(/crossing$/);
      expect(sides[which].events.filter(({ kind }) => kind === 'established').length).toBeGreaterThan(0);
      isWell(sides, 'later');
    }
  });

  it('the other goes on where the winner’s first record stays away', () => {
    const sides = connected();
    const { network, a, b } = sides;
    const winner = hex(a.identity.noisePublic) < hex(b.identity.noisePublic) ? 'a' : 'b';
    network.channel = (seen) =>
      seen.from === winner && seen.datagram.label === 'ask' ? [] : perfect()(seen);
    renew(a, 'b.example');
    renew(b, 'a.example');
    network.advance(MINUTE);
    network.channel = perfect();
    isWell(sides, 'later');
  });
});

describe('generations', () => {
  it('grow with the clock, so that a side that was set back by an old disk is not taken for a repetition for long', () => {
    const sides = connected(storingPair());
    const { network, a } = sides;
    const image = a.disk!.rows;
    renew(a, 'b.example');
    network.advance(MINUTE);
    a.disk!.rows = image;
    a.restart();
    network.advance(MINUTE);
    network.captured.length = 0;
    renew(a, 'b.example');
    network.advance(MINUTE);
    expect(network.labels().slice(0, 2)).toEqual(['a IK1', 'b IK2']);
    isWell(sides, 'later');
    const record = decodeRecord(network.captured[0]!.datagram.bytes);
    expect(record.ok && record.value.kind).toBe('IK1');
  });
});
