/** JSON as a value. */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export type JsonObject = { [key: string]: JsonValue };

/**
 * A number that a JavaScript number does not tell from others: an integer beyond ±(2^53 - 1), or one that was written as a
 * fraction or with an exponent, such as `1.0`. Events of room versions 1 to 5 may hold such numbers, and what their hashes
 * cover is how they were written. It holds the text that came; JSON.stringify writes that again.
 */
export type LooseNumber = JsonObject & { readonly rawJSON: string };

/** ECMAScript, "JSON.parse source text access"; the compiler's library does not have it yet. */
const SOURCE = JSON as unknown as {
  rawJSON(text: string): LooseNumber;
  isRawJSON(value: unknown): value is LooseNumber;
  parse(
    text: string,
    reviver: (key: string, value: JsonValue, context: { readonly source?: string }) => JsonValue,
  ): JsonValue;
};

/** Where a number may begin, and goes on as only one does that could be loose. */
const SUSPECT = /(?:[:[,]\s*|^\s*)-?(?:\d{16}|\d{1,15}[.eE])/g;
const INTEGER = /^-?\d+$/;

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const isLooseNumber = (value: unknown): value is LooseNumber => SOURCE.isRawJSON(value);

const looseNumber = (text: string): LooseNumber => SOURCE.rawJSON(text);

/** Whether a loose number is one without fraction and exponent. */
export const isLooseInteger = ({ rawJSON }: LooseNumber): boolean => INTEGER.test(rawJSON);

/**
 * JSON.parse for what may hold events, which keeps loose numbers as they were written. Where there are none, it costs a
 * search for them.
 * @param fractions `whole`: what is written as a fraction or with an exponent and is an integer counts as one. So clients
 *   mean it, some of which know no other way to write a number.
 * @throws SyntaxError where the text is not JSON, or a number in it is too large
 */
export function parseJson(text: string, fractions: 'kept' | 'whole' = 'kept'): JsonValue {
  if (!hasLooseNumber(text)) return JSON.parse(text) as JsonValue;
  return SOURCE.parse(text, (_key, value, { source }) => {
    if (typeof value !== 'number' || source === undefined) return value;
    const number = numberFrom(source);
    if (number === undefined) throw new SyntaxError('a number is too large');
    return fractions === 'whole' && isLooseNumber(number) && !isLooseInteger(number) ? value : number;
  });
}

/** The number that is written so in JSON; undefined where it is outside the range of IEEE 754's binary64. */
export function numberFrom(text: string): number | LooseNumber | undefined {
  const value = Number(text);
  const isInteger = INTEGER.test(text);
  if (!Number.isFinite(value)) return undefined;
  return (isInteger ? Number.isSafeInteger(value) : !Number.isInteger(value)) ? value : looseNumber(text);
}

/** Whether what could be a loose number, or is a fraction, stands outside the strings of a JSON text. */
function hasLooseNumber(text: string): boolean {
  SUSPECT.lastIndex = 0;
  // Up to here all strings have been seen.
  let at = 0;
  for (let found = SUSPECT.exec(text); found !== null; found = SUSPECT.exec(text)) {
    let open = text.indexOf('"', at);
    while (open >= 0 && open < found.index) {
      at = endOfString(text, open);
      if (at > found.index) break;
      open = text.indexOf('"', at);
    }
    if (at <= found.index) return true;
    SUSPECT.lastIndex = at;
  }
  return false;
}

/** The place behind the string that begins at a quotation mark. */
function endOfString(text: string, open: number): number {
  for (let quote = text.indexOf('"', open + 1); quote >= 0; quote = text.indexOf('"', quote + 1)) {
    let backslashes = 0;
    while (text[quote - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
  }
  return text.length;
}

/** The number that a value is, rounded; NaN where it is none. */
export const numberOf = (value: JsonValue | undefined): number =>
  typeof value === 'number' ? value : isLooseNumber(value) ? Number(value.rawJSON) : Number.NaN;

/** Whether there is a loose number in a value. */
export function hasLooseNumbers(value: JsonValue): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return isLooseNumber(value) || Object.values(value).some(hasLooseNumbers);
}

/**
 * The value that a JSON object itself has under a key. A plain look-up would also find what every object inherits,
 * so that a server or an event type named "constructor" would seem to be there.
 */
export const own = (object: JsonObject, key: string): JsonValue | undefined =>
  Object.hasOwn(object, key) ? object[key] : undefined;

/** Whether arrays and objects nest in `value` more than `levels` deep; a string or a number nests 0 deep. */
export function nestsDeeperThan(levels: number, value: JsonValue): boolean {
  if (typeof value !== 'object' || value === null || isLooseNumber(value)) return false;
  if (levels === 0) return true;
  return Object.values(value).some((inner) => nestsDeeperThan(levels - 1, inner));
}
