import { describe, expect, it } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import type { PipeConfig, PipeEvent } from '../../src/pipe/endpoint.ts';
import { messageOf } from '../../src/pipe/peer_messages.ts';
import { decodeRecord } from '../../src/pipe/record.ts';
import type { Outgoing } from '../../src/pipe/send_queue.ts';
import { Disk, Network, type Side } from './harness.ts';

/*
 *   a: IK1 with a request ──> b   the request is handed on
 *   a <────────────────── IK2 :b
 *   a: ask ────────────────> b
 *   a <──────── the answer to it :b
 */

const MINUTE = 60_000;
const EARLY: Partial<PipeConfig> = { capabilities: { earlyData: true } };
const CHANGED = code(2, 4);
const NOTHING = new Uint8Array(0);

interface World {
  readonly network: Network;
  readonly a: Side;
  readonly b: Side;
  readonly c: Side;
}

/** A request that says `text`, as the exchange hands it down. */
function request(id: number, text: string, early = true): Outgoing {
  const token = Uint8Array.of(0x70, id);
  const message = { type: 'CON', code: METHOD.put, id, token, options: [], payload: utf8(text) } as const;
  return { bytes: encode(message), priority: 1, receipt: id, label: text, request: id, copy: 0, early };
}

const ask = (side: Side, id: number, text: string, early = true): void =>
  side.run(side.endpoint.send('b.example', [request(id, text, early)], side.now));

function parse(bytes: Uint8Array): Message {
  const message = decode(bytes);
  if (!message.ok) throw new Error(message.problem.reason);
  return message.value;
}

const textOf = (bytes: Uint8Array): string => fromUtf8(parse(bytes).payload) ?? '';

const eventsOf = <Kind extends PipeEvent['kind']>(side: Side, kind: Kind) =>
  side.events.filter((event): event is Extract<PipeEvent, { kind: Kind }> => event.kind === kind);
/** What has come in IK1s. */
const early = (side: Side): string[] => eventsOf(side, 'early').map(({ bytes }) => textOf(bytes));
/** What has come in records, as requests. */
const late = (side: Side): string[] =>
  eventsOf(side, 'payload').flatMap(({ bytes }) => (parse(bytes).code === METHOD.put ? [textOf(bytes)] : []));
const labels = ({ network }: World): string[] =>
  network.labels().filter((label) => !label.startsWith('c ') && !label.startsWith('a XX'));
const sent = ({ network }: World, label: string) =>
  network.captured.filter(({ from, datagram }) => `${from} ${datagram.label}` === label);

/** Answers a request, as CoAP would. */
function answer(side: Side, asked: Uint8Array): void {
  const { id, token } = parse(asked);
  const bytes = encode({ type: 'ACK', code: CHANGED, id, token, options: [], payload: NOTHING });
  const item = { bytes, priority: 0, receipt: null, label: 'answer', request: null, copy: 0 } as const;
  side.run(side.endpoint.send('a.example', [item], side.now));
}

/** Sides that have restarted with that configuration and a disk each. `forgetful` has room for one session only. */
function world(forgetful: 'a' | 'b' = 'a', config: { a?: typeof EARLY; b?: typeof EARLY } = {}): World {
  const network = new Network();
  const limits = { sessions: 1 };
  const a = network.add('a.example', 'a', 3, forgetful === 'a' ? limits : {});
  const b = network.add('b.example', 'b', 4, forgetful === 'b' ? limits : {});
  const c = network.add('c.example', 'c', 5);
  for (const side of [a, b, c]) {
    side.disk = new Disk();
    side.config = side === a ? (config.a ?? EARLY) : side === b ? (config.b ?? EARLY) : {};
    side.restart();
  }
  return { network, a, b, c };
}

/** A and b have spoken; then the one that is forgetful has spoken with c, and has no session with the other any more. */
function acquainted(forgetful: 'a' | 'b' = 'a', config = {}): World {
  const sides = world(forgetful, config);
  const { network, a, b } = sides;
  ask(a, 1, 'hello', false);
  network.advance(MINUTE);
  expect(late(b)).toEqual(['hello']);
  sides[forgetful].send('c.example', 'hello');
  network.advance(MINUTE);
  expect(sides[forgetful].endpoint.sizes.sessions).toBe(1);
  network.captured.length = 0;
  for (const side of [a, b]) side.events.length = 0;
  return sides;
}

/** Answers early requests when they come, and those that come late. */
function serve(side: Side, network: Network): void {
  let seen = 0;
  const look = (): void => {
    for (const event of side.events.slice(seen))
      if ((event.kind === 'early' || event.kind === 'payload') && parse(event.bytes).code === METHOD.put)
        answer(side, event.bytes);
    seen = side.events.length;
    network.clock.after(1, look);
  };
  look();
}

/** Nothing that comes from there arrives, if it is one of those. */
function lose(network: Network, from: string, ...lost: readonly string[]): void {
  network.channel = (datagram) => {
    const isLost = datagram.from === from && (lost.length === 0 || lost.includes(datagram.datagram.label));
    return isLost ? [] : [{ after: 20, bytes: datagram.datagram.bytes }];
  };
}

describe('a request in an IK1', () => {
  it('has its effect before there is a session, and its answer comes on the session', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    serve(b, network);
    const start = network.clock.monotonic();
    let taken = Number.NaN;
    const run = b.run.bind(b);
    b.run = (step) => {
      if (step.events.some(({ kind }) => kind === 'early')) taken = network.clock.monotonic();
      run(step);
    };
    ask(a, 2, 'help');
    network.advance(MINUTE);
    expect(taken - start).toBe(20);
    expect(early(b)).toEqual(['help']);
    expect(late(b)).toEqual([]);
    expect(labels(sides)).toEqual(['a IK1', 'b IK2', 'a ask', 'b data answer']);
    const [reply] = eventsOf(a, 'payload');
    expect(parse(reply!.bytes)).toMatchObject({ type: 'ACK', code: CHANGED, id: 2, token: { 1: 2 } });
    expect(reply!.copy).toBe(-1);
    expect(eventsOf(a, 'taken')).toEqual([{ kind: 'taken', receipt: 2 }]);
    expect(b.endpoint.statistics).toMatchObject({ earlyTaken: 1, earlyDiscarded: 0 });
  });

  it('costs what it weighs and two bytes, is named by number 0, and no record has that number', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    ask(a, 2, 'help');
    network.advance(MINUTE);
    // As in docs/protocol.md; then features, length, and the message: its first byte and payload.
    expect(sent(sides, 'a IK1')[0]!.datagram.bytes).toHaveLength(119 + 2 + 1 + 'help'.length);
    expect(sent(sides, 'b IK2')[0]!.datagram.bytes).toHaveLength(59 + 1);
    const [event] = eventsOf(b, 'early');
    expect(messageOf(parse(event!.bytes).token)!.number).toBe(0);
    const record = decodeRecord(sent(sides, 'a ask')[0]!.datagram.bytes);
    expect(record.ok && record.value.kind === 'control' && record.value.clear.truncated).toBe(1);
  });

  it('is handed on once, however often the IK1 comes', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    network.channel = ({ datagram: { bytes } }) => [20, 25, 90, 5_000].map((after) => ({ after, bytes }));
    ask(a, 2, 'help');
    network.advance(10 * MINUTE);
    expect(early(b)).toEqual(['help']);
    expect(late(b)).toEqual([]);
  });

  it('comes not again from a repetition, neither later nor after a restart of the receiver', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    // The initiator is gone after its IK1, so that no session of it is ever on the disk.
    lose(network, 'b');
    ask(a, 2, 'help');
    network.advance(1_000);
    expect(early(b)).toEqual(['help']);
    const old = sent(sides, 'a IK1')[0]!.datagram.bytes;
    network.channel = () => [];
    network.advance(30 * MINUTE);
    network.deliver('a', 'b', old);
    b.restart();
    for (const times of [0, 1, 2]) {
      network.deliver('elsewhere', 'b', old);
      network.advance(times * MINUTE);
    }
    expect(early(b)).toEqual(['help']);
    expect(b.endpoint.statistics.replayed).toBeGreaterThan(0);
  });

  it('is handed on once or not at all, whenever the receiver crashes', () => {
    const counts = new Set<number>();
    for (let crash = 0; crash <= 70; crash += 5) {
      const { network, a, b } = acquainted();
      // On the disk after 20 ms, told after 20 more.
      b.commitDelay = () => [20, 20];
      lose(network, 'b');
      ask(a, 2, 'help');
      const old = network.captured.at(-1)!.datagram.bytes;
      network.advance(20 + crash);
      b.restart();
      for (let i = 0; i < 3; i++) {
        network.deliver('a', 'b', old);
        network.advance(1_000);
      }
      counts.add(early(b).length);
      expect(early(b).length, `crash ${crash} ms after the IK1`).toBeLessThanOrEqual(1);
    }
    expect(counts).toEqual(new Set([0, 1]));
  });

  it('is not handed on while its generation is not on the disk', () => {
    const { network, a, b } = acquainted();
    b.commitDelay = () => [200, 0];
    ask(a, 2, 'help');
    network.advance(219);
    expect(early(b)).toEqual([]);
    network.advance(2);
    expect(early(b)).toEqual(['help']);
    expect(b.disk!.early).toHaveLength(1);
  });

  it('comes again only where the disk is an older one: then the layers above recognise it', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    lose(network, 'b');
    ask(a, 2, 'help');
    network.advance(1_000);
    const old = sent(sides, 'a IK1')[0]!.datagram.bytes;
    b.disk!.early = [];
    b.restart();
    network.deliver('a', 'b', old);
    network.advance(1_000);
    expect(early(b)).toEqual(['help', 'help']);
    const [first, second] = eventsOf(b, 'early').map(({ bytes }) => messageOf(parse(bytes).token));
    expect(second).toEqual(first);
  });

  it('is the genuine one, whatever was forged before it', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    network.channel = () => [];
    ask(a, 2, 'help');
    const { datagram } = sent(sides, 'a IK1')[0]!;
    for (let at = 0; at < datagram.bytes.length; at += 7) {
      const forged = datagram.bytes.slice();
      forged[at]! ^= 0x55;
      network.deliver('a', 'b', forged);
    }
    // One that is well made, by somebody whom nobody knows.
    const stranger = acquainted();
    ask(stranger.a, 2, 'forged');
    stranger.network.advance(1);
    const other = world('a', {});
    other.network.deliver('a', 'b', sent(stranger, 'a IK1')[0]!.datagram.bytes);
    other.network.advance(1_000);
    expect(early(other.b)).toEqual([]);
    expect(early(b)).toEqual([]);
    network.deliver('a', 'b', datagram.bytes);
    network.advance(1_000);
    expect(early(b)).toEqual(['help']);
  });

  it('with a generation that is not new is discarded', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    network.channel = () => [];
    ask(a, 2, 'held back');
    const held = sent(sides, 'a IK1')[0]!.datagram.bytes;
    network.advance(MINUTE);
    lose(network, 'nobody');
    network.advance(10 * MINUTE);
    expect([...early(b), ...late(b)]).toEqual(['held back']);
    const before = b.endpoint.statistics.replayed;
    network.deliver('a', 'b', held);
    network.advance(MINUTE);
    expect(b.endpoint.statistics.replayed).toBe(before + 1);
    expect([...early(b), ...late(b)]).toEqual(['held back']);
  });

  it('waits for trust, and is discarded without', () => {
    const { network, a, b } = acquainted();
    b.decisionDelay = () => 500;
    b.trust = () => ({ trusted: false, reason: 'no longer' });
    ask(a, 2, 'help');
    network.advance(MINUTE);
    expect(early(b)).toEqual([]);
    expect(b.endpoint.statistics.earlyDiscarded).toBeGreaterThan(0);
  });

  it.each([
    ['before it comes', 0],
    ['while its sender is decided about', 100],
    ['while its generation is being stored', 700],
  ])('of a peer that is forgotten %s is not handed on', (_, after) => {
    const { network, a, b } = acquainted();
    b.decisionDelay = () => 500;
    b.commitDelay = () => [400, 0];
    ask(a, 2, 'help');
    network.advance(after);
    b.run(b.endpoint.forget('a.example', 'logged out', b.now));
    network.channel = () => [];
    network.advance(10 * MINUTE);
    expect(early(b)).toEqual([]);
  });
});

describe('a peer that lost a session', () => {
  it('says so, and the IK1 that follows has the request in it', () => {
    const sides = acquainted('b');
    const { network, a, b } = sides;
    serve(b, network);
    ask(a, 2, 'help');
    network.advance(MINUTE);
    expect(labels(sides).slice(0, 5)).toEqual(['a data help', 'b hint', 'a IK1', 'b IK2', 'a ask']);
    expect(early(b)).toEqual(['help']);
    expect(eventsOf(a, 'payload').map(({ bytes }) => parse(bytes).id)).toEqual([2]);
    // It was told when it left that it had; the record has been on the link.
    expect(eventsOf(a, 'taken')).toEqual([]);
  });

  it('gets a request again that it has not taken early', () => {
    const sides = acquainted('b');
    const { network, a, b } = sides;
    b.trust = () => ({ trusted: true });
    lose(network, 'b', 'IK2');
    ask(a, 2, 'help');
    network.advance(10 * MINUTE);
    const names = [...eventsOf(b, 'early'), ...eventsOf(b, 'payload')].map(({ bytes }) => {
      const { id, token } = parse(bytes);
      return JSON.stringify([id, messageOf(token)]);
    });
    expect(new Set(names).size).toBe(1);
  });
});

describe('where a request cannot be early', () => {
  /** It has come once, in a record. */
  const isLate = ({ network, a, b }: World, text = 'help'): void => {
    ask(a, 2, text);
    network.advance(10 * MINUTE);
    expect(early(b)).toEqual([]);
    expect(late(b)).toEqual([text]);
  };

  it('it follows IK2: to a peer that has not said to take it', () => {
    const sides = acquainted('a', { b: {} });
    isLate(sides);
    expect(labels(sides).slice(0, 3)).toEqual(['a IK1', 'b IK2', 'a data help']);
    expect(sent(sides, 'a IK1')[0]!.datagram.bytes).toHaveLength(119);
  });

  it('it follows IK2: from a side that has not said so', () => {
    const sides = acquainted('a', { a: {} });
    isLate(sides);
    expect(sent(sides, 'a IK1')[0]!.datagram.bytes).toHaveLength(119);
  });

  it('it follows IK2: where it is not marked, or too long for one datagram', () => {
    const sides = acquainted();
    ask(sides.a, 3, 'an ordinary one', false);
    sides.network.advance(MINUTE);
    expect(early(sides.b)).toEqual([]);
    isLate(acquainted(), 'x'.repeat(1_080));
  });

  it('it follows XX3: where the peer has forgotten who it was', () => {
    const sides = acquainted();
    sides.b.disk = new Disk();
    sides.b.restart();
    sides.network.captured.length = 0;
    isLate(sides);
    expect(labels(sides).slice(0, 4)).toEqual(['a IK1', 'b XX2', 'a data help'].concat('b confirm'));
  });

  it('it follows XX3: where the peer has ceased to take it', () => {
    const sides = acquainted();
    sides.b.config = {};
    sides.b.restart();
    isLate(sides);
  });

  it('it follows IK2: in a closed network, whose key IK1 does not show', () => {
    const closed = { ...EARLY, network: { mode: 'encrypted', psk: new Uint8Array(32).fill(7) } } as const;
    const network = new Network();
    const sides = { network, ...closedSides(network, closed) };
    ask(sides.a, 1, 'hello', false);
    network.advance(MINUTE);
    sides.a.send('c.example', 'hello');
    network.advance(MINUTE);
    for (const side of [sides.a, sides.b]) side.events.length = 0;
    isLate(sides);
  });
});

function closedSides(network: Network, config: Partial<PipeConfig>): Omit<World, 'network'> {
  const [a, b, c] = ['a', 'b', 'c'].map((name, i) =>
    network.add(`${name}.example`, name, 3 + i, name === 'a' ? { sessions: 1 } : {}),
  );
  for (const side of [a!, b!, c!]) {
    side.config = config;
    side.restart();
  }
  return { a: a!, b: b!, c: c! };
}

describe('where nobody knows whether it was taken', () => {
  it('it goes again under the same name, which its receiver recognises', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    lose(network, 'b', 'IK2');
    ask(a, 2, 'help');
    network.advance(10 * MINUTE);
    expect(early(b)).toEqual(['help']);
    expect(late(b)).toEqual(['help']);
    const [first] = eventsOf(b, 'early').map(({ bytes }) => parse(bytes));
    const [second] = eventsOf(b, 'payload').map(({ bytes }) => parse(bytes));
    expect(second!.id).toBe(first!.id);
    expect(messageOf(second!.token)).toEqual(messageOf(first!.token));
  });

  it('its answer waits for the session and meets no older one', () => {
    const sides = acquainted();
    const { network, a, b } = sides;
    expect(b.endpoint.sizes.sessions).toBe(1);
    serve(b, network);
    lose(network, 'a', 'ask');
    ask(a, 2, 'help');
    network.advance(1_000);
    expect(early(b)).toEqual(['help']);
    expect(labels(sides).filter((label) => label.startsWith('b data'))).toEqual([]);
    lose(network, 'nobody');
    network.advance(MINUTE);
    expect(labels(sides).filter((label) => label.startsWith('b data'))).toEqual(['b data answer']);
    expect(eventsOf(a, 'payload')).toHaveLength(1);
  });

  it('its answer waits for ten minutes at most', () => {
    const { network, a, b } = acquainted();
    serve(b, network);
    lose(network, 'b');
    ask(a, 2, 'help');
    network.advance(1_000);
    network.channel = () => [];
    network.advance(8 * MINUTE);
    const before = network.captured.filter(({ datagram }) => datagram.label === 'data answer').length;
    network.advance(3 * MINUTE);
    const after = network.captured.filter(({ datagram }) => datagram.label === 'data answer').length;
    expect([before, after]).toEqual([0, 1]);
  });
});
