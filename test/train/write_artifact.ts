import { deflateSync } from 'fflate';
import { concat, utf8 } from '../../src/base/bytes.ts';
import { MAGIC, WEIGHT_SHIFT } from '../../src/compact/mixer/artifact.ts';
import { BUCKET_BYTES, END_PART, FIRST_HALF, ROOT } from '../../src/compact/mixer/buckets.ts';
import { ONES_LEVEL, ZEROS_LEVEL } from '../../src/compact/mixer/node_state.ts';
import { KINDS, type Tables } from '../../src/compact/mixer/predictor.ts';
import {
  DELTA_BASE,
  keyBits,
  keyOf,
  leastLevel,
  NO_LEVEL,
  nodesOf,
  STATE_OFFSET,
} from '../../src/compact/mixer/primed_buckets.ts';
import type { Counts } from './counts.ts';

/** Writes what `parseArtifact` reads. The buckets are those that `counts.minima` keeps. */
export function writeArtifact(id: number, tables: Tables, counts: Counts): Uint8Array {
  const parts: Uint8Array[] = [
    uint16s(tables.states),
    uint16s(tables.runs),
    uint16s(tables.mixers.map((weight) => weight >> WEIGHT_SHIFT)),
    uint16s(tables.finals.map((weight) => weight >> WEIGHT_SHIFT)),
    Uint8Array.of(counts.pruning.rootLevel, counts.pruning.branchLevel),
  ];
  const rows = Array.from({ length: KINDS }, (): number[] => []);
  for (let row = 0; row < counts.length; row++) {
    const whole = counts.parts[row] === FIRST_HALF || counts.parts[row] === END_PART;
    if (whole && counts.kept(row)) rows[counts.kinds[row]!]!.push(row);
  }
  for (const [kind, kept] of rows.entries()) parts.push(...trees(kind, kept, counts));
  const whole = concat(...parts);
  return concat(
    utf8(MAGIC),
    Uint8Array.of(id),
    uint32(whole.length),
    deflateSync(whole, { level: 9, mem: 12 }),
  );
}

/** The trees of one kind: how many, how many bytes of keys and of states, the keys and the states. */
function trees(kind: number, rows: readonly number[], counts: Counts): Uint8Array[] {
  const bits = keyBits(rows.length);
  const byKey = new Map<number, number>();
  for (const row of rows) {
    const key = keyOf(counts.hashes[row]!, bits);
    const other = byKey.get(key);
    // Of two contexts that cannot be told apart the more frequent one is kept.
    if (other === undefined || counts.total(row) > counts.total(other)) byKey.set(key, row);
  }
  // The width of keys follows from their number, which may have become smaller.
  if (keyBits(byKey.size) !== bits) return trees(kind, [...byKey.values()], counts);
  const deltas: number[] = [];
  const states: number[] = [];
  let before = -1;
  for (const [key, row] of [...byKey].sort(([a], [b]) => a - b)) {
    let delta = key - before - 1;
    for (; delta >= DELTA_BASE; delta -= DELTA_BASE) deltas.push(DELTA_BASE);
    deltas.push(delta);
    before = key;
    pushStates(states, counts, {
      row,
      node: ROOT,
      depth: nodesOf(kind) === 2 ? LAST_DEPTH : 0,
      level: NO_LEVEL,
      least: leastLevel(counts.state(row, ROOT), counts.pruning),
    });
  }
  return [
    uint32(byKey.size),
    uint32(deltas.length),
    uint32(states.length),
    Uint8Array.from(deltas),
    Uint8Array.from(states),
  ];
}

/** The depth of a byte's last bit. */
const LAST_DEPTH = 7;

interface Node {
  readonly row: number;
  readonly node: number;
  readonly depth: number;
  /** How often its parent saw it. */
  readonly level: number;
  /** The lowest level of branches that are kept. */
  readonly least: number;
}

/** The states of a node and of those below it; below the first half of a byte there is the row of the second. */
function pushStates(states: number[], counts: Counts, { row, node, depth, level, least }: Node): void {
  const state = counts.state(row, node);
  const [zeros, ones] = [ZEROS_LEVEL[state]!, ONES_LEVEL[state]!];
  const follows = level !== NO_LEVEL && zeros + ones === level && (zeros === 0 || ones === 0);
  states.push(follows ? (ones === 0 ? 0 : 1) : state + STATE_OFFSET);
  if (depth === LAST_DEPTH) return;
  for (const [bit, seen] of [zeros, ones].entries()) {
    if (seen < least) continue;
    const child = 2 * node + bit;
    const below =
      child < BUCKET_BYTES
        ? { row, node: child }
        : { row: counts.find(counts.hashes[row]!, child - BUCKET_BYTES), node: ROOT };
    pushStates(states, counts, { ...below, depth: depth + 1, level: seen, least });
  }
}

const uint32 = (n: number): Uint8Array => Uint8Array.of(n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255);

const uint16s = (numbers: Uint16Array | Int32Array): Uint8Array => {
  const bytes = new Uint8Array(2 * numbers.length);
  numbers.forEach((n, i) => {
    bytes[2 * i] = (n >> 8) & 255;
    bytes[2 * i + 1] = n & 255;
  });
  return bytes;
};
