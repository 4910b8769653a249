import { expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { DEFAULT_LIMITS } from '../../src/coap/core.ts';
import { CoapEndpoint, type CoapStep } from '../../src/coap/endpoint.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { OPTION, type Option, uintOption } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';

const LIMITS = {
  ...DEFAULT_LIMITS,
  peers: 20,
  exchanges: 30,
  exchangesPerPeer: 10,
  rememberedPerPeer: 200,
  remembered: 2_000,
  replyBytes: 20_000,
  bodyBytes: 4_000,
  assemblies: 10,
  assembliesPerPeer: 3,
  assemblyBytes: 10_000,
  bodies: 5,
  cachedBodyBytes: 10_000,
};

const TYPES = ['CON', 'NON', 'ACK', 'RST'] as const;
const BLOCKS = [OPTION.block1, OPTION.block2] as const;
const NUMBERS = [1, 3, 4, 6, 9, 11, 12, 14, 15, 17, 28, 35, 60, 256, 258, 292, 65_000, 65_001];

/** Something that gets past the decoder more often than not, aimed at what the endpoint is waiting for. */
function likely(random: Random, waiting: readonly Message[]): Uint8Array {
  const aim = random.integer(2) === 0 ? waiting[random.integer(waiting.length + 1)] : undefined;
  const options: Option[] = [];
  for (const number of BLOCKS) {
    if (random.integer(3) === 0)
      options.push(
        uintOption(number, random.integer(2) === 0 ? random.integer(64) : random.integer(2 ** 24)),
      );
  }
  for (let n = random.integer(3); n > 0; n--) {
    options.push({
      number: NUMBERS[random.integer(NUMBERS.length)]!,
      value: random.bytes(random.integer(4)),
    });
  }
  const codes = [1, 2, 3, 4, 5, 0x41, 0x44, 0x45, 0x5f, 0x80, 0x88, 0x8d, 0xa3, random.integer(256)];
  const code = codes[random.integer(codes.length)]!;
  const sizes = [0, 16, 32, 64, random.integer(100)];
  const message: Message = {
    type: TYPES[random.integer(4)]!,
    code,
    id: aim?.id ?? random.integer(500),
    token: aim?.token ?? random.bytes(random.integer(9)),
    options,
    payload: new Uint8Array(sizes[random.integer(sizes.length)]!),
  };
  return encode(
    code === 0 ? { ...message, token: new Uint8Array(0), options: [], payload: new Uint8Array(0) } : message,
  );
}

/** Random and mutated datagrams at one endpoint. */
export function underFire(datagrams: number): void {
  it(`never throws and keeps its bounds through ${datagrams} random and mutated datagrams`, () => {
    const random = seededRandom(2026);
    const endpoint = new CoapEndpoint({
      random: seededRandom(1),
      timing: () => rfc7252Timing({ nstart: 3, blockSize: 64 }),
      limits: LIMITS,
    });
    let now = 0;
    let [delivered, ended, started] = [0, 0, 0];
    const waiting: Message[] = [];
    const open: number[] = [];
    const handle = (step: CoapStep): void => {
      for (const { bytes, receipt } of step.datagrams) {
        const result = decode(bytes);
        if (!result.ok) throw new Error('an endpoint sends only messages');
        if (result.value.type === 'CON') waiting.push(result.value);
        if (waiting.length > 20) waiting.shift();
        if (receipt !== null && random.integer(4) > 0) handle(endpoint.left(receipt, now));
      }
      for (const event of step.events) {
        if (event.kind === 'request') open.push(event.exchange);
        if (event.kind === 'request') delivered++;
        if (event.kind === 'response' || event.kind === 'failed') ended++;
      }
    };
    for (let n = 0; n < datagrams; n++) {
      now += random.integer(40);
      const peer = `p${random.integer(30)}`;
      const bytes = random.integer(4) === 0 ? random.bytes(random.integer(40)) : likely(random, waiting);
      if (random.integer(3) === 0 && bytes.length > 0)
        bytes[random.integer(bytes.length)]! ^= 1 << random.integer(8);
      handle(endpoint.receive(peer, bytes, now));
      if (n % 7 === 0 && open.length > 0) {
        const exchange = open.splice(random.integer(open.length), 1)[0]!;
        handle(
          endpoint.respond(
            exchange,
            { code: 0x45, options: [], payload: new Uint8Array(random.integer(500)) },
            now,
          ),
        );
      }
      if (n % 50 === 0) {
        const request = {
          code: 1 + random.integer(4),
          options: [],
          payload: new Uint8Array(random.integer(300)),
        };
        started++;
        handle(endpoint.request(peer, request, { deadline: now + 20_000, priority: 1 }, now).step);
      }
      if (n % 10 === 0) handle(endpoint.tick(now));
      if (n % 20_000 === 0) handle(endpoint.restarted(peer, now));
      if (n % 100 === 0) {
        const held = endpoint.held;
        for (const [name, bound] of [
          ['peers', LIMITS.peers],
          ['exchanges', LIMITS.exchanges],
          ['uploads', LIMITS.assemblies],
          ['assembling', LIMITS.assemblyBytes],
          ['cachedBodyBytes', LIMITS.cachedBodyBytes],
          ['remembered', LIMITS.remembered],
          ['replyBytes', LIMITS.replyBytes],
        ] as const) {
          expect(held[name], name).toBeLessThanOrEqual(bound);
        }
      }
    }
    for (const exchange of open)
      handle(endpoint.respond(exchange, { code: 0x45, options: [], payload: new Uint8Array(0) }, now));
    for (let step = endpoint.tick(now); step.deadline !== null; step = endpoint.tick(now)) {
      handle(step);
      now = step.deadline;
    }

    expect(ended).toBe(started);
    expect(delivered).toBeGreaterThan(datagrams / 200);
    expect(endpoint.counters.malformed).toBeGreaterThan(datagrams / 200);
    // Once everything has expired nothing is left.
    expect(Object.values(endpoint.held).every((count) => count === 0)).toBe(true);
  });
}
