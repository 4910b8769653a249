import { CONTEXTS, Contexts, type Form, NO_CONTEXT } from '../../../src/compact/mixer/contexts.ts';
import { append, Follower, type History, NO_HISTORY } from '../../../src/compact/mixer/history.ts';
import { NEXT_STATE, STATES } from '../../../src/compact/mixer/node_state.ts';
import {
  END_CONTEXTS,
  INPUTS,
  MIXER_SETS,
  MIXERS,
  type Tables,
} from '../../../src/compact/mixer/predictor.ts';

/**
 * The mixer over again, slow and obvious: big integers, maps with readable keys, no overlays and no tricks. It shares
 * only what contexts are and how states move with the real one.
 */
export interface SlowBuckets {
  /** State of a node: `node` is the path below the kind's context, as a string of bits. */
  state(kind: number, hash: number, path: string): number;
}

/** 65536 / (1 + e^(-x/256)), with e to sixty digits after the point. */
function squash(x: number): bigint {
  const one = 10n ** 60n;
  const clamped = Math.max(-2047, Math.min(2047, x));
  const magnitude = BigInt(Math.abs(clamped));
  let power = 0n;
  let term = one;
  for (let n = 1n; n < 200n; n++) {
    power += term;
    term = (-term * magnitude) / (256n * n);
  }
  const p = (65536n * one) / (one + power);
  return clamped >= 0 ? p : 65536n - p;
}
const SQUASHED = Array.from({ length: 4095 }, (_, i) => squash(i - 2047));

/** The first logit whose probability reaches the middle of the twelve-bit class of p. */
function stretch(p: number): bigint {
  const middle = BigInt((p >> 4) * 16 + 8);
  const at = SQUASHED.findIndex((squashed) => squashed >= middle);
  return BigInt((at < 0 ? 4094 : at) - 2047);
}

/** The sum of products, each without its last ten bits. */
const dot = (inputs: readonly bigint[], weights: readonly bigint[]): number => {
  const sum = inputs.reduce((total, input, i) => total + ((input * weights[i]!) >> 10n), 0n) >> 6n;
  return Number(sum > 2047n ? 2047n : sum < -2047n ? -2047n : sum);
};
const clampWeight = (w: bigint): bigint => (w > 524287n ? 524287n : w < -524287n ? -524287n : w);

/** Goes through messages like `Predictor`, and says the probability of each decision. */
export class SlowMixer {
  readonly #tables: Tables;
  readonly #primed: SlowBuckets;
  readonly #learnt = new Map<string, number>();
  #history: History = NO_HISTORY;
  #mixers: bigint[][];
  #finals: bigint[];
  #hits = 0;

  constructor(tables: Tables, primed: SlowBuckets) {
    this.#tables = tables;
    this.#primed = primed;
    this.#mixers = Array.from({ length: MIXER_SETS }, (_, set) =>
      [...tables.mixers.subarray(set * INPUTS, (set + 1) * INPUTS)].map(BigInt),
    );
    this.#finals = [...tables.finals].map(BigInt);
  }

  /** Every decision of a message with the probability of a 1. With `learn`, later messages know this one. */
  decisions(message: Uint8Array, form: Form, learn: boolean): { bit: number; probability: number }[] {
    const states = new Map(this.#learnt);
    const mixers = this.#mixers.map((set) => [...set]);
    const finals = [...this.#finals];
    const contexts = new Contexts();
    const follower = new Follower();
    contexts.begin(form);
    follower.begin(this.#history);
    const decisions: { bit: number; probability: number }[] = [];
    const decide = (
      bit: number,
      asked: readonly (readonly [number, number])[],
      path: string,
      first: string,
    ): void => {
      decisions.push({
        bit,
        probability: this.#decide({ bit, asked, path, first, states, mixers, finals, contexts, follower }),
      });
    };
    for (let i = 0; i <= message.length; i++) {
      if (contexts.mayEnd) {
        decide(
          i === message.length ? 1 : 0,
          END_CONTEXTS.map((context, n) => [context, CONTEXTS + n] as const),
          '',
          '',
        );
      }
      if (i === message.length) break;
      const all = Array.from({ length: CONTEXTS }, (_, context) => [context, context] as const);
      const bits = message[i]!.toString(2).padStart(8, '0');
      for (let place = 0; place < 8; place++) {
        decide(Number(bits[place]), all, bits.slice(0, place), bits.slice(0, place < 4 ? 0 : 4));
      }
      contexts.advance(message[i]!);
      follower.advance(contexts.bytes, contexts.length);
    }
    if (learn) {
      for (const [key, state] of states) this.#learnt.set(key, state);
      this.#mixers = mixers;
      this.#finals = finals;
      this.#history = append(this.#history, message);
    }
    return decisions;
  }

  #decide({
    bit,
    asked,
    path,
    first,
    states,
    mixers,
    finals,
    contexts,
    follower,
  }: {
    readonly bit: number;
    /** Contexts that are asked, each with the kind of its statistics. */
    readonly asked: readonly (readonly [number, number])[];
    readonly path: string;
    /** The path where the half of the byte began. */
    readonly first: string;
    readonly states: Map<string, number>;
    readonly mixers: bigint[][];
    readonly finals: bigint[];
    readonly contexts: Contexts;
    readonly follower: Follower;
  }): number {
    const atEnd = asked.length < CONTEXTS ? 1 : 0;
    const inputs = new Array<bigint>(INPUTS).fill(0n);
    const stateOf = (kind: number, hash: number, at: string): number =>
      states.get(`${kind} ${hash} ${at}`) ?? this.#primed.state(kind, hash, at);
    // Known is what was known when the half of the byte began.
    if (path === first) this.#hits = 0;
    for (const [context, kind] of asked) {
      const hash = contexts.hashes[context]!;
      if (hash === NO_CONTEXT) continue;
      if (context >= 1 && context <= 9 && path === first && stateOf(kind, hash, first) !== 0) this.#hits++;
      const state = stateOf(kind, hash, path);
      if (state === 0) continue;
      const p = this.#tables.states[kind * STATES + state]!;
      inputs[2 * context] = stretch(p);
      inputs[2 * context + 1] = BigInt((p - 32768) >> 5);
    }
    const expected = follower.expected;
    const byte = expected >= 0 && expected < 256 ? expected.toString(2).padStart(8, '0') : undefined;
    const fits = atEnd === 1 ? expected >= 0 : byte?.startsWith(path) === true;
    const expectedBit = atEnd === 1 ? Number(expected === 256) : Number(byte?.[path.length]);
    const runClass = atEnd === 1 || fits ? follower.runClass : 0;
    const run = fits ? this.#tables.runs[2 * runClass + expectedBit]! : 32768;
    inputs[2 * CONTEXTS] = stretch(run);
    inputs[2 * CONTEXTS + 1] = BigInt((run - 32768) >> 5);
    inputs[INPUTS - 1] = 256n;

    const sets = [
      this.#hits * 9 + (atEnd === 1 ? 8 : path.length),
      90 + (atEnd === 1 ? 0 : Number.parseInt(`1${path}`, 2)),
      90 + 256 + contexts.texture * 4 + (runClass > 0 ? 2 : 0) + atEnd,
    ];
    const outputs = sets.map((set) => dot(inputs, mixers[set]!));
    const finalSet = (runClass * 2 + atEnd) * MIXERS;
    const probability = Number(
      SQUASHED[dot(outputs.map(BigInt), finals.slice(finalSet, finalSet + MIXERS)) + 2047]!,
    );

    const target = bit === 1 ? 65535 : 0;
    for (const [mixer, set] of sets.entries()) {
      const step = (BigInt(outputs[mixer]!) * BigInt((target - probability) >> 4)) >> 15n;
      finals[finalSet + mixer] = clampWeight(finals[finalSet + mixer]! + step);
      const error = BigInt((target - Number(SQUASHED[outputs[mixer]! + 2047]!)) >> 4);
      mixers[set] = mixers[set]!.map((w, i) => clampWeight(w + ((inputs[i]! * error + 8192n) >> 14n)));
    }
    for (const [context, kind] of asked) {
      const hash = contexts.hashes[context]!;
      if (hash === NO_CONTEXT) continue;
      states.set(`${kind} ${hash} ${path}`, NEXT_STATE[2 * stateOf(kind, hash, path) + bit]!);
    }
    return probability;
  }
}
