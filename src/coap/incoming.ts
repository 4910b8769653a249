import type { CoapResponse } from './api.ts';
import { codeClass } from './codes.ts';
import type { Remembered } from './memory.ts';
import type { Message, MessageType } from './message.ts';
import { firstOption, OPTION, type Option } from './options.ts';
import type { Asked } from './transfers.ts';
import { emptyMessage } from './transmitter.ts';

/** One request of a peer, from its arrival to its answer. */
export interface Incoming extends Asked {
  readonly kind: 'exchange';
  readonly handle: number;
  readonly type: MessageType;
  readonly id: number;
  readonly token: Uint8Array;
  readonly entry: Remembered;
  /** Length of the message that brought it. */
  readonly bytes: number;
  /** The classes of responses that the client does not want, as bits (RFC 7967, section 2.1). */
  readonly unwanted: number;
  /** Whether it may be accepted as a registration (RFC 7641, section 3.1). */
  observe: boolean;
  /** Whether a large response may go by selective repeat. */
  readonly selective: boolean;
  /** Whether the peer has got an empty acknowledgement, so that the response goes separately. */
  acknowledged: boolean;
}

/** Stands for a message that is not remembered, since its copies are harmless. */
export const unremembered = ({ id, type }: Message): Remembered => ({
  ...{ id, type, expiresAt: 0, exchange: null, shed: false },
  ...{ reply: emptyMessage('ACK', id), label: 'ACK' },
});

export const isUnremembered = ({ expiresAt }: Remembered): boolean => expiresAt === 0;

export const asksForLaterBlock = ({ block2 }: Incoming): boolean => (block2?.num ?? 0) > 0;

export const isForProxy = (options: readonly Option[]): boolean =>
  [OPTION.proxyUri, OPTION.proxyScheme].some((number) => firstOption(options, number) !== undefined);

/**
 * Whether the client has said that it does not want such a response (RFC 7967, section 2.1). To a block that is not the
 * last it needs an answer, or it cannot go on.
 */
export const isUnwanted = ({ unwanted, block1 }: Incoming, { code: value }: CoapResponse): boolean =>
  block1?.more !== true && (unwanted & (1 << (codeClass(value) - 1))) !== 0;
