// RFC 8032, section 5.1: the curve -x^2 + y^2 = 1 + d x^2 y^2 over the integers modulo P.
const P = 2n ** 255n - 19n;
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
/** The order of BASE. */
export const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const SQRT_MINUS_ONE = 19681161376707505956807079304988542015446066515923890162744021073123829784752n;
const SIGN_BIT = 2n ** 255n;
const D2 = (2n * D) % P;

/** A point in extended coordinates (section 5.1.4): x = X/Z, y = Y/Z, T = XY/Z. */
export interface Point {
  readonly X: bigint;
  readonly Y: bigint;
  readonly Z: bigint;
  readonly T: bigint;
}

const LOW_BITS = 2n ** 255n - 1n;
/** A number of the same class with few more bits than P (2^255 is 19), of one of either sign with up to 600. */
const reduced = (a: bigint): bigint => {
  const folded = (a & LOW_BITS) + 19n * (a >> 255n);
  return (folded & LOW_BITS) + 19n * (folded >> 255n);
};

/** The number of the class that is from 0 up and below P. */
const mod = (a: bigint): bigint => {
  const rest = a % P;
  return rest < 0n ? rest + P : rest;
};

export const NEUTRAL: Point = { X: 0n, Y: 1n, Z: 1n, T: 0n };

const affine = (x: bigint, y: bigint): Point => ({ X: x, Y: y, Z: 1n, T: mod(x * y) });

export const BASE: Point = affine(
  15112221349535400772501151409588531511454012693041857206046113283949847762202n,
  46316835694926478169428394003475163141307993866256225615783033603165251855960n,
);

/** Section 5.1.4; for any two points. */
export function add(p: Point, q: Point): Point {
  const a = (p.Y - p.X) * (q.Y - q.X);
  const b = (p.Y + p.X) * (q.Y + q.X);
  const c = reduced(p.T * q.T) * D2;
  const d = 2n * p.Z * q.Z;
  return product(reduced(b - a), reduced(d - c), reduced(d + c), reduced(b + a));
}

function double({ X, Y, Z }: Point): Point {
  const a = X * X;
  const b = Y * Y;
  const h = reduced(a + b);
  const g = reduced(a - b);
  return product(reduced(h - (X + Y) * (X + Y)), reduced(2n * Z * Z + g), g, h);
}

const product = (e: bigint, f: bigint, g: bigint, h: bigint): Point => ({
  X: reduced(e * f),
  Y: reduced(g * h),
  Z: reduced(f * g),
  T: reduced(e * h),
});

export const negate = ({ X, Y, Z, T }: Point): Point => ({ X: mod(-X), Y, Z, T: mod(-T) });

const WINDOW = 4n;
const DIGITS = 1 << Number(WINDOW);

/** The sum of points times scalars, each scalar below 2^256. Not in constant time: for what is public. */
export function sumOfMultiples(terms: readonly { readonly point: Point; readonly scalar: bigint }[]): Point {
  const tables = terms.map(({ point, scalar }) => ({ multiples: multiplesOf(point, DIGITS), scalar }));
  let sum = NEUTRAL;
  for (let shift = 256n - WINDOW; shift >= 0n; shift -= WINDOW) {
    if (sum !== NEUTRAL) for (let i = 0n; i < WINDOW; i++) sum = double(sum);
    for (const { multiples, scalar } of tables) {
      const digit = Number((scalar >> shift) & BigInt(DIGITS - 1));
      if (digit !== 0) sum = add(sum, multiples[digit]!);
    }
  }
  return sum;
}

/** 0, 1, 2, ... times a point. */
export function multiplesOf(point: Point, count: number): Point[] {
  const multiples = [NEUTRAL];
  while (multiples.length < count) multiples.push(add(multiples.at(-1)!, point));
  return multiples;
}

/** The y of each point, by one inversion. */
export function ordinatesOf(points: readonly Point[]): bigint[] {
  const products = [1n];
  for (const { Z } of points) products.push(reduced(products.at(-1)! * Z));
  let inverse = power(products.at(-1)!, P - 2n);
  const ordinates = new Array<bigint>(points.length);
  for (let i = points.length - 1; i >= 0; i--) {
    const { Y, Z } = points[i]!;
    ordinates[i] = mod(Y * reduced(inverse * products[i]!));
    inverse = reduced(inverse * Z);
  }
  return ordinates;
}

/** Section 5.1.3; undefined where the bytes are no point in its only form. @param bytes 32 */
export function decodePoint(bytes: Uint8Array): Point | undefined {
  const number = littleEndian(bytes);
  const isOdd = number >= SIGN_BIT;
  const y = isOdd ? number - SIGN_BIT : number;
  if (y >= P) return undefined;
  const u = mod(y * y - 1n);
  const v = mod(D * mod(y * y) + 1n);
  const v3 = mod(mod(v * v) * v);
  const root = mod(mod(u * v3) * power(mod(mod(u * mod(v3 * v3)) * v), (P - 5n) / 8n));
  const square = mod(v * mod(root * root));
  if (square !== u && square !== mod(-u)) return undefined;
  const x = square === u ? root : mod(root * SQRT_MINUS_ONE);
  if (x === 0n && isOdd) return undefined;
  return affine((x & 1n) === (isOdd ? 1n : 0n) ? x : mod(-x), y);
}

export const littleEndian = (bytes: Uint8Array): bigint =>
  bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  let square = base;
  for (let rest = exponent; rest > 0n; rest >>= 1n) {
    if ((rest & 1n) === 1n) result = reduced(result * square);
    square = reduced(square * square);
  }
  return result;
}
