import { Structure } from './structure.ts';

/** In how many contexts each byte is predicted. */
export const CONTEXTS = 12;
/** Sets of mixing weights that the kind of the last character and the place in the structure choose from. */
export const TEXTURES = 64;

/** The longest message that is coded, in bytes. */
export const MAX_MESSAGE_BYTES = 2048;

/** How many characters each of the contexts 2 to 6 goes back, where a character is a byte, and where it is several. */
const REACH_LATIN = [2, 3, 4, 5, 6];
const REACH_OTHER = [1, 2, 3, 4, 6];
const LONGEST_REACH = 6;

/** No context: where the text has not gone on for long enough. */
export const NO_CONTEXT = 0;

const mix = (hash: number, value: number): number => {
  const h = Math.imul(hash ^ value, 0x9e37_79b1);
  return h ^ (h >>> 15);
};
/** A hash that is never NO_CONTEXT. */
const finish = (hash: number, context: number): number => {
  const h = mix(mix(hash, context + 1), 0x5bd1_e995);
  return h === NO_CONTEXT ? 1 : h;
};

const LATIN = 0;
const CYRILLIC = 1;
const ARABIC = 2;
const HAN = 3;
const OTHER = 4;

function scriptOfLead(lead: number): number {
  if (lead < 0xd0) return LATIN;
  if (lead < 0xd8) return CYRILLIC;
  if (lead < 0xe0) return ARABIC;
  return lead >= 0xe3 && lead <= 0xe9 ? HAN : OTHER;
}

const isLetter = (byte: number): boolean => (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a;
const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39;
/** A byte of a word: letters, digits, the apostrophe, and all of UTF-8 but what begins punctuation and symbols. */
const isWordByte = (byte: number): boolean =>
  byte < 0x80
    ? isLetter(byte) || isDigit(byte) || byte === 0x27
    : byte !== 0xe2 && byte !== 0xef && byte < 0xf0;

/**
 * How the bytes of a message hang together: as text alone; as an answer, which is a compact content; as a request, in which
 * the number of a route stands before one.
 */
export type Form = 'text' | 'answer' | 'request';

/**
 * What stands before the next byte, as hashes: the contexts in which it is predicted. The bytes before it in orders of
 * one to six characters, the word, the words before it, and where it stands in the CBOR around it.
 */
export class Contexts {
  /** One hash for each context; NO_CONTEXT where there is none. */
  readonly hashes = new Int32Array(CONTEXTS);
  /** Which of the TEXTURES this place has. */
  texture = 0;
  readonly bytes = new Uint8Array(MAX_MESSAGE_BYTES);
  length = 0;
  readonly structure = new Structure();
  #form: Form = 'text';
  /** Where the string began that is being read. */
  #textStart = 0;
  #script = LATIN;
  /** Bytes of the character that is not finished. */
  #continuation = 0;
  #word = 0;
  #previousWord = 0;
  #wordBefore = 0;
  #separator = 0;

  begin(form: Form): void {
    this.#form = form;
    this.length = 0;
    this.structure.reset();
    this.#beginText();
    this.#compute();
  }

  /** The message up to here; the next one is written over it. */
  get message(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  /** Whether the message may end before the next byte. */
  get mayEnd(): boolean {
    return this.#form === 'text' || this.structure.complete;
  }

  advance(byte: number): void {
    this.bytes[this.length++] = byte;
    if (this.#form === 'request' && this.length === 1) {
      this.structure.route(byte);
      this.#beginText();
    } else if (this.#form !== 'text') {
      const { place, toEnd } = this.structure;
      this.structure.advance(byte);
      if (this.structure.place !== place || this.structure.toEnd !== toEnd || place === 'head')
        this.#beginText();
      else this.#advanceText(byte);
    } else this.#advanceText(byte);
    this.#compute();
  }

  #beginText(): void {
    this.#textStart = this.length;
    this.#script = LATIN;
    this.#continuation = 0;
    this.#word = 0;
    this.#previousWord = 0;
    this.#wordBefore = 0;
    this.#separator = 0;
  }

  #advanceText(byte: number): void {
    if (byte >= 0xc0) {
      this.#script = scriptOfLead(byte);
      this.#continuation = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
    } else {
      if (this.#continuation > 0) this.#continuation--;
      if (isLetter(byte)) this.#script = LATIN;
    }
    if (isWordByte(byte)) {
      this.#word = mix(this.#word + 1, byte < 0x80 ? byte | 0x20 : byte);
      return;
    }
    if (this.#word !== 0) {
      this.#wordBefore = this.#previousWord;
      this.#previousWord = this.#word;
    }
    this.#word = 0;
    this.#separator = byte;
  }

  #compute(): void {
    const { hashes, structure } = this;
    // A text to the end of a content goes on and ends like a text alone.
    const structured = this.#form !== 'text' && !structure.toEnd;
    const place = structured ? structure.place : 'text';
    const routed = this.#form === 'request' && this.length === 0;
    const salt = routed ? 2 : place === 'text' ? 1 : place === 'head' ? 3 : 4;
    hashes.fill(NO_CONTEXT);
    const before = this.length > this.#textStart ? this.bytes[this.length - 1]! : 0x100;
    if (place === 'text') this.#computeText();
    else this.#computeBytes(salt);
    const left = structured ? Math.min(structure.remaining, 5) : 0;
    hashes[0] = finish(mix(mix(salt, this.#script), this.#continuation), 0);
    hashes[10] = finish(mix(mix(mix(salt, structure.key), left), before), 10);
    const into = Math.min(this.length - this.#textStart, 15);
    hashes[11] = structured
      ? finish(mix(mix(mix(salt, structure.key), structure.depth * 2 + (structure.isKey ? 1 : 0)), into), 11)
      : NO_CONTEXT;
    this.texture = place === 'text' ? this.#textTexture(before) : 60 + salt - 2;
  }

  /** Orders of one byte and of up to six characters, and the words. */
  #computeText(): void {
    const { hashes, bytes } = this;
    const reach = this.#script === LATIN ? REACH_LATIN : REACH_OTHER;
    // A character that is not finished is no character of the context's.
    const extra = this.#continuation > 0 ? 1 : 0;
    let hash = 1;
    let characters = 0;
    let slot = 0;
    let at = this.length;
    hashes[1] = finish(at > this.#textStart ? bytes[at - 1]! : 0x100, 1);
    while (at > this.#textStart && characters - extra < LONGEST_REACH) {
      const byte = bytes[--at]!;
      hash = mix(hash, byte);
      if ((byte & 0xc0) === 0x80) continue;
      characters++;
      if (characters - extra === reach[slot]) hashes[2 + slot++] = finish(hash, 1 + characters - extra);
    }
    // The beginning of the text is a character too, after which there is nothing.
    if (at === this.#textStart && slot < reach.length) hashes[2 + slot] = finish(mix(hash, 0x100), 2 + slot);
    hashes[7] = finish(mix(this.#word, this.#separator), 7);
    hashes[8] = finish(mix(mix(this.#word, this.#previousWord), 1), 8);
    hashes[9] =
      this.#wordBefore === 0
        ? NO_CONTEXT
        : finish(mix(mix(mix(this.#word, this.#previousWord), this.#wordBefore), 2), 9);
  }

  /** Orders of one to six bytes outside text. */
  #computeBytes(salt: number): void {
    let hash = mix(salt, 0);
    for (let order = 1; order <= 6 && order <= this.length; order++) {
      hash = mix(hash, this.bytes[this.length - order]!);
      this.hashes[order] = finish(hash, order);
    }
  }

  #textTexture(before: number): number {
    if (this.#continuation > 0) return 40 + this.#script * 4 + this.#continuation;
    const kind =
      before === 0x100
        ? 0
        : before >= 0x80
          ? 1
          : before === 0x20
            ? 2
            : isDigit(before)
              ? 3
              : before >= 0x61 && before <= 0x7a
                ? 4
                : before >= 0x41 && before <= 0x5a
                  ? 5
                  : before === 0x2e || before === 0x21 || before === 0x3f
                    ? 6
                    : 7;
    return this.#script * 8 + kind;
  }
}
