import { describe, expect, it } from 'vitest';
import { hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { encode, type Message, NO_BYTES } from '../../src/coap/message.ts';
import { messageOf, PeerMessages } from '../../src/pipe/peer_messages.ts';
import { storingPair } from './harness.ts';
import { type OnWire, Talk, TIMES } from './talk.ts';

const CHANGED = code(2, 4);
const TOKEN = Uint8Array.of(1, 2);

const put = (id: number, token: Uint8Array = TOKEN, text = 'x'): Uint8Array =>
  encode({ type: 'CON', code: METHOD.put, id, token, options: [], payload: utf8(text) });
const reply = ({ id, token }: Pick<Message, 'id' | 'token'>): Uint8Array =>
  encode({ type: 'ACK', code: CHANGED, id, token, options: [], payload: NO_BYTES });

describe('copies of a message', () => {
  it('are one message to the receiver, named by the first, also where that was lost', () => {
    for (const lost of [false, true]) {
      const talk = new Talk();
      talk.a.skip(100);
      const first = talk.write('a', put(7));
      const second = talk.write('a', put(7), { copy: 1 });
      // The distance, behind the first byte.
      expect([hex(first.bytes), hex(second.bytes)]).toEqual(['1378', '130178']);
      expect([first.isMarked, second.isMarked]).toEqual([false, true]);
      const ids = (lost ? [second] : [first, second, first]).map((wire) => talk.read('b', wire));
      expect(new Set(ids.map(({ id }) => id)).size).toBe(1);
      for (const { token } of ids) expect(messageOf(token)).toEqual({ generation: 3, number: 100 });
    }
  });

  it('are told apart by their replies', () => {
    const talk = new Talk();
    const copies = [0, 1, 2].map((copy) => talk.write('a', put(7), { copy }));
    const answer = (wire: OnWire): OnWire => talk.write('b', reply(talk.read('b', wire)));
    const answers = [copies[2]!, copies[0]!].map(answer);
    for (const [i, copy] of [2, 0].entries()) {
      const read = talk.tryRead('a', answers[i]!);
      expect(read).toMatchObject({ copy, message: { id: 7, token: TOKEN } });
    }
    // Each is answered once.
    expect(talk.tryRead('a', answers[0]!)).toBe('unknown');
  });

  it('have one short reply each, so that a late one is not taken for the reply to another message', () => {
    for (const comesFirst of ['short', 'long'] as const) {
      const talk = new Talk();
      const asked = talk.read('b', talk.write('a', put(7)));
      const short = talk.write('b', reply(asked));
      const long = talk.write('b', reply(asked));
      expect([short.bytes.length, long.bytes.length]).toEqual([1, 3]);
      const [early, late] = comesFirst === 'short' ? [short, long] : [long, short];
      expect(talk.tryRead('a', early)).toMatchObject({ copy: 0, message: { id: 7 } });
      // A number that ends like the one of before.
      talk.a.skip(15);
      const other = talk.write('a', put(8, Uint8Array.of(3, 4)));
      expect(other.number).toBe(comesFirst === 'short' ? 16 : 17);
      expect(talk.tryRead('a', late)).toBe('unknown');
      expect(talk.tryRead('a', talk.write('b', reply(talk.read('b', other))))).toMatchObject({
        message: { id: 8 },
      });
    }
  });

  it('go on being copies on a new session, and their replies come back from it', () => {
    const talk = new Talk();
    talk.a.skip(9);
    const [first, before] = [talk.write('a', put(7)), talk.write('a', put(8, Uint8Array.of(3, 4)))];
    const [id, other] = [first, before].map((wire) => talk.read('b', wire));
    talk.renew();
    const again = talk.write('a', put(7), { copy: 1 });
    expect(again.isMarked).toBe(true);
    expect(talk.read('b', again)).toEqual(id);
    const [answer, late] = [talk.write('b', reply(id!)), talk.write('b', reply(other!))];
    expect(talk.tryRead('a', late)).toMatchObject({ copy: 0, message: { id: 8 } });
    expect(talk.tryRead('a', answer)).toMatchObject({ copy: 1, message: { id: 7 } });
  });

  it('of which nothing is known any more are not sent, and replies to them are not taken', () => {
    const talk = new Talk();
    const first = talk.write('a', put(7));
    const { id, token } = talk.read('b', first);
    const answer = talk.write('b', reply({ id, token }));
    talk.a.messages = new PeerMessages();
    expect(talk.tryRead('a', answer)).toBe('unknown');
    expect(talk.tryWrite('a', put(7), { copy: 1 })).toBeUndefined();
    talk.b.messages = new PeerMessages();
    expect(talk.tryWrite('b', reply({ id, token }))).toBeUndefined();
  });

  it('are not taken for those of another message that CoAP has given the same id', () => {
    const talk = new Talk();
    const before = talk.write('b', reply(talk.read('b', talk.write('a', put(7)))));
    const after = talk.write('b', reply(talk.read('b', talk.write('a', put(7)))));
    expect(talk.tryRead('a', before)).toBe('unknown');
    expect(talk.read('a', after).id).toBe(7);
  });

  it('are forgotten by the receiver after their lifetime, as CoAP forgets them', () => {
    const talk = new Talk();
    const first = talk.write('a', put(7));
    const { id } = talk.read('b', first);
    talk.now = TIMES.exchangeLifetime - 1;
    expect(talk.read('b', talk.write('a', put(7), { copy: 1 })).id).toBe(id);
    talk.now += TIMES.exchangeLifetime;
    expect(talk.read('b', talk.write('a', put(7), { copy: 2 })).id).not.toBe(id);
  });
});

describe('a short reply', () => {
  it('is not given to a copy whose number ends like that of one that may be answered yet', () => {
    const talk = new Talk();
    const lost = talk.write('a', put(1));
    talk.a.skip(15);
    const next = talk.write('a', put(2));
    expect([lost.number, next.number]).toEqual([0, 17]);
    talk.a.skip(14);
    talk.now = TIMES.longestReply;
    expect(talk.write('a', put(3)).number).toBe(32);
  });

  it('is none where too many are open: then a longer number leads to a longer reply', () => {
    const talk = new Talk();
    const open = Array.from({ length: 17 }, (_, id) => talk.write('a', put(id)));
    expect(open.map(({ isShort }) => isShort)).toEqual([...Array(16).fill(true), false]);
    const answer = talk.write('b', reply(talk.read('b', open[16]!)));
    expect(hex(answer.bytes)).toBe('034410');
    expect(talk.read('a', answer).id).toBe(16);
  });

  it('is for the session that it has come on', () => {
    const talk = new Talk();
    const before = talk.write('b', reply(talk.read('b', talk.write('a', put(1)))));
    talk.renew();
    expect(talk.write('a', put(2)).number).toBe(0);
    expect(talk.read('a', before).id).toBe(1);
  });

  it('is never taken for one to another message, whatever is lost, late or doubled (seed 5)', () => {
    const random = seededRandom(5);
    const talk = new Talk();
    const replies: { readonly wire: OnWire; readonly id: number; readonly at: number }[] = [];
    const [taken, open] = [new Set<number>(), new Map<number, number>()];
    for (let id = 0; id < 4_000; id++) {
      talk.now += random.integer(4_000);
      const copies = open.get(id - 3) ?? 0;
      const [of, copy] = copies > 0 && copies < 4 && random.fraction() < 0.5 ? [id - 3, copies] : [id, 0];
      open.set(of, copy + 1);
      const wire = talk.tryWrite('a', put(of % 65_536), { copy });
      if (wire !== undefined && random.fraction() < 0.6) {
        const answer = talk.tryWrite('b', reply(talk.read('b', wire)));
        const at = talk.now + random.integer(TIMES.longestReply - 4_000);
        if (answer !== undefined && random.fraction() < 0.7) replies.push({ wire: answer, id: of, at });
      }
      for (const { wire: answer, id: expected, at } of replies.splice(0)) {
        if (at > talk.now) replies.push({ wire: answer, id: expected, at });
        else {
          const read = talk.tryRead('a', answer);
          if (typeof read === 'string') continue;
          expect(read.message.id).toBe(expected);
          taken.add(expected);
        }
      }
    }
    expect(taken.size).toBeGreaterThan(1_000);
  });
});

describe('the messages of one request', () => {
  const [one, two] = [Uint8Array.of(1, 1), Uint8Array.of(2, 2)];

  it('are parts of it while their token is the same, in whichever order they come', () => {
    const talk = new Talk();
    talk.a.skip(3);
    const blocks = [7, 8, 9].map((id) => talk.write('a', put(id, one), { request: 5 }));
    expect(blocks.map(({ bytes }) => hex(bytes.subarray(0, 2)))).toEqual(['1378', '2301', '2302']);
    const tokens = [2, 0, 1].map((i) => hex(talk.read('b', blocks[i]!).token));
    expect(new Set(tokens).size).toBe(1);
  });

  it('have the name of the first one, however often it is begun anew with another token', () => {
    const talk = new Talk();
    talk.a.skip(3);
    const first = talk.write('a', put(7, one), { request: 5 });
    const anew = talk.write('a', put(8, two), { request: 5 });
    const part = talk.write('a', put(9, two), { request: 5 });
    expect(hex(anew.bytes.subarray(0, 2))).toBe('3301');
    talk.renew();
    const late = talk.write('a', put(10, two), { request: 5 });
    const tokens = [first, anew, part, late].map((wire) => talk.read('b', wire).token);
    for (const token of tokens) expect(messageOf(token)).toEqual({ generation: 3, number: 3 });
    // What belongs to one attempt is told apart from what belongs to another.
    const [a, b, c, d] = tokens.map(hex);
    expect([b === a, c === b, d === b]).toEqual([false, true, true]);
    // Answers find the token that they are for.
    const separate = (token: Uint8Array): Message =>
      talk.read(
        'a',
        talk.write('b', encode({ type: 'CON', code: CHANGED, id: 1, token, options: [], payload: NO_BYTES })),
      );
    expect(separate(tokens[3]!).token).toEqual(two);
    // The token of an attempt that is over is nobody's: CoAP rejects what has it.
    expect(separate(tokens[0]!).token).toEqual(tokens[0]);
  });

  it('are not taken for those of another request that has got the same token', () => {
    const talk = new Talk();
    const tokens = [5, 6].map(
      (request) => talk.read('b', talk.write('a', put(request, one), { request })).token,
    );
    expect(tokens.map(messageOf)).toEqual([0, 1].map((number) => ({ generation: 3, number })));
  });
});

describe('records', () => {
  const MINUTE = 60_000;
  const labels = (captured: readonly { datagram: { label: string } }[]): string[] =>
    captured.map(({ datagram: { label } }) => label).filter((label) => label.startsWith('data'));

  it('are shared by what waits together, and by nothing long or less urgent', () => {
    const { network, a, b } = storingPair();
    for (const text of ['1', '2']) a.send('b.example', text);
    a.send('b.example', 'x'.repeat(300));
    a.send('b.example', 'later', null, 4);
    network.advance(MINUTE);
    expect(b.payloads).toEqual(['1', '2', 'x'.repeat(300), 'later'].map((text) => `a.example: ${text}`));
    expect(labels(network.captured.filter(({ from }) => from === 'a'))).toEqual([
      'data test + test',
      'data test',
      'data test',
    ]);
    // Each has a number of its own, so that the next record has the one behind them.
    const numbers = network.captured.flatMap(({ from, datagram: { bytes, label } }) =>
      from === 'a' && label.startsWith('data') ? [bytes[2]!] : [],
    );
    expect(numbers).toEqual([0, 2, 3]);
  });

  it('of a session without compact headers go on, and a new one with them begins as after a restart', () => {
    const { network, a, b } = storingPair();
    a.config = { capabilities: { compactHeader: false } };
    a.restart();
    a.send('b.example', 'full');
    network.advance(MINUTE);
    expect(b.payloads).toEqual(['a.example: full']);
    expect(b.endpoint.agreed('a.example').compactHeader).toBe(false);
    a.config = {};
    a.restart();
    const before = b.events.length;
    // On the old session, which shows as well that a new one is wanted.
    a.send('b.example', 'full still');
    network.advance(MINUTE);
    expect(b.payloads.at(-1)).toBe('a.example: full still');
    a.send('b.example', 'compact');
    network.advance(MINUTE);
    expect(b.payloads.at(-1)).toBe('a.example: compact');
    expect(b.endpoint.agreed('a.example').compactHeader).toBe(true);
    // Once for a's start, and once since no message of before has a name on the new session.
    const restarts = b.events
      .slice(before)
      .filter((event) => event.kind === 'restarted' || (event.kind === 'established' && event.restarted));
    expect(restarts.map(({ kind }) => kind)).toEqual(['restarted', 'established']);
  });
});
