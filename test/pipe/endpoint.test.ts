import { describe, expect, it, vi } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { PipeEvent } from '../../src/pipe/endpoint.ts';
import { decodeRecord, encodeHint } from '../../src/pipe/record.ts';
import { Session } from '../../src/pipe/session.ts';
import { type Captured, identityOf, Network, pair, perfect, Side } from './harness.ts';

const MINUTE = 60_000;
const kinds = (side: Side): PipeEvent['kind'][] => side.events.map(({ kind }) => kind);
const count = (network: Network, label: string): number =>
  network.labels().filter((seen) => seen === label).length;
const datagram = (network: Network, label: string): Captured =>
  network.captured.find(({ from, datagram: seen }) => `${from} ${seen.label}` === label)!;

/** A pair with a session, on which both have spoken. */
function connected(limits = {}): ReturnType<typeof pair> {
  const sides = pair(1, limits);
  const { network, a, b } = sides;
  b.onPayload = (peer, text) => b.send(peer, `re ${text}`);
  a.send('b.example', 'hello');
  network.advance(MINUTE);
  expect(a.payloads).toEqual(['b.example: re hello']);
  return sides;
}

/** Someone in the middle who has keys of their own and calls themselves `name`. */
function impostor(name: string, address: string): Side {
  const own = new Network();
  const side = new Side(own, address, identityOf(name, seededRandom(99)), seededRandom(98));
  own.join(side);
  return side;
}

describe('first contact', () => {
  it('takes XX1, XX2, XX3 and the record, and the answer confirms', () => {
    const { network, a, b } = connected();
    network.advance(10 * MINUTE);
    expect(network.labels()).toEqual(['a XX1', 'b XX2', 'a XX3', 'a data test', 'b data test']);
    expect(kinds(a)).toEqual(['identity', 'established', 'payload']);
    expect(kinds(b)).toEqual(['identity', 'established', 'payload']);
    expect(a.events[0]).toMatchObject({ claim: { serverName: 'b.example', serial: 1 }, address: 'b' });
    expect(hex(b.endpoint.sizes.sessions === 1 ? b.identity.noisePublic : new Uint8Array())).toBe(
      hex((a.events[1] as Extract<PipeEvent, { kind: 'established' }>).claim.noisePublic),
    );
  });

  it('costs 20 bytes a record, and nobody gets more than three times what they sent', () => {
    const { network } = connected();
    const length = (label: string): number => datagram(network, label).datagram.bytes.length;
    expect(length('a data test')).toBe('hello'.length + 20);
    expect(length('b XX2')).toBeLessThanOrEqual(3 * length('a XX1'));
  });

  it('an XX1 that is too short for the answer gets none', () => {
    const { network, b } = pair();
    const { a } = connected();
    const first = datagram(a.network, 'a XX1').datagram.bytes;
    network.deliver('a', 'b', first.subarray(0, first.length - 30));
    expect(network.labels()).toEqual([]);
    expect(b.endpoint.sizes.halfOpen).toBe(0);
  });

  it('is repeated by timers that grow while something waits, starting when it has left; events tell', () => {
    const { network, a } = pair();
    network.channel = () => [];
    a.send('b.example', 'hello', 5);
    network.advance(20 * MINUTE);
    const times = network.captured.map(({ at }) => at);
    const gaps = times.slice(1).map((at, i) => at - times[i]!);
    expect(gaps[0]).toBeGreaterThanOrEqual(2_040);
    expect(gaps[0]).toBeLessThan(2_600);
    expect(gaps[5]).toBeGreaterThan(60_000);
    expect(times.length).toBeLessThan(14);
    const events = a.events.filter(({ kind }) => kind === 'unreachable');
    expect(events.at(-1)).toMatchObject({ peer: 'b.example', attempts: events.length });
    // After a quarter of an hour the record is given up, and with it the handshake.
    expect(a.events.filter(({ kind }) => kind === 'dropped')).toEqual([{ kind: 'dropped', receipt: 5 }]);
    expect(a.endpoint.sizes.openings).toBe(0);
    expect(a.endpoint.tick(a.now).deadline).toBeNull();
  });

  it('at 100 bit/s nothing is sent twice', () => {
    const { network, a, b } = pair();
    network.timing = { rate: 100, delay: 2_000, overhead: 42 };
    // Each direction carries one datagram after the other.
    const free: Record<string, number> = { a: 0, b: 0 };
    const leaves = ({ from, bytes }: { from: string; bytes: Uint8Array }): number => {
      free[from] = Math.max(free[from]!, network.clock.monotonic()) + ((bytes.length + 42) * 8_000) / 100;
      return free[from]! - network.clock.monotonic();
    };
    network.leaves = leaves;
    network.channel = ({ datagram: { bytes }, leaves: after }) => [{ after: after + 2_000, bytes }];
    b.onPayload = (peer, text) => b.send(peer, `re ${text}`);
    a.send('b.example', 'x'.repeat(60));
    network.advance(20 * MINUTE);
    expect(network.labels()).toEqual(['a XX1', 'b XX2', 'a XX3', 'a data test', 'b data test']);
    expect(a.payloads).toHaveLength(1);
  });

  it('survives the loss of each message', () => {
    for (const lost of ['XX1', 'XX2', 'XX3', 'data test']) {
      const { network, a, b } = pair();
      let left = 1;
      network.channel = (sent) => (sent.datagram.label === lost && left-- > 0 ? [] : perfect()(sent));
      a.send('b.example', 'hello');
      network.advance(MINUTE);
      a.send('b.example', 'again');
      network.advance(MINUTE);
      expect(b.payloads.at(-1), lost).toBe('a.example: again');
    }
  });

  it('a repeated XX1 gets the same XX2, and a repeated XX3 a confirmation', () => {
    const { network, a, b } = pair();
    a.send('b.example', 'hello');
    network.advance(1_000);
    network.deliver('a', 'b', datagram(network, 'a XX1').datagram.bytes);
    const answers = network.captured.filter(({ datagram: { label } }) => label === 'XX2');
    expect(hex(answers[1]!.datagram.bytes)).toBe(hex(answers[0]!.datagram.bytes));
    expect(b.endpoint.sizes.halfOpen).toBe(1);
    // That brought XX3 again, and this the confirmation; then it is quiet.
    network.advance(10 * MINUTE);
    expect(count(network, 'a XX3')).toBe(2);
    expect(count(network, 'b confirm')).toBe(1);
    expect(kinds(a)).not.toContain('payload');
  });
});

describe('forged handshake messages first, the genuine one after', () => {
  it('XX1 and XX3: bytes changed, and a whole handshake with an attacker’s key under the same name', () => {
    const { network, a, b } = pair();
    b.trust = ({ noisePublic }) =>
      hex(noisePublic) === hex(a.identity.noisePublic)
        ? { trusted: true }
        : { trusted: false, reason: 'not yours' };
    const mallory = impostor('a.example', 'a');
    mallory.endpoint.setPeer('b.example', 'b');
    mallory.send('b.example', 'forged');
    network.deliver('a', 'b', datagram(mallory.network, 'a XX1').datagram.bytes);
    network.channel = ({ datagram: seen }) => {
      if (seen.label !== 'XX3') return perfect()({ from: '', to: '', datagram: seen, leaves: 0 });
      const copies = [...seen.bytes.keys()].map((at) => {
        const bytes = seen.bytes.slice();
        bytes[at]! ^= 0x55;
        return { after: 10, bytes };
      });
      return [...copies, { after: 20, bytes: seen.bytes }];
    };
    // The attacker finishes its own handshake and aims the XX3 at every connection there is.
    const answer = network.captured.find(({ from }) => from === 'b')!;
    mallory.network.deliver('b', 'a', answer.datagram.bytes);
    const third = datagram(mallory.network, 'a XX3').datagram.bytes;
    a.send('b.example', 'hello');
    network.advance(15 + 20);
    for (let id = 0; id < 128; id++) {
      const aimed = third.slice();
      aimed[1] = id;
      network.deliver('a', 'b', aimed);
    }
    network.advance(MINUTE);
    expect(b.payloads).toEqual(['a.example: hello']);
    expect(b.events.filter(({ kind }) => kind === 'established')).toHaveLength(1);
    expect(b.events).toContainEqual({ kind: 'refused', by: 'us', peer: 'a.example', reason: 'not yours' });
  });

  it.each(['b.example', 'mallory.example'])(
    'XX2: an attacker who calls himself %s answers before the peer',
    (name) => {
      const { network, a, b } = pair();
      // Somebody with another name is trusted under that name, as any server is.
      a.trust = ({ serverName, noisePublic }) =>
        serverName !== 'b.example' || hex(noisePublic) === hex(b.identity.noisePublic)
          ? { trusted: true }
          : { trusted: false, reason: 'not yours' };
      const mallory = impostor(name, 'b');
      network.channel = ({ from, datagram: seen }) => {
        if (seen.label === 'XX1') {
          mallory.run(mallory.endpoint.receive(from, seen.bytes, network.clock.monotonic()));
          const second = mallory.network.captured[0]!.datagram.bytes;
          network.deliver('b', 'a', second);
          for (let at = 0; at < second.length; at++) {
            const bytes = second.slice();
            bytes[at]! ^= 0x55;
            network.deliver('b', 'a', bytes);
          }
        }
        return [{ after: 20, bytes: seen.bytes }];
      };
      a.send('b.example', 'hello');
      network.advance(MINUTE);
      expect(a.events.filter(({ kind }) => kind === 'refused')).toHaveLength(1);
      expect(a.events.filter(({ kind }) => kind === 'established')).toHaveLength(1);
      expect(b.payloads).toEqual(['a.example: hello']);
    },
  );

  it('XX2: no part of the genuine one takes its place', () => {
    const { network, a, b } = pair();
    network.channel = ({ to, datagram: seen }) => {
      if (seen.label === 'XX2') {
        for (let length = 1; length < seen.bytes.length; length++)
          network.deliver('b', to, seen.bytes.slice(0, length));
      }
      return [{ after: 20, bytes: seen.bytes }];
    };
    a.send('b.example', 'hello');
    network.advance(MINUTE);
    expect(b.payloads).toEqual(['a.example: hello']);
    expect(count(network, 'a XX1')).toBe(1);
  });

  it('records: no changed byte is accepted, moves the address, or stops the genuine one', () => {
    const { network, a, b } = connected();
    network.channel = ({ datagram: seen }) => {
      for (let at = 0; at < seen.bytes.length; at++) {
        const bytes = seen.bytes.slice();
        bytes[at]! ^= 0x01;
        network.deliver('mallory', seen.to, bytes);
      }
      return [{ after: 1, bytes: seen.bytes }];
    };
    a.send('b.example', 'second');
    network.advance(1_000);
    expect(b.payloads).toEqual(['a.example: hello', 'a.example: second']);
    expect(a.payloads).toEqual(['b.example: re hello', 'b.example: re second']);
    const record = network.captured.findLast(
      ({ from, datagram: { label } }) => from === 'a' && label === 'data test',
    )!.datagram.bytes;
    network.deliver('mallory', 'b', record);
    expect(b.endpoint.statistics.replayed).toBe(1);
    expect(
      network.captured.filter(({ datagram: { to, label } }) => to === 'mallory' && label !== 'hint'),
    ).toEqual([]);
  });
});

describe('trust', () => {
  it('nothing is delivered or sent before the decision; what came before it is held within its bound', () => {
    const { network, a, b } = pair(1, { heldRecords: 2 });
    b.decisionDelay = () => 5_000;
    // Too long to share a record.
    const texts = ['1', '2', '3'].map((text) => text.repeat(200));
    for (const text of texts) a.send('b.example', text);
    b.send('a.example', 'mine');
    network.channel = (sent) => (sent.from === 'b' && sent.datagram.label === 'XX1' ? [] : perfect()(sent));
    network.advance(4_000);
    expect(b.payloads).toEqual([]);
    expect(count(network, 'b data test')).toBe(0);
    network.advance(MINUTE);
    expect(b.payloads).toEqual(texts.slice(0, 2).map((text) => `a.example: ${text}`));
    expect(b.endpoint.statistics.notHeld).toBe(1);
    expect(a.payloads).toEqual(['b.example: mine']);
  });

  it.each(['a', 'b'] as const)(
    'a refusal by %s is told to the other and is loud, and handshakes pause',
    (who) => {
      const { network, a, b } = pair();
      const [refusing, refused] = who === 'a' ? [a, b] : [b, a];
      refusing.trust = () => ({ trusted: false, reason: 'no such key' });
      a.send('b.example', 'hello');
      network.advance(20_000);
      expect(refusing.events).toContainEqual(
        expect.objectContaining({ kind: 'refused', by: 'us', reason: 'no such key' }),
      );
      expect(refused.events).toContainEqual(
        expect.objectContaining({ kind: 'refused', by: 'peer', reason: 'no such key' }),
      );
      expect(b.payloads).toEqual([]);
      expect(refused.endpoint.sizes.sessions).toBe(0);
      // Still sending, the refused one does not shake hands again and again.
      if (who === 'b') {
        for (let i = 0; i < 20; i++) a.send('b.example', `${i}`);
        network.advance(5_000);
        expect(count(network, 'a XX1')).toBe(1);
        refusing.trust = () => ({ trusted: true });
        network.advance(MINUTE);
        expect(b.payloads).toHaveLength(20);
      }
    },
  );
});

describe('two openings that cross', () => {
  it.each([1, 2, 3, 4, 5, 6])(
    'the one of the smaller Noise key wins and nothing is lost (seed %i)',
    (seed) => {
      const { network, a, b } = pair(seed);
      a.send('b.example', 'from a');
      b.send('a.example', 'from b');
      network.advance(MINUTE);
      const winner = hex(a.identity.noisePublic) < hex(b.identity.noisePublic) ? 'a' : 'b';
      expect(network.labels().filter((label) => label.endsWith('XX3'))).toEqual([`${winner} XX3`]);
      expect(a.payloads).toEqual(['b.example: from b']);
      expect(b.payloads).toEqual(['a.example: from a']);
      expect([a, b].map(({ endpoint }) => endpoint.sizes.sessions)).toEqual([1, 1]);
      expect([a, b].map(({ endpoint }) => endpoint.sizes.openings)).toEqual([0, 0]);
    },
  );

  it('the other goes on where the winner’s XX3 stays away', () => {
    const { network, a, b } = pair();
    const winner = hex(a.identity.noisePublic) < hex(b.identity.noisePublic) ? 'a' : 'b';
    network.channel = (sent) =>
      sent.from === winner && sent.datagram.label === 'XX3' ? [] : perfect()(sent);
    a.send('b.example', 'from a');
    b.send('a.example', 'from b');
    network.advance(MINUTE);
    for (const [side, peer] of [
      [a, 'b.example'],
      [b, 'a.example'],
    ] as const)
      side.send(peer, 'later');
    network.advance(MINUTE);
    expect(a.payloads).toContain('b.example: later');
    expect(b.payloads).toContain('a.example: later');
  });
});

describe('sessions that end', () => {
  it('a restarted peer hints, shorter than what it got, and a new session is made', () => {
    const { network, a, b } = connected();
    b.restart();
    a.send('b.example', 'lost');
    network.advance(1_000);
    const hint = datagram(network, 'b hint').datagram.bytes;
    expect(hint.length).toBeLessThan('lost'.length + 19);
    a.send('b.example', 'again');
    network.advance(1_000);
    expect(b.payloads.at(-1)).toBe('a.example: again');
    expect(a.events.findLast(({ kind }) => kind === 'established')).toMatchObject({ restarted: true });
    network.advance(10 * MINUTE);
    expect(a.endpoint.sizes.sessions).toBe(1);
  });

  it('hints are rationed, and forged ones start at most one handshake per timer beside the old session', () => {
    const { network, a, b } = connected();
    const { datagram: sent } = datagram(network, 'a data test');
    const record = decodeRecord(sent.bytes);
    if (!record.ok || record.value.kind !== 'data') throw new Error('a data record');
    const { destination } = record.value;
    network.channel = ({ datagram: seen }) =>
      /^(XX|IK)/.test(seen.label) ? [] : [{ after: 20, bytes: seen.bytes }];
    for (let i = 0; i < 100; i++)
      network.deliver('b', 'a', encodeHint(destination, { truncated: 0, numberLength: 1 }));
    network.deliver('mallory', 'a', encodeHint(destination, { truncated: 0, numberLength: 1 }));
    network.deliver('b', 'a', encodeHint(destination, { truncated: 50, numberLength: 1 }));
    expect(count(network, 'a IK1')).toBe(1);
    a.send('b.example', 'meanwhile');
    network.advance(1_000);
    expect(b.payloads.at(-1)).toBe('a.example: meanwhile');
    const stranger = sent.bytes.slice();
    stranger[1] = (destination + 1) % 128;
    for (let i = 0; i < 100; i++) network.deliver('x', 'b', stranger);
    expect(b.endpoint.statistics.hintsSent).toBeLessThanOrEqual(4);
    network.channel = perfect();
    network.advance(10 * MINUTE);
    a.send('b.example', 'after');
    network.advance(1_000);
    expect(b.payloads.at(-1)).toBe('a.example: after');
  });

  it('a renewal keeps the old session until a record has confirmed the new one', () => {
    const { network, a, b } = connected();
    a.run(a.endpoint.renew('b.example', a.now));
    a.run(a.endpoint.renew('b.example', a.now));
    expect(count(network, 'a IK1')).toBe(1);
    network.advance(70);
    expect([a, b].map(({ endpoint }) => endpoint.sizes.sessions)).toEqual([2, 2]);
    // A record of the old session that was under way is still understood.
    a.send('b.example', 'new');
    network.advance(10 * MINUTE);
    expect(a.payloads.at(-1)).toBe('b.example: re new');
    expect([a, b].map(({ endpoint }) => endpoint.sizes.sessions)).toEqual([1, 1]);
    expect(a.events.findLast(({ kind }) => kind === 'established')).toMatchObject({ restarted: false });
  });

  it('a session is replaced after its number of records and after its time', () => {
    const { network, a, b } = connected({ renewAfterRecords: 10, renewAfterMs: 60 * MINUTE });
    for (let i = 0; i < 30; i++) {
      a.send('b.example', `${i}`);
      network.advance(5_000);
    }
    expect(b.payloads).toHaveLength(31);
    expect(a.payloads).toHaveLength(31);
    expect(b.events.filter(({ kind }) => kind === 'established').length).toBeGreaterThanOrEqual(3);
    const before = b.events.filter(({ kind }) => kind === 'established').length;
    network.advance(70 * MINUTE);
    a.send('b.example', 'after an hour');
    network.advance(MINUTE);
    expect(b.payloads).toHaveLength(32);
    expect(b.events.filter(({ kind }) => kind === 'established').length).toBe(before + 1);
  });

  it('a session is replaced after 2^20 forgeries under a key, and not before', () => {
    const { network, a, b } = connected();
    a.send('b.example', 'once more');
    const { bytes } = network.captured.at(-1)!.datagram;
    const forged = bytes.map((byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte));
    network.advance(MINUTE);
    const handshakes = (): number => count(network, 'b IK1');
    // A million would take a minute. What counts them is tested with the keys.
    const counted = vi.spyOn(Session.prototype, 'forgeries', 'get');
    try {
      counted.mockReturnValue(2 ** 20 - 1);
      network.deliver('mallory', 'b', forged);
      expect([b.endpoint.statistics.unauthenticated, handshakes()]).toEqual([1, 0]);
      counted.mockReturnValue(2 ** 20);
      network.deliver('mallory', 'b', forged);
      expect(handshakes()).toBe(1);
    } finally {
      counted.mockRestore();
    }
    network.advance(MINUTE);
    expect(b.events.filter(({ kind }) => kind === 'established')).toHaveLength(2);
    expect(a.payloads).toEqual(['b.example: re hello', 'b.example: re once more']);
  });

  it('a peer that moves is followed by its newest record only, and alone once it has answered from there', () => {
    const { network, a, b } = connected();
    network.channel = () => [];
    a.send('b.example', 'old');
    a.send('b.example', 'new');
    const [old, fresh] = network.captured.slice(-2).map(({ datagram: seen }) => seen.bytes);
    const before = network.captured.length;
    const sent = (): string[] =>
      network.captured
        .slice(before)
        .flatMap(({ from, datagram: { to, label } }) => (from === 'b' ? [`${label} to ${to}`] : []));
    network.deliver('a2', 'b', fresh!);
    network.deliver('a1', 'b', old!);
    expect(b.payloads.slice(1)).toEqual(['a.example: new', 'a.example: old']);
    // Three times 22 bytes: the challenge has 28, an answer 25.
    expect(sent()).toEqual(['challenge to a2', 'data test to a2', 'data test to a', 'data test to a']);
    const challenge = network.captured[before]!.datagram.bytes;
    network.deliver('b', 'a', challenge);
    const response = network.captured.at(-1)!;
    expect(response.datagram.label).toBe('response');
    const changed = response.datagram.bytes.slice();
    changed[changed.length - 1]! ^= 1;
    network.deliver('a2', 'b', changed);
    b.send('a.example', 'not yet');
    network.deliver('a2', 'b', response.datagram.bytes);
    b.send('a.example', 'now');
    expect(sent().slice(-2)).toEqual(['data test to a', 'data test to a2']);
  });

  it('whoever sends a peer’s newest record from elsewhere turns nothing away from the peer', () => {
    const { network, a, b } = connected();
    b.onPayload = () => {};
    for (let i = 0; i < 20; i++) {
      network.channel = () => [];
      a.send('b.example', `hijacked ${i}`);
      network.channel = perfect();
      const record = network.captured.at(-1)!.datagram.bytes;
      const before = network.captured.length;
      network.deliver('victim', 'b', record);
      for (let answers = 0; answers < 5; answers++) b.send('a.example', `answer ${i} ${answers}`);
      const bytes = network.captured
        .slice(before)
        .filter(({ datagram: { to } }) => to === 'victim')
        .reduce((sum, { datagram: seen }) => sum + seen.bytes.length, 0);
      expect(bytes).toBeLessThanOrEqual(3 * record.length + 28);
    }
    network.advance(1_000);
    expect(a.payloads.filter((text) => text.includes('answer'))).toHaveLength(100);
  });
});
