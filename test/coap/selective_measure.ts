import type { Millis } from '../../src/base/time.ts';
import { bodyOf, same } from './bad_links.ts';
import { pair } from './host.ts';
import { selectivePair } from './selective_host.ts';

/** From the links that the project is for: bits a second, and milliseconds one way. */
export const LINKS = [
  { rate: 100, latency: 2_000 },
  { rate: 1_200, latency: 300 },
  { rate: 50_000, latency: 300 },
  { rate: 50_000, latency: 2_000 },
] as const;

export interface Scenario {
  readonly rate: number;
  readonly latency: Millis;
  /** In each direction. */
  readonly loss: number;
  /** Of the body, in bytes. */
  readonly length: number;
}

/** What a transfer took, both directions together, until the sender knew that it was complete. */
export interface Transfer {
  readonly datagrams: number;
  /** On the wire, with everything below CoAP. */
  readonly bytes: number;
  readonly seconds: number;
}

const BULK = 4;
const NEVER: Millis = 1e9;

const transferOf = (seen: readonly { fate: string; wire: number }[], end: Millis): Transfer => {
  const sent = seen.filter(({ fate }) => fate === 'sent');
  return {
    datagrams: sent.length,
    bytes: sent.reduce((sum, { wire }) => sum + wire, 0),
    seconds: end / 1000,
  };
};

/**
 * One PUT in blocks that are each acknowledged before the next (RFC 7959), with an empty answer. Null where it failed:
 * a block went unanswered for half of the exchange lifetime.
 */
export function byLockstep({ rate, latency, loss, length }: Scenario, seed: number): Transfer | null {
  const response = { code: 0x44, options: [], payload: new Uint8Array(0) };
  const { clock, a, b, seen } = pair({
    seed,
    conditions: { rate, latency, loss },
    handler: () => ({ after: 0, response }),
  });
  const body = bodyOf('body', length);
  const handle = a.request('b', { code: 3, options: [], payload: body }, NEVER, BULK);
  while (!a.outcomes.has(handle)) clock.step();
  const { at, response: answer, reason } = a.outcomes.get(handle)!;
  if (reason === 'timeout') return null;
  if (answer === undefined || !same(b.delivered[0]!.payload, body)) throw new Error(`lockstep: ${reason}`);
  return transferOf(seen, at);
}

/** The same body by selective repeat, with blocks of the same size. */
export function bySelectiveRepeat({ rate, latency, loss, length }: Scenario, seed: number): Transfer {
  const { clock, a, b, seen } = selectivePair({ seed, conditions: { rate, latency, loss } });
  const body = bodyOf('body', length);
  const token = a.send('b', body);
  while (!a.ended.has(token)) clock.step();
  if (!same(b.delivered[0]!.body, body)) throw new Error('another body arrived');
  return transferOf(seen, a.ended.get(token)!.at);
}
