import { bad, ok, type Result } from '../../base/result.ts';
import type { Coder } from '../container.ts';
import { ArithmeticDecoder } from './arithmetic_coder.ts';
import { parseArtifact, parseArtifactInSteps, type Trained } from './artifact.ts';
import { BucketTable } from './buckets.ts';
import { type Form, MAX_MESSAGE_BYTES } from './contexts.ts';
import { Decisions } from './decisions.ts';
import { endProbability } from './end.ts';
import { append, type History, NO_HISTORY } from './history.ts';
import { ONE } from './logistic.ts';
import { Predictor, type Weights } from './predictor.ts';
import { Structure } from './structure.ts';

/** Buckets that an adaptation holds, about 16 bytes each: what is learnt beyond them only lengthens the history. */
const MAX_ADAPTED_BUCKETS = 6144;
/** How probable it is that a message has the form that it is said to have, of 65536. */
const FORM_PROBABILITY = ONE - Math.trunc(ONE / 256);

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
  /** Of the mixers, as the last message left them. */
  readonly weights: Weights;
}

/** The memory that it takes. */
export const bytesOf = ({ history, buckets, weights: { mixers, finals } }: Adaptation): number =>
  history.bytes.length + buckets.bytes + mixers.byteLength + finals.byteLength;

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

  /** The same, in steps of a few milliseconds at most, between which others may work. */
  static *parseInSteps(artifact: Uint8Array): Generator<void, Result<Model>> {
    const trained = yield* parseArtifactInSteps(artifact);
    return trained.ok ? ok(new Model(trained.value)) : trained;
  }

  /**
   * The bytes of a message in fewer bytes, or undefined where it is longer than MAX_MESSAGE_BYTES.
   * @param form what both ends expect it to be: bytes of another form cost more, and come back too
   */
  encode(message: Uint8Array, form: Form, adaptation?: Adaptation): Uint8Array | undefined {
    if (message.length > MAX_MESSAGE_BYTES) return undefined;
    const decisions = new Decisions();
    const fits = hasForm(message, form);
    if (form !== 'text') decisions.add(fits ? 1 : 0, FORM_PROBABILITY, false);
    this.#pass(message, fits ? form : 'text', adaptation, (bit, probability, isEnd) =>
      decisions.add(bit, probability, isEnd),
    );
    return decisions.encoded();
  }

  /**
   * The message that `encode` made these bytes of, given the same form and adaptation; at most `maxBytes` long. Any bytes
   * take bounded work, and none of them throw.
   */
  decode(
    bytes: Uint8Array,
    maxBytes: number,
    form: Form,
    adaptation?: Adaptation,
  ): Result<Uint8Array, MixerProblem> {
    const limit = Math.min(maxBytes, MAX_MESSAGE_BYTES);
    const decoder = new ArithmeticDecoder(bytes);
    const fits = form === 'text' || decoder.decode(FORM_PROBABILITY) === 1;
    const predictor = this.#predictor;
    const { contexts } = predictor;
    this.#begin(fits ? form : 'text', adaptation);
    for (;;) {
      if (contexts.mayEnd) {
        const left = 8 * bytes.length - decoder.spent;
        const ends = decoder.decode(endProbability(predictor.endProbability(), left));
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
  learn(message: Uint8Array, form: Form, adaptation?: Adaptation): Adaptation {
    const known = message.subarray(0, MAX_MESSAGE_BYTES);
    this.#pass(known, hasForm(known, form) ? form : 'text', adaptation, () => undefined);
    const { touched } = this.#predictor;
    const most = (adaptation?.buckets.size ?? 0) + touched.size;
    const buckets = new BucketTable(Math.min(most, MAX_ADAPTED_BUCKETS));
    if (adaptation !== undefined) buckets.absorb(adaptation.buckets);
    buckets.absorb(touched);
    const { mixers, finals } = this.#predictor;
    const weights = { mixers: mixers.slice(), finals: finals.slice() };
    return { buckets, weights, history: append(adaptation?.history ?? NO_HISTORY, known) };
  }

  /** The model as containers take it, for messages of one form. */
  coder(form: Form, adaptation?: Adaptation): Coder {
    return {
      id: this.id,
      encode: (message) => this.encode(message, form, adaptation),
      decode: (bytes, maxBytes) => this.decode(bytes, maxBytes, form, adaptation),
    };
  }

  #begin(form: Form, adaptation: Adaptation | undefined): void {
    const { buckets } = this.#trained;
    this.#predictor.begin(
      adaptation === undefined ? [buckets] : [adaptation.buckets, buckets],
      adaptation?.history ?? NO_HISTORY,
      form,
      adaptation?.weights,
    );
  }

  /** Goes through a message, and hands out every decision with the probability of a 1. */
  #pass(
    message: Uint8Array,
    form: Form,
    adaptation: Adaptation | undefined,
    decide: (bit: number, probability: number, isEnd: boolean) => void,
  ): void {
    const predictor = this.#predictor;
    this.#begin(form, adaptation);
    for (let i = 0; ; i++) {
      if (predictor.contexts.mayEnd) {
        const ends = i === message.length ? 1 : 0;
        decide(ends, predictor.endProbability(), true);
        predictor.learnEnd(ends);
      }
      if (i === message.length) return;
      for (let place = 7; place >= 0; place--) {
        const bit = (message[i]! >> place) & 1;
        decide(bit, predictor.probability(), false);
        predictor.learn(bit);
      }
    }
  }
}

/** Whether a message is of a form: its end is one as `Structure` follows it. */
function hasForm(message: Uint8Array, form: Form): boolean {
  if (form === 'text') return true;
  const structure = new Structure();
  for (const byte of form === 'request' ? message.subarray(1) : message) structure.advance(byte);
  return structure.complete;
}
