import { fromUtf8 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import { ArithmeticDecoder, ArithmeticEncoder } from './arithmetic_coder.ts';
import { parseArtifact, type Trained } from './artifact.ts';
import { BucketTable } from './buckets.ts';
import { MAX_MESSAGE_BYTES } from './contexts.ts';
import { append, type History, NO_HISTORY } from './history.ts';
import { ONE } from './logistic.ts';
import { Predictor } from './predictor.ts';
import { Structure } from './structure.ts';

/** Buckets that an adaptation holds, about 16 bytes each: what is learnt beyond them only lengthens the history. */
const MAX_ADAPTED_BUCKETS = 6144;
/** How probable it is that a message is CBOR and not text alone, of 65536. */
const STRUCTURED_PROBABILITY = Math.trunc((ONE * 3) / 4);

/** Why bytes could not be decoded: they stand for more than `maxBytes`, or are not what `encode` writes. */
export type MixerProblem = 'too large' | 'not canonical';

/**
 * What both ends have learnt from earlier messages of one conversation, the same messages in the same order. It belongs
 * to one session and room and to nobody else (the length of what is compressed tells about what was learnt). A value:
 * `Model.learn` makes a new one, so that the generations in flight can all be kept.
 */
export interface Adaptation {
  readonly history: History;
  readonly buckets: BucketTable;
}

/**
 * A primed context-mixing coder: a message costs as many bits as it surprises somebody who has read the training text.
 * Integer arithmetic throughout, so that both ends agree to the bit. A model never changes: what it learns while it
 * codes a message is forgotten with the message.
 */
export class Model {
  readonly id: number;
  readonly #trained: Trained;
  readonly #predictor: Predictor;

  constructor(trained: Trained) {
    this.id = trained.id;
    this.#trained = trained;
    this.#predictor = new Predictor(trained.tables);
  }

  /** Reads an artifact of `npm run train`. */
  static parse(artifact: Uint8Array): Result<Model> {
    const trained = parseArtifact(artifact);
    return trained.ok ? ok(new Model(trained.value)) : trained;
  }

  /** The bytes of a message in fewer bytes, or undefined where it is longer than MAX_MESSAGE_BYTES. */
  encode(message: Uint8Array, adaptation?: Adaptation): Uint8Array | undefined {
    if (message.length > MAX_MESSAGE_BYTES) return undefined;
    if (!isSequence(message)) return this.#encodeAs(message, false, adaptation);
    const structured = this.#encodeAs(message, true, adaptation);
    if (!isText(message)) return structured;
    // Letters happen to be a CBOR sequence now and then.
    const text = this.#encodeAs(message, false, adaptation);
    return text.length < structured.length ? text : structured;
  }

  /**
   * The message that `encode` made these bytes of, given the same adaptation; at most `maxBytes` long. Any bytes take
   * bounded work, and none of them throw.
   */
  decode(bytes: Uint8Array, maxBytes: number, adaptation?: Adaptation): Result<Uint8Array, MixerProblem> {
    if (bytes.at(-1) === 0) return bad('not canonical');
    const limit = Math.min(maxBytes, MAX_MESSAGE_BYTES);
    const decoder = new ArithmeticDecoder(bytes);
    const structured = decoder.decode(STRUCTURED_PROBABILITY) === 1;
    const predictor = this.#predictor;
    const { contexts } = predictor;
    this.#begin(structured, adaptation);
    for (;;) {
      if (contexts.mayEnd) {
        const ends = decoder.decode(predictor.endProbability());
        predictor.learnEnd(ends);
        if (ends === 1) break;
      }
      if (contexts.length >= limit) return bad('too large');
      for (let place = 0; place < 8; place++) {
        const bit = decoder.decode(predictor.probability());
        predictor.learn(bit);
      }
    }
    return decoder.exact ? ok(contexts.message.slice()) : bad('not canonical');
  }

  /** What is known of a conversation after one message more. Without `adaptation`: after its first. */
  learn(message: Uint8Array, adaptation?: Adaptation): Adaptation {
    const buckets = new BucketTable(MAX_ADAPTED_BUCKETS);
    if (adaptation !== undefined) buckets.absorb(adaptation.buckets);
    const known = message.subarray(0, MAX_MESSAGE_BYTES);
    this.#pass(known, isSequence(known) && !isText(known), adaptation, () => undefined);
    buckets.absorb(this.#predictor.touched);
    return { buckets, history: append(adaptation?.history ?? NO_HISTORY, known) };
  }

  #encodeAs(message: Uint8Array, structured: boolean, adaptation: Adaptation | undefined): Uint8Array {
    const encoder = new ArithmeticEncoder();
    encoder.encode(structured ? 1 : 0, STRUCTURED_PROBABILITY);
    this.#pass(message, structured, adaptation, (bit, probability) => encoder.encode(bit, probability));
    return encoder.finish();
  }

  #begin(structured: boolean, adaptation: Adaptation | undefined): void {
    const { buckets } = this.#trained;
    this.#predictor.begin(
      adaptation === undefined ? [buckets] : [adaptation.buckets, buckets],
      adaptation?.history ?? NO_HISTORY,
      structured,
    );
  }

  /** Goes through a message, and hands out every decision with the probability of a 1. */
  #pass(
    message: Uint8Array,
    structured: boolean,
    adaptation: Adaptation | undefined,
    decide: (bit: number, probability: number) => void,
  ): void {
    const predictor = this.#predictor;
    this.#begin(structured, adaptation);
    for (let i = 0; ; i++) {
      if (predictor.contexts.mayEnd) {
        const ends = i === message.length ? 1 : 0;
        decide(ends, predictor.endProbability());
        predictor.learnEnd(ends);
      }
      if (i === message.length) return;
      for (let place = 7; place >= 0; place--) {
        const bit = (message[i]! >> place) & 1;
        decide(bit, predictor.probability());
        predictor.learn(bit);
      }
    }
  }
}

/** Whether a message is a CBOR sequence (RFC 8742), as far as `Structure` follows it. */
function isSequence(message: Uint8Array): boolean {
  const structure = new Structure();
  for (const byte of message) structure.advance(byte);
  return structure.complete;
}

/** Whether a message could be text that somebody typed: UTF-8 without control characters. */
const isText = (message: Uint8Array): boolean =>
  message.every((byte) => byte >= 0x20) && fromUtf8(message) !== undefined;
