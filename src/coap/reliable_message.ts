import { utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { code, codeClass } from './codes.ts';
import { decode, encode, type Message, NO_BYTES } from './message.ts';
import { isCritical, type Option, uintOf, uintOption } from './options.ts';

/** A message over a reliable transport: what a Message is, but for the type and the id, for which TCP has its own. */
export type ReliableMessage = Pick<Message, 'code' | 'token' | 'options' | 'payload'>;

// RFC 8323, section 5: signalling codes.
const SIGNAL_CLASS = 7;
export const SIGNAL = {
  csm: code(SIGNAL_CLASS, 1),
  ping: code(SIGNAL_CLASS, 2),
  pong: code(SIGNAL_CLASS, 3),
  release: code(SIGNAL_CLASS, 4),
  abort: code(SIGNAL_CLASS, 5),
} as const;

/** Their options; the same number means another thing under another code (sections 5.3 to 5.6). */
const CSM_MAX_MESSAGE_SIZE = 2;
const CSM_BLOCK_WISE_TRANSFER = 4;
const RELEASE_HOLD_OFF = 4;
const ABORT_BAD_CSM_OPTION = 2;

/** What a peer takes that has not said otherwise (section 5.3.1). */
export const BASE_MAX_MESSAGE_SIZE = 1152;

export const isSignal = (value: number): boolean => codeClass(value) === SIGNAL_CLASS;

const LENGTH_BITS = 0xf0;
/** Version 1 and the type NON, as a datagram's header has them (RFC 7252, section 3). */
const DATAGRAM_BITS = 0x50;
/** Where the token starts in a datagram, and in a WebSocket message: there the two bytes of the id are missing. */
const TOKEN_AT = { datagram: 4, reliable: 2 } as const;

/** A WebSocket message (RFC 8323, section 4.2): the length nibble is 0, since WebSocket frames have a length. */
export function encodeReliable(message: ReliableMessage): Uint8Array {
  const datagram = encode({ ...message, type: 'NON', id: 0 });
  const bytes = new Uint8Array(datagram.length - TOKEN_AT.datagram + TOKEN_AT.reliable);
  bytes[0] = datagram[0]! & ~LENGTH_BITS;
  bytes[1] = message.code;
  bytes.set(datagram.subarray(TOKEN_AT.datagram), TOKEN_AT.reliable);
  return bytes;
}

/** Reads a WebSocket message. Never throws; the problem is for a diagnostic payload. */
export function decodeReliable(bytes: Uint8Array): Result<ReliableMessage> {
  const [first, second] = bytes;
  if (first === undefined || second === undefined) return bad('a message has at least two bytes');
  if ((first & LENGTH_BITS) !== 0) return bad('the length of a message over WebSocket is 0');
  const datagram = new Uint8Array(bytes.length - TOKEN_AT.reliable + TOKEN_AT.datagram);
  datagram[0] = DATAGRAM_BITS | first;
  datagram[1] = second;
  datagram.set(bytes.subarray(TOKEN_AT.reliable), TOKEN_AT.datagram);
  const decoded = decode(datagram);
  if (!decoded.ok) return bad(`malformed: ${decoded.problem.reason}`);
  const { code, token, options, payload } = decoded.value;
  return ok({ code, token, options, payload });
}

/** What a peer says in a signalling message; what is elective and unknown in it is left out. */
export type Signal =
  | { readonly kind: 'csm'; readonly maxMessageSize: number | undefined; readonly blockWise: boolean }
  | { readonly kind: 'ping' | 'pong'; readonly token: Uint8Array }
  /** The peer wants to end the connection. `holdOffSeconds`: for how long it does not want to be called again. */
  | { readonly kind: 'release'; readonly holdOffSeconds: number }
  | { readonly kind: 'abort'; readonly diagnostic: Uint8Array };

/** Why a signalling message ends the connection. */
export interface SignalProblem {
  readonly sentence: string;
  /** The critical option of a CSM that is not known here. */
  readonly badCsmOption: number | null;
}

/** Reads a message of class 7. Every option with a critical number is unknown: this version of CoAP has none. */
export function readSignal({
  code,
  token,
  options,
  payload,
}: ReliableMessage): Result<Signal, SignalProblem> {
  const critical = options.find(({ number }) => isCritical(number));
  if (critical !== undefined) {
    const badCsmOption = code === SIGNAL.csm ? critical.number : null;
    return bad({ sentence: `unknown critical option ${critical.number}`, badCsmOption });
  }
  switch (code) {
    case SIGNAL.csm:
      return ok({
        kind: 'csm',
        maxMessageSize: lastUint(options, CSM_MAX_MESSAGE_SIZE),
        blockWise: options.some(({ number }) => number === CSM_BLOCK_WISE_TRANSFER),
      });
    case SIGNAL.ping:
      return ok({ kind: 'ping', token });
    case SIGNAL.pong:
      return ok({ kind: 'pong', token });
    case SIGNAL.release:
      return ok({ kind: 'release', holdOffSeconds: lastUint(options, RELEASE_HOLD_OFF) ?? 0 });
    case SIGNAL.abort:
      return ok({ kind: 'abort', diagnostic: payload });
    default:
      return bad({ sentence: 'unknown signalling code', badCsmOption: null });
  }
}

/** None of these options is repeatable; of several the last one counts, as that of several CSMs does. */
function lastUint(options: readonly Option[], wanted: number): number | undefined {
  const option = options.findLast(({ number }) => number === wanted);
  return option === undefined ? undefined : uintOf(option);
}

/** The first message on a connection: what this side takes (section 5.3). */
export const csm = (maxMessageSize: number): ReliableMessage =>
  signal(SIGNAL.csm, [
    uintOption(CSM_MAX_MESSAGE_SIZE, maxMessageSize),
    { number: CSM_BLOCK_WISE_TRANSFER, value: NO_BYTES },
  ]);

export const ping = (token: Uint8Array): ReliableMessage => ({ ...signal(SIGNAL.ping, []), token });

export const pong = (token: Uint8Array): ReliableMessage => ({ ...signal(SIGNAL.pong, []), token });

/** The last message on a connection that cannot go on (section 5.6). */
export function abort({ sentence, badCsmOption }: SignalProblem): ReliableMessage {
  const options = badCsmOption === null ? [] : [uintOption(ABORT_BAD_CSM_OPTION, badCsmOption)];
  return { ...signal(SIGNAL.abort, options), payload: utf8(sentence) };
}

const signal = (value: number, options: readonly Option[]): ReliableMessage => ({
  code: value,
  token: NO_BYTES,
  options,
  payload: NO_BYTES,
});
