/** CoAP's numbers for media types (RFC 7252, section 12.3, and IANA's registry "CoAP Content-Formats"). */
const NUMBERS: Readonly<Record<string, number>> = {
  'text/plain; charset=utf-8': 0,
  'image/gif': 21,
  'image/jpeg': 22,
  'image/png': 23,
  'application/link-format': 40,
  'application/xml': 41,
  'application/octet-stream': 42,
  'application/json': 50,
  'application/cbor': 60,
  'application/senml+json': 110,
  'image/svg+xml': 30000,
};

export const JSON_FORMAT = 50;
export const CBOR_FORMAT = 60;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(NUMBERS).map(([name, number]) => [number, name]),
);

/** The number of exactly this media type, or undefined where it has to go as text. */
export const formatNumber = (contentType: string): number | undefined =>
  Object.hasOwn(NUMBERS, contentType) ? NUMBERS[contentType] : undefined;

/** The media type of a number, or undefined where the number is not known here. */
export const formatName = (number: number): string | undefined => NAMES.get(number);
