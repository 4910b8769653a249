import { assert } from '../../base/assert.ts';
import { type BucketSource, BucketTable, bucketHash, END_PART, FIRST_HALF, ROOT } from './buckets.ts';
import { CONTEXTS, Contexts, type Form, MAX_MESSAGE_BYTES, NO_CONTEXT, TEXTURES } from './contexts.ts';
import { END_OF_MESSAGE, Follower, type History, NOTHING, RUN_CLASSES } from './history.ts';
import { MAX_LOGIT, ONE, SQUASH, stretch } from './logistic.ts';
import { NEXT_STATE, STATES } from './node_state.ts';

/** Two for each context, two for what an earlier message leads to expect, and a constant. */
export const INPUTS = 2 * CONTEXTS + 3;
const MATCH_INPUT = 2 * CONTEXTS;
const BIAS_INPUT = INPUTS - 1;
const BIAS = 256;

/** Contexts that are asked whether the message ends. */
export const END_CONTEXTS = [1, 2, 3, 7, 10];
/** The contexts whose knowing the byte or not chooses weights. */
const FIRST_ORDER = 1;
const LAST_ORDER = 9;
const BIT_PLACES = 9;
const END_PLACE = 8;
/** Contexts, and those that are asked for the end, as kinds of buckets: each kind has statistics of its own. */
export const KINDS = CONTEXTS + END_CONTEXTS.length;

/** Sets of weights that one of three things chooses from: known contexts and bit; the bits so far; texture. */
const HITS_SETS = (LAST_ORDER - FIRST_ORDER + 2) * BIT_PLACES;
const BITS_SETS = 256;
const TEXTURE_SETS = TEXTURES * 4;
export const MIXER_SETS = HITS_SETS + BITS_SETS + TEXTURE_SETS;
export const MIXERS = 3;
export const FINAL_SETS = RUN_CLASSES * 2;

/** Weights have 16 bits after the point and stay below 8. */
export const WEIGHT_ONE = 1 << 16;
export const MAX_WEIGHT = 8 * WEIGHT_ONE - 1;

/** The trained numbers that are not buckets. All of them are integers. */
export interface Tables extends Weights {
  /** Probability of a 1, of 65536, by kind and state: index kind * STATES + state. */
  readonly states: Uint16Array;
  /** The same by the class of a run and by whether the expected bit is 1: index 2 * class + bit. */
  readonly runs: Uint16Array;
}

/** Of the mixers, and of the one that adds up those. */
export interface Weights {
  readonly mixers: Int32Array;
  readonly finals: Int32Array;
}

/** Learning rates of the weights: shifts of error times input, the larger the slower. */
export interface Rates {
  readonly mixer: number;
  readonly final: number;
}

/** How fast weights follow within a message. */
export const MESSAGE_RATES: Rates = { mixer: 14, final: 15 };

/**
 * Says how probable it is that the next bit of a message is a 1, and learns the bit. One predictor serves one message
 * after another; what it learns from a message is in `touched` and in its weights until the next `begin`.
 */
export class Predictor {
  readonly contexts = new Contexts();
  readonly follower = new Follower();
  /** The buckets that this message has seen, as they are now. */
  readonly touched = new BucketTable(
    MAX_MESSAGE_BYTES * (2 * CONTEXTS + END_CONTEXTS.length) + END_CONTEXTS.length,
  );
  readonly #tables: Tables;
  readonly #rates: Rates;
  /** Inputs of the mixer by context and state, precomputed. */
  readonly #logits: Int16Array;
  readonly #leanings: Int16Array;
  readonly mixers: Int32Array;
  readonly finals: Int32Array;
  readonly #inputs = new Int32Array(INPUTS);
  readonly #outputs = new Int32Array(MIXERS);
  readonly #outputProbabilities = new Int32Array(MIXERS);
  readonly #setAt = new Int32Array(MIXERS);
  #finalAt = 0;
  #probability = 0;
  #sources: readonly BucketSource[] = [];
  /** Where each context's bucket begins in `touched.states`; -1 where there is no context. */
  readonly #buckets = new Int32Array(CONTEXTS);
  /** Whether each context was met for the first time at the first half of this byte. */
  readonly #new = new Uint8Array(CONTEXTS);
  /** Of which kind each context's bucket is. */
  readonly #kinds = new Int32Array(CONTEXTS);
  /** How many contexts had seen something when their buckets were looked up. */
  #hits = 0;
  #node = ROOT;
  #bits = 1;
  #bitCount = 0;
  #halfReady = false;
  /** The node of each context that the last prediction used; -1 for none. */
  readonly #nodes = new Int32Array(CONTEXTS);

  constructor(tables: Tables, rates: Rates = MESSAGE_RATES) {
    this.#tables = tables;
    this.#rates = rates;
    this.#logits = Int16Array.from(tables.states, stretch);
    this.#leanings = Int16Array.from(tables.states, (p) => (p - ONE / 2) >> 5);
    this.mixers = tables.mixers.slice();
    this.finals = tables.finals.slice();
  }

  /** Starts a message. @param sources where buckets come from, the first that has one. @param weights to begin with */
  begin(
    sources: readonly BucketSource[],
    history: History,
    form: Form,
    weights: Weights = this.#tables,
  ): void {
    this.touched.clear();
    this.mixers.set(weights.mixers);
    this.finals.set(weights.finals);
    this.resume(sources, history, form);
  }

  /** Starts a message with the weights as the last one left them: what training does. */
  resume(sources: readonly BucketSource[], history: History, form: Form): void {
    this.touched.clear();
    this.#sources = sources;
    this.follower.begin(history);
    this.contexts.begin(form);
    this.#startByte();
  }

  /** The probability, of 65536, that the message ends here. Asked only where `contexts.mayEnd`, before a byte. */
  endProbability(): number {
    this.#buckets.fill(-1);
    this.#hits = 0;
    for (let i = 0; i < END_CONTEXTS.length; i++) this.#open(END_CONTEXTS[i]!, CONTEXTS + i, END_PART);
    this.#node = ROOT;
    const { expected, runClass } = this.follower;
    return this.#mix(
      expected === NOTHING ? NOTHING : expected === END_OF_MESSAGE ? 1 : 0,
      runClass,
      END_PLACE,
    );
  }

  learnEnd(bit: number): void {
    this.#learn(bit);
    this.#startByte();
  }

  /** The probability, of 65536, that the next bit is a 1. */
  probability(): number {
    if (!this.#halfReady) this.#openHalf();
    const { expected, runClass } = this.follower;
    const expectedBits = expected < END_OF_MESSAGE ? expected | 0x100 : NOTHING;
    const place = this.#bitCount;
    const fits = expected !== NOTHING && expectedBits >> (8 - place) === this.#bits;
    return this.#mix(fits ? (expectedBits >> (7 - place)) & 1 : NOTHING, fits ? runClass : 0, place);
  }

  learn(bit: number): void {
    this.#learn(bit);
    this.#bits = (this.#bits << 1) | bit;
    this.#node = (this.#node << 1) | bit;
    this.#bitCount++;
    if (this.#bitCount === 4) this.#halfReady = false;
    if (this.#bitCount === 8) {
      this.contexts.advance(this.#bits & 0xff);
      this.follower.advance(this.contexts.bytes, this.contexts.length);
      this.#startByte();
    }
  }

  #startByte(): void {
    this.#bits = 1;
    this.#bitCount = 0;
    this.#halfReady = false;
  }

  #openHalf(): void {
    this.#hits = 0;
    this.#node = ROOT;
    this.#halfReady = true;
    const part = this.#bitCount === 0 ? FIRST_HALF : this.#bits & 0xf;
    for (let context = 0; context < CONTEXTS; context++) this.#open(context, context, part);
  }

  /** Finds the bucket of a context, or makes it of what training or earlier messages have left. */
  #open(context: number, kind: number, part: number): void {
    const hash = this.contexts.hashes[context]!;
    this.#kinds[context] = kind;
    if (hash === NO_CONTEXT) {
      this.#buckets[context] = -1;
      return;
    }
    const { touched } = this;
    const key = bucketHash(hash, part);
    const second = part !== FIRST_HALF && part !== END_PART;
    // A context that nobody knew at the first half of a byte is known to nobody at the second.
    const isNew = second && this.#new[context] === 1;
    let at = isNew ? -1 : touched.find(key);
    let found = at >= 0;
    if (!found) {
      assert(!touched.full, 'a message touches no more buckets than its length allows');
      at = touched.add(key);
      for (let i = 0; i < this.#sources.length && !found && !isNew; i++) {
        found = this.#sources[i]!.read(kind, hash, part, touched.states, at);
      }
    }
    if (!second) this.#new[context] = found ? 0 : 1;
    this.#buckets[context] = at;
    if (context >= FIRST_ORDER && context <= LAST_ORDER && touched.states[at + ROOT] !== 0) this.#hits++;
  }

  #mix(expectedBit: number, runClass: number, place: number): number {
    const inputs = this.#inputs;
    const { states } = this.touched;
    for (let context = 0; context < CONTEXTS; context++) {
      const bucket = this.#buckets[context]!;
      const node = bucket < 0 ? -1 : bucket + this.#node;
      this.#nodes[context] = node;
      const state = node < 0 ? 0 : states[node]!;
      const known = state !== 0;
      const index = this.#kinds[context]! * STATES + state;
      inputs[2 * context] = known ? this.#logits[index]! : 0;
      inputs[2 * context + 1] = known ? this.#leanings[index]! : 0;
    }
    const run = expectedBit === NOTHING ? ONE / 2 : this.#tables.runs[2 * runClass + expectedBit]!;
    inputs[MATCH_INPUT] = stretch(run);
    inputs[MATCH_INPUT + 1] = (run - ONE / 2) >> 5;
    inputs[BIAS_INPUT] = BIAS;

    const atEnd = place === END_PLACE ? 1 : 0;
    const setAt = this.#setAt;
    setAt[0] = (this.#hits * BIT_PLACES + place) * INPUTS;
    setAt[1] = (HITS_SETS + (atEnd === 1 ? 0 : this.#bits)) * INPUTS;
    setAt[2] = (HITS_SETS + BITS_SETS + this.contexts.texture * 4 + (runClass > 0 ? 2 : 0) + atEnd) * INPUTS;
    this.#finalAt = (runClass * 2 + atEnd) * MIXERS;
    let sum = 0;
    for (let mixer = 0; mixer < MIXERS; mixer++) {
      const output = dot(inputs, this.mixers, setAt[mixer]!);
      this.#outputs[mixer] = output;
      this.#outputProbabilities[mixer] = SQUASH[output + MAX_LOGIT]!;
      sum += Math.imul(output, this.finals[this.#finalAt + mixer]!) >> 10;
    }
    this.#probability = SQUASH[clampLogit(sum >> 6) + MAX_LOGIT]!;
    return this.#probability;
  }

  #learn(bit: number): void {
    const target = bit * (ONE - 1);
    const { final, mixer: shift } = this.#rates;
    const finalError = target - this.#probability;
    for (let mixer = 0; mixer < MIXERS; mixer++) {
      const at = this.#finalAt + mixer;
      this.finals[at] = clampWeight(
        this.finals[at]! + (Math.imul(this.#outputs[mixer]!, finalError >> 4) >> final),
      );
      adjust(
        this.#inputs,
        this.mixers,
        this.#setAt[mixer]!,
        (target - this.#outputProbabilities[mixer]!) >> 4,
        shift,
      );
    }
    const { states } = this.touched;
    for (let context = 0; context < CONTEXTS; context++) {
      const node = this.#nodes[context]!;
      if (node >= 0) states[node] = NEXT_STATE[2 * states[node]! + bit]!;
    }
  }
}

const clampLogit = (x: number): number => (x > MAX_LOGIT ? MAX_LOGIT : x < -MAX_LOGIT ? -MAX_LOGIT : x);
const clampWeight = (w: number): number => (w > MAX_WEIGHT ? MAX_WEIGHT : w < -MAX_WEIGHT ? -MAX_WEIGHT : w);

/** The sum of inputs times weights, as a logit. Products have less than 31 bits, and so has their sum after the shift. */
function dot(inputs: Int32Array, weights: Int32Array, at: number): number {
  let sum = 0;
  for (let i = 0; i < INPUTS; i++) sum += Math.imul(inputs[i]!, weights[at + i]!) >> 10;
  return clampLogit(sum >> 6);
}

function adjust(inputs: Int32Array, weights: Int32Array, at: number, error: number, shift: number): void {
  const round = 1 << (shift - 1);
  for (let i = 0; i < INPUTS; i++) {
    weights[at + i] = clampWeight(weights[at + i]! + ((Math.imul(inputs[i]!, error) + round) >> shift));
  }
}
