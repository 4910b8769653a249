import { fromHex } from '../../../src/base/bytes.ts';
import { seededRandom } from '../../../src/base/random.ts';
import type { CoapConfig, CoapEvent, CoapResponse, CoapStep } from '../../../src/coap/api.ts';
import { code } from '../../../src/coap/codes.ts';
import { CoapEndpoint } from '../../../src/coap/endpoint.ts';
import { decode, encode, type Message, NO_BYTES } from '../../../src/coap/message.ts';
import { OPTION, type Option, stringOption } from '../../../src/coap/options.ts';
import { rfc7252Timing } from '../../../src/coap/timing.ts';

export const GET = 1;
export const POST = 2;
export const PUT = 3;
export const DELETE = 4;
export const CONTENT = code(2, 5);
export const CHANGED = code(2, 4);

export const PATH: Option = stringOption(OPTION.uriPath, 'x');
export const TOKEN = Uint8Array.of(9);

export const endpointWith = (config: Partial<CoapConfig> = {}): CoapEndpoint =>
  new CoapEndpoint({ random: seededRandom(7), timing: () => rfc7252Timing(), ...config });

/** The bytes of a message of the peer. */
export const bytesOf = (
  type: Message['type'],
  value: number,
  id: number,
  rest: Partial<Pick<Message, 'token' | 'options' | 'payload'>> = {},
): Uint8Array =>
  encode({
    type,
    code: value,
    id,
    token: value === 0 ? NO_BYTES : TOKEN,
    options: [],
    payload: NO_BYTES,
    ...rest,
  });

/** Bytes written in hexadecimal, with spaces. */
export function bytes(text: string): Uint8Array {
  const result = fromHex(text.replaceAll(' ', ''));
  if (result === undefined) throw new Error(`${text} is not hexadecimal`);
  return result;
}

/** The messages that a step sends. */
export const sent = (step: CoapStep): Message[] => step.datagrams.map((one) => parsed(one.bytes));

export function parsed(datagram: Uint8Array): Message {
  const result = decode(datagram);
  if (!result.ok) throw new Error(`no message: ${result.problem.reason}`);
  return result.value;
}

/** `ACK 2.05`: type and code of each message that a step sends. */
export const summary = (step: CoapStep): string[] =>
  sent(step).map(({ type, code: value }) => `${type} ${value >> 5}.${String(value & 31).padStart(2, '0')}`);

/** An option as a value that can be compared. */
export const plain = ({ number, value }: Option): Option => ({ number, value });

/** Nothing is sent, and the application is told nothing. */
export const NOTHING = { datagrams: [], events: [] };

export const eventsOf = (step: CoapStep, kind: CoapEvent['kind']): CoapEvent[] =>
  step.events.filter((event) => event.kind === kind);

export function requestIn(step: CoapStep): CoapEvent & { kind: 'request' } {
  const event = step.events.find((one) => one.kind === 'request');
  if (event?.kind !== 'request') throw new Error('no request was delivered');
  return event;
}

export const content = (payload: Uint8Array = NO_BYTES, options: readonly Option[] = []): CoapResponse => ({
  code: CONTENT,
  options,
  payload,
});

export const get = { code: GET, options: [PATH], payload: NO_BYTES };
export const wanted = { deadline: 600_000, priority: 1 } as const;

/** A request of the endpoint, on its way; everything that it sends has left at once. */
export function ask(
  endpoint: CoapEndpoint,
  now = 0,
  options: Partial<Parameters<CoapEndpoint['request']>[2]> = {},
  request: Parameters<CoapEndpoint['request']>[1] = get,
): { readonly handle: number; readonly message: Message; readonly step: CoapStep } {
  const begun = endpoint.request('server', request, { ...wanted, ...options }, now);
  return { handle: begun.handle, message: sent(begun.step)[0]!, step: leave(endpoint, begun.step, now) };
}

/** All that a step sends has left. Answers the newest step. */
export function leave(endpoint: CoapEndpoint, step: CoapStep, now: number): CoapStep {
  return step.datagrams.reduce(
    (newest, { receipt }) => (receipt === null ? newest : endpoint.left(receipt, now)),
    step,
  );
}

/** Lets time pass until `until`, and collects what is sent, with the time at which it is. */
export function passing(
  endpoint: CoapEndpoint,
  step: CoapStep,
  until: number,
): { readonly sent: { readonly at: number; readonly bytes: Uint8Array }[]; readonly events: CoapEvent[] } {
  const all: { at: number; bytes: Uint8Array }[] = [];
  const events: CoapEvent[] = [];
  let { deadline } = step;
  while (deadline !== null && deadline <= until) {
    const at: number = deadline;
    const next = endpoint.tick(at);
    all.push(...next.datagrams.map((one) => ({ at, bytes: one.bytes })));
    events.push(...next.events);
    ({ deadline } = leave(endpoint, next, at));
  }
  return { sent: all, events };
}
