import { bad, ok, type Result } from '../../base/result.ts';
import { BUCKET_BYTES, type BucketSource, END_PART, FIRST_HALF, ROOT } from './buckets.ts';
import { CONTEXTS } from './contexts.ts';
import { LEVELS, ONES_LEVEL, STATES, ZEROS_LEVEL } from './node_state.ts';

/**
 * The bits of a hash that are kept beyond those that find the tree: one context in 2^CHECK_BITS that was never seen
 * is taken for another.
 */
const CHECK_BITS = 8;
const HASH_BITS = 32;
/** How many trees are read in one step. */
const TREES_A_STEP = 8_192;
/** A difference of two keys from this on takes a second byte (and so on), which counts in units of it. */
export const DELTA_BASE = 255;

/** How many bits of its hash a context's keys have, where it has so many trees. */
export function keyBits(count: number): number {
  let bits = 1;
  while (2 ** bits < count) bits++;
  return Math.min(bits + CHECK_BITS, HASH_BITS);
}

/** The first bits of a hash. */
export const keyOf = (hash: number, bits: number): number => hash >>> (HASH_BITS - bits);

/** Nodes of a whole byte's tree: eight decisions, one after another. */
const BYTE_NODES = 256;
/** Nodes of the tree that only asks whether the message ends. */
const END_NODES = 2;

/**
 * What is written for a node is its state and 2, but for those below another that have always seen the same bit: of
 * them the other one tells all but which bit.
 */
export const STATE_OFFSET = 2;
/** The level of no node: above the root there is none. */
export const NO_LEVEL = 0;

/** The state of a node whose parent saw it at `level`. */
const stateOf = (symbol: number, level: number): number =>
  symbol >= STATE_OFFSET ? symbol - STATE_OFFSET : symbol === 0 ? level * LEVELS : level;

/** Which branches a tree keeps: what follows a branch that was taken less often is not written. */
export interface Pruning {
  /** Trees whose root has a level from this on are pruned. */
  readonly rootLevel: number;
  /** The level of branches that are kept in them. */
  readonly branchLevel: number;
}

/** The lowest level of branches that are kept in the tree with this root. */
export function leastLevel(rootState: number, { rootLevel, branchLevel }: Pruning): number {
  return Math.max(ZEROS_LEVEL[rootState]!, ONES_LEVEL[rootState]!) >= rootLevel ? branchLevel : NO_LEVEL + 1;
}

/** How many nodes the trees of a kind have, counted from 1. */
export const nodesOf = (kind: number): number => (kind < CONTEXTS ? BYTE_NODES : END_NODES);

/**
 * The trees of one kind of context as they were trained: sorted by key, and of each the states of the nodes that were
 * seen, a node before those below it. Which nodes those are follows from the states above them.
 */
export class PrimedTrees {
  readonly #nodes: number;
  readonly #pruning: Pruning;
  readonly #bits: number;
  /** Where the keys that begin with the same bits start. */
  readonly #index: Uint32Array;
  readonly #rests: Uint8Array;
  /** Where each tree's states begin. */
  readonly #offsets: Uint32Array;
  readonly #states: Uint8Array;

  private constructor(
    nodes: number,
    pruning: Pruning,
    bits: number,
    index: Uint32Array,
    rests: Uint8Array,
    offsets: Uint32Array,
    states: Uint8Array,
  ) {
    this.#nodes = nodes;
    this.#pruning = pruning;
    this.#bits = bits;
    this.#index = index;
    this.#rests = rests;
    this.#offsets = offsets;
    this.#states = states;
  }

  /** Reads the keys of `count` trees as differences, and the states of their nodes, in steps of a millisecond or so. */
  static *parse(
    nodes: number,
    pruning: Pruning,
    count: number,
    deltas: Uint8Array,
    states: Uint8Array,
  ): Generator<void, Result<PrimedTrees>> {
    const bits = keyBits(count);
    const index = new Uint32Array(2 ** (bits - CHECK_BITS) + 1);
    const rests = new Uint8Array(count);
    const offsets = new Uint32Array(count);
    let key = -1;
    let at = 0;
    let state = 0;
    for (let i = 0; i < count; i++) {
      if (i % TREES_A_STEP === TREES_A_STEP - 1) yield;
      key++;
      for (; deltas[at] === DELTA_BASE; at++) key += DELTA_BASE;
      if (at >= deltas.length) return bad('fewer keys than trees');
      key += deltas[at++]!;
      if (key >= 2 ** bits) return bad('a key has too many bits');
      index[(key >>> CHECK_BITS) + 1]!++;
      rests[i] = key & ((1 << CHECK_BITS) - 1);
      offsets[i] = state;
      const root = states[state];
      if (root === undefined || root < STATE_OFFSET) return bad('no state of a root');
      state = below(states, state, ROOT, nodes, NO_LEVEL, leastLevel(root - STATE_OFFSET, pruning));
      if (state > states.length) return bad('no state of a node');
    }
    if (at !== deltas.length || state !== states.length) return bad('more keys or states than trees');
    for (let i = 1; i < index.length; i++) index[i]! += index[i - 1]!;
    return ok(new PrimedTrees(nodes, pruning, bits, index, rests, offsets, states));
  }

  /** As BucketSource.read, of this kind. */
  read(hash: number, part: number, target: Uint8Array, at: number): boolean {
    const key = keyOf(hash, this.#bits);
    const group = key >>> CHECK_BITS;
    const rest = key & ((1 << CHECK_BITS) - 1);
    const end = this.#index[group + 1]!;
    for (let i = this.#index[group]!; i < end; i++) {
      if (this.#rests[i] !== rest) continue;
      const offset = this.#offsets[i]!;
      const least = leastLevel(this.#states[offset]! - STATE_OFFSET, this.#pruning);
      if (part !== FIRST_HALF && part !== END_PART) return this.#copySecond(offset, part, least, target, at);
      this.#copy(offset, ROOT, NO_LEVEL, least, ROOT, target, at);
      return true;
    }
    return false;
  }

  /** Copies the second half of a byte, whose first half is `first`; false where that was never seen. */
  #copySecond(offset: number, first: number, least: number, target: Uint8Array, into: number): boolean {
    let at = offset;
    let node = ROOT;
    let level = NO_LEVEL;
    for (let place = 3; place >= 0; place--) {
      const state = stateOf(this.#states[at]!, level);
      const bit = (first >> place) & 1;
      level = bit === 0 ? ZEROS_LEVEL[state]! : ONES_LEVEL[state]!;
      if (level < least) return false;
      at++;
      const zeros = ZEROS_LEVEL[state]!;
      if (bit === 1 && zeros >= least) at = below(this.#states, at, 2 * node, this.#nodes, zeros, least);
      node = 2 * node + bit;
    }
    this.#copy(at, node, level, least, ROOT, target, into);
    return true;
  }

  /**
   * Copies a node and the three levels below it; returns where the states after its whole tree begin.
   * @param node its number in the byte's tree, of which only the level matters here
   */
  #copy(
    from: number,
    node: number,
    level: number,
    least: number,
    into: number,
    target: Uint8Array,
    at: number,
  ): number {
    if (into >= BUCKET_BYTES) return below(this.#states, from, node, this.#nodes, level, least);
    const state = stateOf(this.#states[from]!, level);
    target[at + into] = state;
    let next = from + 1;
    if (2 * node >= this.#nodes) return next;
    const [zeros, ones] = [ZEROS_LEVEL[state]!, ONES_LEVEL[state]!];
    if (zeros >= least) next = this.#copy(next, 2 * node, zeros, least, 2 * into, target, at);
    return ones >= least ? this.#copy(next, 2 * node, ones, least, 2 * into + 1, target, at) : next;
  }
}

/** What `below` has to come back to: of each branch with a 1 that waits, the level and the node. One for each bit at most. */
const WAITING_LEVELS = new Uint8Array(8);
const WAITING_NODES = new Uint8Array(8);

/** Where the states of a node and of those below it end; beyond the array where there are too few, or one is none. */
function below(
  states: Uint8Array,
  from: number,
  node: number,
  nodes: number,
  level: number,
  least: number,
): number {
  let waiting = 0;
  let seen = level;
  for (let next = from, at = node; ; ) {
    const symbol = states[next++];
    if (symbol === undefined || symbol >= STATES + STATE_OFFSET) return states.length + 1;
    const state = symbol >= STATE_OFFSET ? symbol - STATE_OFFSET : symbol === 0 ? seen * LEVELS : seen;
    if (state === 0) return states.length + 1;
    at *= 2;
    const goesOn = at < nodes;
    const ones = ONES_LEVEL[state]!;
    if (goesOn && ones >= least) {
      WAITING_LEVELS[waiting] = ones;
      WAITING_NODES[waiting++] = at + 1;
    }
    seen = ZEROS_LEVEL[state]!;
    if (goesOn && seen >= least) continue;
    if (waiting === 0) return next;
    seen = WAITING_LEVELS[--waiting]!;
    at = WAITING_NODES[waiting]!;
  }
}

/** The trees of all kinds. */
export class PrimedContexts implements BucketSource {
  readonly #kinds: readonly PrimedTrees[];

  constructor(kinds: readonly PrimedTrees[]) {
    this.#kinds = kinds;
  }

  read(kind: number, hash: number, part: number, target: Uint8Array, at: number): boolean {
    return this.#kinds[kind]!.read(hash, part, target, at);
  }
}
