// RFC 9000, section 16: the two high bits say how long an integer is.
const LENGTHS = [1, 2, 4, 8] as const;
/** The longest one. */
export const MOST_VARINT_BYTES = 8;

/** @param value a safe integer */
export function encodeVarint(value: number): Uint8Array {
  const code = LENGTHS.findIndex((length) => value < 2 ** (8 * length - 2));
  const eight = new Uint8Array(MOST_VARINT_BYTES);
  const view = new DataView(eight.buffer);
  view.setUint32(0, Math.floor(value / 2 ** 32));
  view.setUint32(4, value % 2 ** 32);
  const varint = eight.subarray(MOST_VARINT_BYTES - LENGTHS[code]!);
  varint[0]! |= code << 6;
  return varint;
}

/** The integer at `at` and where it ends; undefined where the bytes end before it does, or it is above `most`. */
export function decodeVarint(
  bytes: Uint8Array,
  at: number,
  most: number,
): { readonly value: number; readonly end: number } | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  const end = at + LENGTHS[first >> 6]!;
  if (end > bytes.length) return undefined;
  let value = first & 0x3f;
  for (let next = at + 1; next < end; next++) value = value * 256 + bytes[next]!;
  return value > most ? undefined : { value, end };
}
