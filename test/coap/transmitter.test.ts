import { describe, expect, it } from 'vitest';
import type { Priority } from '../../src/base/priority.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { CoapStep } from '../../src/coap/api.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { type Delivery, rfc7252Timing, type Timing } from '../../src/coap/timing.ts';

/** The timer after 10 s, an early copy after 4 s from the third copy on; both from the moment at which a copy has left. */
class Recording {
  readonly replies: Delivery[] = [];
  readonly heard: number[] = [];
  idle = true;
  readonly timing: Timing = {
    ...rfc7252Timing(),
    maxRetransmit: null,
    transmitSpan: Number.POSITIVE_INFINITY,
    exchangeLifetime: 500_000,
    retransmitAfter: () => 10_000,
    repeatAfter: (attempt) => (attempt < 2 ? null : 4_000),
    mayRepeat: () => this.idle,
    replied: (delivery) =>
      this.replies.push({ ...delivery, leftAt: [...delivery.leftAt], repliedAt: [...delivery.repliedAt] }),
    heard: (bytes) => this.heard.push(bytes),
  };
  readonly endpoint = new CoapEndpoint({ random: seededRandom(1), timing: () => this.timing });
  readonly unanswered: number[] = [];
  /** When each copy was handed over. */
  readonly sentAt: number[] = [];
  readonly sent: Message[] = [];
  readonly bytes: Uint8Array[] = [];
  #deadline: number | null = null;
  #receipts: number[] = [];

  request(priority: Priority, deadline = 200_000): void {
    const request = { code: 3, options: [], payload: new Uint8Array(19) };
    this.#take(this.endpoint.request('b', request, { deadline, priority }, 0).step, 0);
  }

  /** Lets time pass; each copy needs two seconds to leave. */
  run(until: number): void {
    for (let at = this.#deadline; at !== null && at <= until; at = this.#deadline)
      this.#take(this.endpoint.tick(at), at);
  }

  /** @param copy which copy a reply is said to be to */
  receive(message: Message, now: number, copy?: number): number {
    this.run(now);
    const bytes = encode(message);
    this.#take(this.endpoint.receive('b', bytes, now, copy), now);
    return bytes.length;
  }

  #take(step: CoapStep, now: number): void {
    this.#deadline = step.deadline;
    for (const { bytes, receipt } of step.datagrams) {
      const message = decode(bytes);
      if (!message.ok || receipt === null) continue;
      this.sentAt.push(now);
      this.sent.push(message.value);
      this.bytes.push(bytes);
      this.#receipts.push(receipt);
    }
    for (const event of step.events) if (event.kind === 'unanswered') this.unanswered.push(event.attempts);
    for (const receipt of this.#receipts.splice(0))
      this.#take(this.endpoint.left(receipt, now + 2_000), now + 2_000);
  }
}

const answerTo = ({ id, token }: Message): Message => ({
  ...{ type: 'ACK', code: 0x44, id, token },
  ...{ options: [], payload: new Uint8Array(0) },
});

describe('a confirmable message', () => {
  it('of the top class is sent again before its timer where the timing allows it', () => {
    const node = new Recording();
    node.request(1);
    node.run(50_000);
    // Twice by the timer, then early.
    expect(node.sentAt).toEqual([0, 12_000, 24_000, 30_000, 36_000, 42_000, 48_000]);
    expect(node.endpoint.counters).toMatchObject({ resent: 6, repeated: 4 });
    // A copy counts as unanswered once it has had its time, however the next one came about.
    expect(node.unanswered).toEqual([1, 2, 3, 4, 5]);
  });

  it.each([2, 3, 4, 5] as const)('of class %i waits for its timer', (priority) => {
    const node = new Recording();
    node.request(priority);
    node.run(50_000);
    expect(node.sentAt).toEqual([0, 12_000, 24_000, 36_000, 48_000]);
    expect(node.endpoint.counters).toMatchObject({ resent: 4, repeated: 0 });
  });

  it('waits for its timer while the link has something else to do', () => {
    const node = new Recording();
    node.idle = false;
    node.request(1);
    node.run(30_000);
    expect(node.sentAt).toEqual([0, 12_000, 24_000]);
    node.run(35_000);
    // Asked again at 30 and 34 seconds; idle from 35 on, its timer runs out at 36.
    node.idle = true;
    node.run(43_000);
    expect(node.sentAt).toEqual([0, 12_000, 24_000, 36_000, 42_000]);
  });

  it('is given up at its deadline, whichever timer runs', () => {
    const node = new Recording();
    node.request(1, 45_000);
    node.run(1_000_000);
    expect(node.sentAt).toEqual([0, 12_000, 24_000, 30_000, 36_000, 42_000]);
    expect(node.endpoint.held.peers).toBe(0);
  });
});

describe('a reply of which it is known to which copy it is', () => {
  it('tells when that copy left, as long as that is remembered', () => {
    const node = new Recording();
    node.request(1);
    node.run(25_000);
    const [first] = node.sent;
    // The third copy leaves at 26 s.
    node.receive(answerTo(first!), 27_000, 1);
    expect(node.replies.at(-1)).toMatchObject({ copies: 3, leftAt: [2_000, 14_000, 26_000], answered: 1 });
    node.receive(answerTo(first!), 28_000, 0);
    expect(node.replies.at(-1)).toMatchObject({ repliedAt: [27_000, 28_000], answered: 0 });
    node.receive(answerTo(first!), 29_000);
    expect(node.replies.at(-1)).not.toHaveProperty('answered');
  });

  it('and is not counted wrongly where the first instants are forgotten', () => {
    const node = new Recording();
    node.request(1, 400_000);
    node.run(230_000);
    const copies = node.sent.length;
    expect(copies).toBeGreaterThan(32);
    node.receive(answerTo(node.sent[0]!), 231_000, copies - 2);
    const { leftAt, answered } = node.replies.at(-1)!;
    expect([leftAt.length, leftAt[answered!]]).toEqual([32, node.sentAt.at(-2)! + 2_000]);
    node.receive(answerTo(node.sent[0]!), 232_000, 0);
    expect(node.replies.at(-1)!.answered).toBeLessThan(0);
  });
});

describe('the time in which the copies of a message leave', () => {
  it("is RFC 7252's MAX_TRANSMIT_SPAN, and where a timer runs late the answer is still waited for", () => {
    const endpoint = new CoapEndpoint({ random: seededRandom(1), timing: () => rfc7252Timing() });
    const request = { code: 1, options: [], payload: new Uint8Array(0) };
    const copies: number[] = [];
    let failedAt = 0;
    let step = endpoint.request('b', request, { deadline: 1e6, priority: 1 }, 0).step;
    for (let now = 0; failedAt === 0; now = step.deadline! + 7_000) {
      if (now > 0) step = endpoint.tick(now);
      if (step.events.some(({ kind }) => kind === 'failed')) failedAt = now;
      const { receipt } = step.datagrams[0] ?? { receipt: null };
      if (receipt === null) continue;
      copies.push(now);
      step = endpoint.left(receipt, now);
    }
    // The fourth copy after the first would have left after a minute.
    expect(copies).toHaveLength(4);
    expect(copies.at(-1)).toBeLessThan(45_000);
    expect(failedAt - copies.at(-1)!).toBeGreaterThan(32_000);
  });
});

describe('what the timing is told', () => {
  it('is when each copy left, and when each reply to one of them came, also after the first', () => {
    const node = new Recording();
    node.request(1);
    node.run(20_000);
    const answer = answerTo(node.sent[0]!);
    const bytesReceived = node.receive(answer, 21_000);
    node.receive(answer, 23_000);
    const common = { code: 3, bytesSent: node.bytes[0]!.length, bytesReceived, empty: false, copies: 2 };
    const leftAt = [2_000, 14_000];
    expect(node.replies).toEqual([
      { ...common, leftAt, repliedAt: [21_000] },
      { ...common, leftAt, repliedAt: [21_000, 23_000] },
    ]);
  });

  it('is whether the reply was an empty acknowledgement', () => {
    const node = new Recording();
    node.request(1);
    node.receive({ ...answerTo(node.sent[0]!), code: 0, token: new Uint8Array(0) }, 9_000);
    expect(node.replies).toMatchObject([
      { empty: true, bytesReceived: 4, leftAt: [2_000], repliedAt: [9_000] },
    ]);
  });

  it('does not come from what matches no message of ours, or only its id', () => {
    const node = new Recording();
    node.request(1);
    const answer = answerTo(node.sent[0]!);
    node.receive({ ...answer, id: (answer.id + 1) % 65_536 }, 5_000);
    node.receive({ ...answer, token: Uint8Array.of(1, 2, 3, 4) }, 6_000);
    expect(node.replies).toEqual([]);
    node.receive(answer, 7_000);
    expect(node.replies).toHaveLength(1);
  });

  it("includes the peer's own messages", () => {
    const node = new Recording();
    node.request(1);
    const length = node.receive(
      { type: 'CON', code: 1, id: 7, token: Uint8Array.of(9), options: [], payload: new Uint8Array(0) },
      5_000,
    );
    expect(node.heard).toEqual([length]);
  });
});
