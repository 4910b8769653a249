import { assert } from '../base/assert.ts';
import { bad, ok, type Result } from '../base/result.ts';

// AX.25 version 2.2, sections 3.12 (addresses), 4.2 (control field), 6.3 (unnumbered information without a connection).
const ADDRESS_BYTES = 7;
const CALL_LENGTH = 6;
const MOST_REPEATERS = 8;
const UI = 0x03;
const POLL_FINAL = 0x10;
const NO_LAYER_3 = 0xf0;
const SPACE = 0x20;
/** The last byte of an address: command or has-been-repeated, two reserved bits, SSID, whether it is the last. */
const COMMAND = 0x80;
const RESERVED = 0x60;
const LAST = 0x01;
const HIGHEST_SSID = 15;

/** Two addresses, control and protocol. */
export const AX25_OVERHEAD = 2 * ADDRESS_BYTES + 2;

/** A callsign in capitals, with `-` and the SSID where that is not 0: `N0CALL`, `N0CALL-7`. */
export type Callsign = string;

/** An unnumbered information frame: one datagram on a radio channel. */
export interface Ax25Frame {
  readonly destination: Callsign;
  readonly source: Callsign;
  readonly data: Uint8Array;
}

/** The callsign as addresses have it, or undefined where it is none: one to six letters and digits, SSID 0 to 15. */
export function parseCallsign(text: string): Callsign | undefined {
  const match = /^([A-Za-z0-9]{1,6})(?:-(\d{1,2}))?$/.exec(text);
  const ssid = Number(match?.[2] ?? 0);
  if (match === null || ssid > HIGHEST_SSID) return undefined;
  return formatCallsign(match[1]!.toUpperCase(), ssid);
}

const formatCallsign = (call: string, ssid: number): Callsign => (ssid === 0 ? call : `${call}-${ssid}`);

/** The bytes between the flags, without the checksum, which the modem adds. */
export function encodeAx25({ destination, source, data }: Ax25Frame): Uint8Array {
  const frame = new Uint8Array(AX25_OVERHEAD + data.length);
  putAddress(frame, 0, destination, COMMAND);
  putAddress(frame, ADDRESS_BYTES, source, LAST);
  frame[2 * ADDRESS_BYTES] = UI;
  frame[2 * ADDRESS_BYTES + 1] = NO_LAYER_3;
  frame.set(data, AX25_OVERHEAD);
  return frame;
}

function putAddress(frame: Uint8Array, at: number, callsign: Callsign, bits: number): void {
  assert(parseCallsign(callsign) === callsign, 'an address is a callsign');
  const [call = '', ssid = '0'] = callsign.split('-');
  for (let i = 0; i < CALL_LENGTH; i++) frame[at + i] = (call.charCodeAt(i) || SPACE) << 1;
  frame[at + CALL_LENGTH] = bits | RESERVED | (Number(ssid) << 1);
}

/**
 * Reads a frame. One that is still to be repeated on its way is a problem as well: it has not arrived.
 * The data shares memory with `frame`.
 */
export function decodeAx25(frame: Uint8Array): Result<Ax25Frame> {
  const addresses: Callsign[] = [];
  let at = 0;
  for (let last = false; !last; at += ADDRESS_BYTES) {
    if (addresses.length === 2 + MOST_REPEATERS) return bad('more repeaters than there may be');
    const callsign = addressAt(frame, at);
    if (callsign === undefined) return bad('an address that is no callsign');
    const end = frame[at + CALL_LENGTH]!;
    if (addresses.length >= 2 && (end & COMMAND) === 0) return bad('it is still to be repeated');
    addresses.push(callsign);
    last = (end & LAST) !== 0;
  }
  const [destination, source] = addresses;
  if (destination === undefined || source === undefined) return bad('it has one address only');
  const [control, protocol] = frame.subarray(at, at + 2);
  if (control === undefined || (control & ~POLL_FINAL) !== UI) return bad('not unnumbered information');
  if (protocol !== NO_LAYER_3) return bad('another protocol');
  return ok({ destination, source, data: frame.subarray(at + 2) });
}

function addressAt(frame: Uint8Array, at: number): Callsign | undefined {
  const field = frame.subarray(at, at + ADDRESS_BYTES);
  if (field.length < ADDRESS_BYTES || field.subarray(0, CALL_LENGTH).some((byte) => (byte & 1) !== 0))
    return undefined;
  const call = String.fromCharCode(...field.subarray(0, CALL_LENGTH).map((byte) => byte >> 1)).trimEnd();
  if (!/^[A-Z0-9]+$/.test(call)) return undefined;
  return formatCallsign(call, (field[CALL_LENGTH]! >> 1) & HIGHEST_SSID);
}
