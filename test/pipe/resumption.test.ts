import { beforeEach, describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { decodeRecord } from '../../src/pipe/record.ts';
import { RESERVED_NUMBERS } from '../../src/pipe/session.ts';
import { type Captured, Disk, perfect, type Side, storingPair } from './harness.ts';
import { watchSeals } from './seals.ts';

const MINUTE = 60_000;
const RETRY_MS = 3_000;
const ROUND_TRIP_MS = 40;
const A = 'a.example';
const B = 'b.example';

const seals = watchSeals();
beforeEach(() => seals.reset());

/** Asks until it is answered, like CoAP: after a timer, and at once where the peer has restarted. */
class Asker {
  readonly #side: Side;
  readonly #peer: string;
  readonly #open = new Map<string, number>();
  #serial = 0;
  #told = 0;

  constructor(side: Side, peer: string) {
    this.#side = side;
    this.#peer = peer;
    side.onPayload = (_, text) => {
      const [kind, name] = text.split(':') as [string, string];
      if (kind === 'ask') side.send(peer, `yes:${name}`);
      else this.#open.delete(name);
    };
  }

  ask(name = `${this.#side.address}${++this.#serial}`): void {
    const copies = this.#open.get(name) ?? 0;
    this.#open.set(name, copies + 1);
    this.#side.send(this.#peer, `ask:${name}:${copies}`);
    this.#side.network.clock.after(RETRY_MS, () => this.#open.get(name) === copies + 1 && this.ask(name));
  }

  /** Restarts of the peer that have been told since the last call; what is open is asked again. */
  notice(): number {
    const told = this.restarts - this.#told;
    this.#told += told;
    if (told > 0) for (const name of [...this.#open.keys()]) this.ask(name);
    return told;
  }

  get restarts(): number {
    return this.#side.events.filter(
      (event) => event.kind === 'restarted' || (event.kind === 'established' && event.restarted),
    ).length;
  }

  get unanswered(): number {
    return this.#open.size;
  }
}

let worlds = 0;

/** Two that have talked. No two worlds share a seed, or they would share keys. */
function talking() {
  const sides = storingPair(++worlds);
  const askers = { a: new Asker(sides.a, B), b: new Asker(sides.b, A) };
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= 10) {
      sides.network.advance(10);
      askers.a.notice();
      askers.b.notice();
    }
  };
  askers.a.ask();
  pass(1_000);
  expect(sides.network.labels()).toEqual(['a XX1', 'b XX2', 'a XX3', 'a data test', 'b data test']);
  return { ...sides, askers, pass };
}

const handshakes = (captured: readonly Captured[]): string[] =>
  captured.map(({ datagram: { label } }) => label).filter((label) => /^XX|^IK|^hint/.test(label));
const last = (captured: readonly Captured[], from: string): Captured =>
  captured.findLast((seen) => seen.from === from)!;
const saltOf = ({ datagram: { bytes } }: Captured): string => {
  const record = decodeRecord(bytes);
  if (!record.ok || record.value.kind !== 'data') return 'no data';
  return record.value.clear.salt === undefined ? 'none' : hex(record.value.clear.salt);
};

describe('a restart', () => {
  it.each([
    ['of the one who asks', ['a'], 1],
    ['of the one who is asked', ['b'], 2],
    ['of both', ['a', 'b'], 2],
  ] as const)('%s goes on without a handshake', (_, who, roundTrips) => {
    const { network, a, b, askers, pass } = talking();
    for (const name of who) ({ a, b })[name].restart();
    const before = network.captured.length;
    askers.a.ask();
    pass(roundTrips * ROUND_TRIP_MS + 20);
    expect(askers.a.unanswered).toBe(0);
    expect(handshakes(network.captured.slice(before))).toEqual([]);
    askers.b.ask();
    pass(1_000);
    askers.a.ask();
    pass(1_000);
    expect(askers.b.unanswered).toBe(0);
    // Both know of both starts, each once, and say nothing in clear any more.
    expect(askers.a.restarts).toBe(who.includes('b' as never) ? 1 : 0);
    expect(askers.b.restarts).toBe(who.includes('a' as never) ? 1 : 0);
    expect([saltOf(last(network.captured, 'a')), saltOf(last(network.captured, 'b'))]).toEqual([
      'none',
      'none',
    ]);
    expect(handshakes(network.captured.slice(before))).toEqual([]);
    expect(seals.repeated.length).toBe(0);
  });

  it('costs eleven bytes in the first record, and three in the one that notices', () => {
    const { network, a, askers, pass } = talking();
    a.restart();
    const before = network.captured.length;
    askers.a.ask('x');
    pass(1_000);
    const lengths = network.captured.slice(before).map(({ datagram: { bytes } }) => bytes.length);
    expect(lengths).toEqual(['ask:x:0', 'yes:x'].map((text, i) => text.length + 20 + [11, 3][i]!));
  });

  it('at every step of a conversation, of either side, of both, and twice, ends in answers', () => {
    let steps = 0;
    for (const who of ['a', 'b', 'ab', 'aa', 'bb', 'aba'] as const) {
      for (let step = 1; step <= 20; step++) {
        const { network, a, b, askers, pass } = talking();
        const before = network.captured.length;
        let sent = 0;
        network.onSend = () => {
          if (++sent !== step) return;
          steps++;
          [...who].forEach((name, i) => {
            network.clock.after(5 + 7 * i, () => (name === 'a' ? a : b).restart());
          });
        };
        for (let i = 0; i < 5; i++) {
          askers.a.ask();
          askers.b.ask();
          pass(15);
        }
        pass(2 * RETRY_MS + 1_000);
        const where = `${who} at step ${step}`;
        expect([askers.a.unanswered, askers.b.unanswered], where).toEqual([0, 0]);
        expect(handshakes(network.captured.slice(before)), where).toEqual([]);
        const all = [...a.payloads, ...b.payloads];
        expect(new Set(all).size, where).toBe(all.length);
      }
    }
    expect(steps).toBe(120);
    expect(seals.repeated.length).toBe(0);
  });

  it('followed by a handshake is told once: the boot id is the salt', () => {
    const { network, a, b, askers, pass } = talking();
    b.restart();
    askers.b.ask();
    pass(1_000);
    expect(askers.a.restarts).toBe(1);
    b.run(b.endpoint.renew(A, b.now));
    pass(1_000);
    askers.a.ask();
    askers.b.ask();
    pass(5 * MINUTE);
    expect(askers.a.restarts).toBe(1);
    expect(askers.b.restarts).toBe(0);
    expect([a.disk!.rows.size, b.disk!.rows.size]).toEqual([1, 1]);
    expect(network.labels()).toContain('b IK1');
  });

  it('goes on where it was told to by what was committed, whenever the commit came', () => {
    for (let delay = 0; delay < 60; delay += 3) {
      const { network, a, b, askers, pass } = talking();
      for (const side of [a, b]) side.commitDelay = () => [delay, delay % 2 === 0 ? 0 : 7];
      const before = network.captured.length;
      for (let i = 0; i < 6; i++) {
        (i % 2 === 0 ? a : b).restart();
        askers.a.ask();
        askers.b.ask();
        pass(50);
      }
      pass(4 * RETRY_MS);
      expect([askers.a.unanswered, askers.b.unanswered], `${delay} ms`).toEqual([0, 0]);
      expect(handshakes(network.captured.slice(before)), `${delay} ms`).toEqual([]);
    }
    expect(seals.repeated.length).toBe(0);
  });

  it('sends nothing before its salt and its numbers are on the disk', () => {
    const { network, a, askers, pass } = talking();
    a.commitDelay = () => [500, 0];
    a.restart();
    const before = network.captured.length;
    askers.a.ask();
    pass(490);
    expect(network.captured.length).toBe(before);
    pass(200);
    expect(askers.a.unanswered).toBe(0);
  });
});

describe('what an attacker keeps', () => {
  it('is not delivered after a restart, whatever of it is sent again, and moves no address', () => {
    const { network, b, askers, pass } = talking();
    for (let i = 0; i < 5; i++) {
      askers.a.ask();
      askers.b.ask();
      pass(200);
    }
    const old = [...network.captured];
    b.restart();
    const delivered = b.payloads.length;
    const records = old.filter(({ from, datagram: { label } }) => from === 'a' && label === 'data test');
    for (const { datagram } of records) network.deliver('mallory', 'b', datagram.bytes);
    expect(b.payloads.length).toBe(delivered);
    expect(b.endpoint.statistics.stale).toBe(records.length);
    expect(network.captured.slice(old.length).map(({ datagram: { to } }) => to)).not.toContain('mallory');
    // What they make b send is rationed, and goes where a is known to be.
    pass(1_000);
    const told = network.captured.slice(old.length).filter(({ from }) => from === 'b');
    expect(told.length).toBeLessThanOrEqual(old.length);
    askers.a.ask();
    pass(1_000);
    expect(askers.a.unanswered).toBe(0);
    expect(askers.a.restarts).toBe(1);
    // Once the new salt is known for good, all of it is as good as forged.
    askers.b.ask();
    pass(1_000);
    askers.a.ask();
    pass(1_000);
    const { stale, unauthenticated } = b.endpoint.statistics;
    for (const { from, datagram } of old) if (from === 'a') network.deliver('a', 'b', datagram.bytes);
    expect(b.endpoint.statistics.stale).toBe(stale);
    expect(b.endpoint.statistics.unauthenticated).toBeGreaterThan(unauthenticated);
  });

  it('a salted record with any byte changed is not accepted, and the genuine one is', () => {
    const { network, a, askers, pass } = talking();
    a.restart();
    network.channel = ({ datagram, to }) => {
      for (let at = 0; at < datagram.bytes.length; at++) {
        const bytes = datagram.bytes.slice();
        bytes[at]! ^= 0x01;
        network.deliver('mallory', to, bytes);
      }
      return [{ after: 1, bytes: datagram.bytes }];
    };
    askers.a.ask();
    pass(1_000);
    expect(askers.a.unanswered).toBe(0);
    expect(askers.b.restarts).toBe(1);
  });

  it('an older salt does not come back, not even in a record that never arrived', () => {
    const { network, a, b, askers, pass } = talking();
    const salted: Uint8Array[] = [];
    for (let i = 0; i < 3; i++) {
      a.restart();
      const before = network.captured.length;
      // The first record of each start is held back.
      network.channel = () => [];
      askers.a.ask();
      network.channel = perfect();
      pass(RETRY_MS + 1_000);
      salted.push(network.captured[before]!.datagram.bytes);
    }
    const { restarts } = askers.b;
    expect(restarts).toBe(3);
    const asks = (): number => {
      askers.b.ask();
      askers.a.ask();
      const before = network.captured.length;
      pass(1_000);
      expect([askers.a.unanswered, askers.b.unanswered]).toEqual([0, 0]);
      expect(askers.b.restarts).toBe(restarts);
      return handshakes(network.captured.slice(before)).length;
    };
    for (const bytes of salted) network.deliver('a', 'b', bytes);
    expect(asks()).toBe(0);
    b.restart();
    for (const bytes of salted) network.deliver('a', 'b', bytes);
    expect(asks()).toBe(0);
  });

  it('an older disk repeats no nonce, and a handshake heals it', () => {
    for (let image = 1; image < 6; image++) {
      const { network, a, b, askers, pass } = talking();
      for (let i = 0; i < 4 * RESERVED_NUMBERS; i++) a.send(B, `yes:${i}`);
      pass(1_000);
      a.disk!.rows = a.disk!.images[image]!;
      a.restart();
      const unanswered = network.captured.length;
      askers.a.ask();
      pass(1_000);
      expect(network.captured.slice(unanswered).filter(({ from }) => from === 'b')).toEqual([]);
      a.run(a.endpoint.renew(B, a.now));
      pass(3 * RETRY_MS);
      askers.b.ask();
      pass(3 * RETRY_MS);
      expect([askers.a.unanswered, askers.b.unanswered]).toEqual([0, 0]);
      expect(b.payloads.length).toBe(new Set(b.payloads).size);
    }
    expect(seals.repeated.length).toBe(0);
  });

  it('a disk that was copied: both copies go on, and no nonce is used twice', () => {
    const { a, network, askers, pass } = talking();
    const image = a.disk!.rows;
    for (let copy = 0; copy < 3; copy++) {
      a.disk = new Disk();
      a.disk.rows = image;
      a.restart();
      for (let i = 0; i < 10; i++) a.send(B, 'yes:the same');
      pass(1_000);
    }
    a.run(a.endpoint.renew(B, a.now));
    askers.a.ask();
    pass(5_000);
    expect(askers.a.unanswered).toBe(0);
    expect(network.labels().filter((label) => /^a (XX1|IK1)/.test(label))).toHaveLength(2);
    expect(seals.repeated.length).toBe(0);
  });
});

describe('what is stored', () => {
  it('reserves numbers ahead, so that no record waits for the disk and none is sent past what is reserved', () => {
    const { network, a, b, pass } = talking();
    b.onPayload = () => {};
    let committed = 0;
    a.commitDelay = () => {
      committed++;
      return [100_000, 0];
    };
    const before = b.payloads.length;
    for (let i = 0; i < RESERVED_NUMBERS + 40; i++) a.send(B, `yes:${i}`);
    network.advance(1_000);
    expect(b.payloads.length - before).toBe(RESERVED_NUMBERS);
    expect(committed).toBe(1);
    pass(100_000);
    expect(b.payloads.length - before).toBe(RESERVED_NUMBERS + 40);
  });

  it('does not open what was sent in earlier epochs', () => {
    const { network, a, b, pass } = talking();
    const epochs = 3;
    for (let i = 0; i < epochs * 1_024; i++) a.send(B, `yes:${i}`);
    pass(1_000);
    const [row] = [...b.disk!.rows.values()];
    expect(row!.receive.epoch).toBe(epochs);
    expect(row!.highest).toBeGreaterThan(epochs * 1_024 - 65);
    expect([...a.disk!.rows.values()][0]!.send.epoch).toBe(epochs);
    const earlier = network.captured.filter(({ from }) => from === 'a').slice(4, 200);
    b.restart();
    for (const { datagram } of earlier) network.deliver('a', 'b', datagram.bytes);
    expect(b.endpoint.statistics).toMatchObject({ stale: 0, unauthenticated: earlier.length });
  });

  it('is all that the peer is told to have been seen, so that it cuts no number too short for a restart', () => {
    const { network, a, b, askers, pass } = talking();
    const send = (count: number): void => {
      for (let i = 0; i < count; i++) b.send(A, `yes:${i}`);
      pass(100);
    };
    send(70);
    const stored = [...a.disk!.rows.values()][0]!.highest;
    expect(stored).toBeGreaterThan(60);
    // What comes now is not on a's disk when a tells how far it has come.
    a.commitDelay = () => [MINUTE, 0];
    send(200);
    a.send(B, 'yes:tell');
    pass(100);
    expect([...a.disk!.rows.values()][0]!.highest).toBe(stored);
    a.commitDelay = () => [0, 0];
    a.restart();
    const before = network.captured.length;
    askers.b.ask();
    pass(1_000);
    expect(askers.b.unanswered).toBe(0);
    expect(handshakes(network.captured.slice(before))).toEqual([]);
  });

  it('is the salt that the peer is told to have been seen: a crash before that finds the earlier one understood', () => {
    const { network, a, b, askers, pass } = talking();
    a.commitDelay = () => [MINUTE, 0];
    b.restart();
    const before = network.captured.length;
    for (let i = 0; i < 10; i++) {
      askers.b.ask();
      pass(100);
    }
    expect(askers.b.unanswered).toBe(0);
    a.commitDelay = () => [0, 0];
    a.restart();
    askers.a.ask();
    pass(1_000);
    expect(askers.a.unanswered).toBe(0);
    askers.b.ask();
    pass(1_000);
    askers.a.ask();
    pass(1_000);
    expect([askers.a.unanswered, askers.b.unanswered]).toEqual([0, 0]);
    expect(handshakes(network.captured.slice(before))).toEqual([]);
    expect([saltOf(last(network.captured, 'a')), saltOf(last(network.captured, 'b'))]).toEqual([
      'none',
      'none',
    ]);
  });

  it('is nothing of a session whose XX3 may not have arrived, and nothing of one that was closed', () => {
    const { network, a, b } = storingPair(++worlds);
    network.channel = (sent) => (sent.datagram.label === 'XX3' ? [] : perfect()(sent));
    a.send(B, 'hello');
    network.advance(1_000);
    expect(a.disk!.rows.size).toBe(0);
    network.channel = perfect();
    network.advance(MINUTE);
    b.send(A, 'hello');
    network.advance(MINUTE);
    expect([a.disk!.rows.size, b.disk!.rows.size]).toEqual([1, 1]);
    // An operator has changed what is trusted while b was down.
    b.trust = () => ({ trusted: false, reason: 'not any more' });
    b.restart();
    network.advance(1_000);
    expect(b.disk!.rows.size).toBe(0);
    a.send(B, 'hello?');
    network.advance(1_000);
    expect(b.payloads).not.toContain('a.example: hello?');
    expect(a.disk!.rows.size).toBe(0);
  });

  it('is nothing of a session that the peer has refused at once', () => {
    const { network, a, b } = storingPair(++worlds);
    b.trust = () => ({ trusted: false, reason: 'unknown' });
    a.send(B, 'hello');
    network.advance(MINUTE);
    expect(a.events.some(({ kind }) => kind === 'refused')).toBe(true);
    expect([a.disk!.rows.size, b.disk!.rows.size]).toEqual([0, 0]);
  });

  it('is replaced after seven days, however often the process has started meanwhile', () => {
    const { network, a, b, askers, pass } = talking();
    for (let day = 0; day < 8; day++) {
      network.advance(24 * 60 * MINUTE);
      a.restart();
      b.restart();
      askers.a.ask();
      pass(2_000);
    }
    expect(network.labels().filter((label) => /XX1|IK1/.test(label)).length).toBe(2);
    expect(askers.a.unanswered).toBe(0);
  });
});
