import { concat, utf8 } from '../base/bytes.ts';
import { verify } from '../crypto/ed25519.ts';
import {
  add,
  BASE,
  decodePoint,
  littleEndian,
  multiplesOf,
  negate,
  ORDER,
  ordinatesOf,
  type Point,
  sumOfMultiples,
} from '../crypto/edwards25519.ts';
import { SHA512 } from '../crypto/hash.ts';
import { protectedText } from './hashes.ts';
import type { Pdu } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';

// An Ed25519 signature (RFC 8032, section 5.1.6) is a point R and a number S with S B = R + k A, where k is a hash of R, the key A
// and the message. S is below 2^253, and whoever has key and message can find some bits of it that are missing: S is s + x 2^j, and
// x is how often 2^j B has to be added to s B - k A before R comes out, a discrete logarithm in a short interval (baby steps and
// giant steps). So the last bytes of a signature need not be sent where bytes cost more than work. (Pornin, "Truncated
// EdDSA/ECDSA Signatures", IACR ePrint 2022/938.)

const POINT_BYTES = 32;
const SIGNATURE_BYTES = 64;

// Ours.
/** The last bytes of S, which are not sent. The upper half of the very last one is 0. */
const OMITTED_BYTES = 3;
const KNOWN_BITS = BigInt(8 * (POINT_BYTES - OMITTED_BYTES));
const UNKNOWN = 2 ** (8 * OMITTED_BYTES - 4);
/** How many multiples of the unit are kept: the table takes as long as this many steps, and each search UNKNOWN / 2 / this many. */
const BABY_STEPS = 2 ** 11;
const GIANT_STEP = 2 * BABY_STEPS;
/** Giant steps that are taken before it is looked where they have led: the inversion among them is for all of these. */
const BATCH = 32;

export const SHORT_SIGNATURE_BYTES = SIGNATURE_BYTES - OMITTED_BYTES;

/** The signature without what `completeSignature` finds; undefined for one of which that could not be found. */
export const shortSignature = (signature: Uint8Array): Uint8Array | undefined =>
  signature.length === SIGNATURE_BYTES && signature[SIGNATURE_BYTES - 1]! < 0x10
    ? signature.subarray(0, SHORT_SIGNATURE_BYTES)
    : undefined;

/**
 * The signature of a message that begins like this; undefined where there is none. It takes about as long as forty
 * verifications, and no longer whatever the bytes are.
 */
export function completeSignature(
  publicKey: Uint8Array,
  message: Uint8Array,
  short: Uint8Array,
): Uint8Array | undefined {
  if (short.length !== SHORT_SIGNATURE_BYTES || publicKey.length !== POINT_BYTES) return undefined;
  const r = short.subarray(0, POINT_BYTES);
  const [key, commitment] = [decodePoint(publicKey), decodePoint(r)];
  if (key === undefined || commitment === undefined) return undefined;
  const k = littleEndian(SHA512.digest(concat(r, publicKey, message))) % ORDER;
  const s = littleEndian(short.subarray(POINT_BYTES));
  const ahead = sumOfMultiples([
    { point: key, scalar: k },
    { point: negate(BASE), scalar: s },
  ]);
  for (const missing of candidates(add(commitment, ahead))) {
    const signature = concat(short, bytesOf(missing));
    if (verify(publicKey, message, signature)) return signature;
  }
  return undefined;
}

/** The signature of an event by that key (server-server API, "Signing Events") that begins like this; undefined where there is none. */
export const completeEventSignature = (
  pdu: Pdu,
  version: RoomVersion,
  publicKey: Uint8Array,
  short: Uint8Array,
): Uint8Array | undefined => completeSignature(publicKey, utf8(protectedText(pdu, version)), short);

const bytesOf = (missing: number): Uint8Array =>
  Uint8Array.from({ length: OMITTED_BYTES }, (_, i) => (missing >>> (8 * i)) & 0xff);

interface Table {
  /** Which multiple of the unit has that y, by some bits of it. */
  readonly steps: ReadonlyMap<number, number>;
  /** Back by GIANT_STEP units. */
  readonly giant: Point;
}

let table: Table | undefined;

/** Some bits of a y, which tell one from another. */
const mark = (y: bigint): number => Number(y & 0xffff_ffffn);

function stepsTable(): Table {
  if (table !== undefined) return table;
  const unit = sumOfMultiples([{ point: BASE, scalar: 2n ** KNOWN_BITS }]);
  const multiples = multiplesOf(unit, BABY_STEPS + 1);
  const steps = new Map(ordinatesOf(multiples).map((y, i) => [mark(y), i]));
  const giant = negate(add(multiples[BABY_STEPS]!, multiples[BABY_STEPS]!));
  table = { steps, giant };
  return table;
}

/** Numbers up to UNKNOWN of which one, if any, is how many units the point is. A point and its negative have one y. */
function* candidates(point: Point): Generator<number> {
  const { steps, giant } = stepsTable();
  let here = point;
  for (let units = 0; units <= UNKNOWN; ) {
    const batch: Point[] = [];
    for (let i = 0; i < BATCH; i++) {
      batch.push(here);
      here = add(here, giant);
    }
    for (const y of ordinatesOf(batch)) {
      const step = steps.get(mark(y));
      if (step !== undefined)
        for (const missing of [units + step, units - step])
          if (missing >= 0 && missing < UNKNOWN) yield missing;
      units += GIANT_STEP;
    }
  }
}
