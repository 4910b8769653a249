import { hex } from '../../base/bytes.ts';
import { EMPTY } from '../../coap/codes.ts';
import type { Message } from '../../coap/message.ts';
import { firstUint, OPTION, type Option } from '../../coap/options.ts';
import { codeText, labelOf, optionText, renderPayload } from '../coap/render.ts';
import { type Layer, layer, type Part } from './parts.ts';

/** RFC 7252, section 3. */
const HEADER_BYTES = 4;

/** A message in the form of RFC 7252; its payload is explained by `payloadLayers` where that is given. */
export function messageLayers(
  message: Message,
  payloadLayers: (message: Message) => readonly Layer[] = (one) => plainPayload(one),
): Layer[] {
  const { type, code, id, token } = message;
  const lengthBytes = extension(token.length);
  const header: Part[] = [
    { name: 'version, type', value: `1, ${type}`, bytes: 1 },
    { name: 'code', value: code === EMPTY ? '0.00 Empty' : codeText(code), bytes: 1 },
    { name: 'message id', value: String(id), bytes: HEADER_BYTES - 2 },
    { name: 'token', value: hex(token), bytes: token.length + lengthBytes },
  ];
  return [layer('CoAP header', header), ...restLayers(message, payloadLayers)];
}

/** Options and payload. */
export function restLayers(
  message: Message,
  payloadLayers: (message: Message) => readonly Layer[],
): readonly Layer[] {
  const { options, payload } = message;
  return [
    ...(options.length > 0 ? [layer('CoAP options', optionParts(options))] : []),
    ...(payload.length > 0 ? payloadLayers(message) : []),
  ];
}

export const PAYLOAD_MARKER: Part = { name: 'marker', value: 'ff', bytes: 1 };
/** Behind a compact header without options. */
export const NO_MARKER: Part = { ...PAYLOAD_MARKER, bytes: 0 };

/**
 * The payload as its Content-Format says.
 * @param marker what stands in front of it
 */
export function plainPayload({ options, payload }: Message, marker: Part = PAYLOAD_MARKER): Layer[] {
  const { text } = renderPayload(payload, firstUint(options, OPTION.contentFormat), false);
  return [layer('payload', [marker, { name: 'content', value: text, bytes: payload.length }])];
}

/** RFC 7252, section 3.1: a byte for both, one or two more for a long difference of numbers, and for a long value. */
function optionParts(options: readonly Option[]): Part[] {
  let before = 0;
  return options.map((option) => {
    const { number, value } = option;
    const bytes = 1 + extension(number - before) + extension(value.length) + value.length;
    before = number;
    return { name: labelOf(number), value: optionText(option), bytes };
  });
}

const extension = (value: number): number => (value < 13 ? 0 : value < 269 ? 1 : 2);
