import { seededRandom } from '../../src/base/random.ts';
import { CONTEXTS } from '../../src/compact/mixer/contexts.ts';
import { KINDS, type Tables } from '../../src/compact/mixer/predictor.ts';
import type { Pruning } from '../../src/compact/mixer/primed_buckets.ts';
import type { Corpus } from './corpus.ts';
import { Counts } from './counts.ts';
import type { Sample } from './samples.ts';
import { CONVERSATION, countStates, firstTables, tune } from './tune.ts';
import { writeArtifact } from './write_artifact.ts';

/** A model to make: the stricter, the smaller. */
export interface Plan {
  readonly id: number;
  readonly name: string;
  /** How often a context must occur to be kept. */
  readonly minimum: number;
  /** The same where a sample of chat has it. */
  readonly preciousMinimum: number;
  readonly pruning: Pruning;
}

/** Ids, once released, name their bytes for ever. Sizes: 3 MB for all together, 200 KB for the small one. */
export const PLANS: readonly Plan[] = [
  { id: 1, name: 'large', minimum: 4, preciousMinimum: 1, pruning: { rootLevel: 4, branchLevel: 2 } },
  { id: 2, name: 'small', minimum: 140, preciousMinimum: 65, pruning: { rootLevel: 0, branchLevel: 4 } },
];

/** Contexts of all messages together; about as many as the corpus has. */
const CAPACITY = 6_000_000;
/** Learning rates of the passes over the tuning samples. */
const PASSES: readonly number[] = [11, 12, 13, 14];

/** Of the largest source, weights are learnt from one conversation in three. */
const LARGE_SOURCE_EVERY = 3 * CONVERSATION;

/** Kinds so few that they are kept however rare they are. */
const ALWAYS = new Set([0, 1, 10, 11]);

/** Builds one artifact after another; says what it does to `tell`. */
export function trainModels(
  corpus: Corpus,
  shapes: readonly Sample[],
  plans: readonly Plan[],
  tell: (sentence: string) => void,
): Map<string, Uint8Array> {
  const texts = corpus.training.map(({ bytes, source }): Sample & { source: string } => ({
    bytes,
    form: 'text',
    precious: source === 'chat' || source === 'chatterbot',
    source,
  }));
  const counts = new Counts(CAPACITY);
  for (const sample of [...texts, ...shapes]) counts.add(sample);
  tell(`${counts.length} contexts counted`);
  // Words by themselves and phrases of an interface are for the statistics; what is coded is chat and events. The source
  // that is far larger than the others counts as much as they do.
  const tuning: readonly Sample[] = [
    ...texts.filter(({ source }, i) =>
      source === 'chitchat' ? i % LARGE_SOURCE_EVERY < CONVERSATION : source.startsWith('chat'),
    ),
    ...shapes,
  ];
  const artifacts = new Map<string, Uint8Array>();
  for (const plan of plans) artifacts.set(plan.name, trainOne(plan, counts, tuning, tell));
  return artifacts;
}

function trainOne(
  plan: Plan,
  counts: Counts,
  tuning: readonly Sample[],
  tell: (sentence: string) => void,
): Uint8Array {
  const random = seededRandom(plan.id);
  keep(counts, plan);
  const tables: Tables = firstTables(countStates(tuning, counts, random));
  tell(`${plan.name}: states`);
  for (const shift of PASSES) {
    const bits = tune(tables, tuning, counts, random, shift);
    tell(`${plan.name}: weights, pass at 2^-${shift}: ${bits.toFixed(3)} bits a byte`);
  }
  return writeArtifact(plan.id, tables, counts);
}

/** Ends are asked for at every byte of text and seldom come: they have to earn their place twice over. */
const END_FACTOR = 2;

function keep(counts: Counts, { minimum, preciousMinimum, pruning }: Plan): void {
  const minima = (least: number): number[] =>
    Array.from({ length: KINDS }, (_, kind) =>
      ALWAYS.has(kind) ? 1 : kind < CONTEXTS ? least : END_FACTOR * least,
    );
  counts.minima = minima(minimum);
  counts.preciousMinima = minima(preciousMinimum);
  counts.pruning = pruning;
}
