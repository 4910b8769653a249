import { FederationError } from './transport.ts';

/** What stands in front of the first part, and the first part itself, which is small. */
const MAX_SMALL_PART_BYTES = 64 * 1024;
const MAX_LINE_BYTES = 8 * 1024;
const MAX_HEADERS = 32;

const CRLF = Buffer.from('\r\n');

/** The part of a `multipart/mixed` answer that counts (server-server API, "Content Repository"). */
export interface MediaPart {
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>;
  /** Throws FederationError where the answer ends too early. */
  readonly content: AsyncIterable<Uint8Array>;
}

/**
 * Reads an answer of two parts, JSON and a file, as it comes (RFC 2046, section 5.1.1).
 * @throws FederationError bad_answer
 */
export async function readMediaPart(
  contentType: string,
  content: AsyncIterable<Uint8Array>,
): Promise<MediaPart> {
  const source = new Source(content);
  try {
    const boundary = boundaryOf(contentType);
    if (boundary === undefined) throw broken('it is not multipart/mixed');
    const delimiter = Buffer.from(`\r\n--${boundary}`);
    // What is in front of the first boundary counts for nothing.
    await source.until(delimiter, MAX_SMALL_PART_BYTES);
    await readHeaders(source);
    await source.until(delimiter, MAX_SMALL_PART_BYTES);
    const headers = await readHeaders(source);
    return { headers, content: source.streamUntil(delimiter) };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** The rest of the boundary's line, and the headers behind it. */
async function readHeaders(source: Source): Promise<ReadonlyMap<string, string>> {
  const padding = (await source.until(CRLF, MAX_LINE_BYTES)).toString('latin1');
  if (padding.trim() !== '') throw broken('it has fewer than two parts');
  const headers = new Map<string, string>();
  for (let count = 0; count <= MAX_HEADERS; count++) {
    const line = (await source.until(CRLF, MAX_LINE_BYTES)).toString('utf8');
    if (line === '') return headers;
    const [, name, value] = /^([!-9;-~]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw broken('a part of it has no proper headers');
    headers.set(name.toLowerCase(), value);
  }
  throw broken('a part of it has too many headers');
}

/** RFC 2046, section 5.1.1: up to 70 characters. */
function boundaryOf(contentType: string): string | undefined {
  if (!/^multipart\/mixed\s*;/i.test(contentType)) return undefined;
  const [, quoted, token] = /;\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;"]+))/i.exec(contentType) ?? [];
  const boundary = quoted ?? token ?? '';
  return /^[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]$/.test(boundary) ? boundary : undefined;
}

const broken = (what: string): FederationError =>
  new FederationError('bad_answer', `the answer cannot be read: ${what}`);

/** Bytes as they come, cut where somebody finds something in them. */
class Source {
  readonly #parts: AsyncIterator<Uint8Array>;
  // So that a boundary at the very start has a line's end in front of it as all others have.
  #held: Buffer = CRLF;

  constructor(content: AsyncIterable<Uint8Array>) {
    this.#parts = content[Symbol.asyncIterator]();
  }

  /** What comes before `mark`, which is taken as well. */
  async until(mark: Buffer, maxBytes: number): Promise<Buffer> {
    for (;;) {
      const at = this.#held.indexOf(mark);
      if (at >= 0 && at <= maxBytes) {
        const found = this.#held.subarray(0, at);
        this.#held = this.#held.subarray(at + mark.length);
        return found;
      }
      if (at >= 0 || this.#held.length > maxBytes + mark.length) throw broken('a part of it is too long');
      await this.#more();
    }
  }

  /** The same for what may be long. */
  async *streamUntil(mark: Buffer): AsyncIterable<Uint8Array> {
    try {
      for (;;) {
        const at = this.#held.indexOf(mark);
        // The end of what is held may be the beginning of the mark.
        const sure = at >= 0 ? at : this.#held.length - (mark.length - 1);
        if (sure > 0) {
          yield this.#held.subarray(0, sure);
          this.#held = this.#held.subarray(sure);
        }
        if (at >= 0) return;
        await this.#more();
      }
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    await this.#parts.return?.();
  }

  async #more(): Promise<void> {
    const next = await this.#parts.next();
    if (next.done) throw broken('it ends too early');
    this.#held = this.#held.length === 0 ? Buffer.from(next.value) : Buffer.concat([this.#held, next.value]);
  }
}
