import { seededRandom } from '../../src/base/random.ts';
import { CONTEXTS } from '../../src/compact/mixer/contexts.ts';
import { KINDS, type Tables } from '../../src/compact/mixer/predictor.ts';
import type { Pruning } from '../../src/compact/mixer/primed_buckets.ts';
import type { Corpus, Line } from './corpus.ts';
import { Counts } from './counts.ts';
import { type Sample, WORTHS, type Worth } from './samples.ts';
import { CONVERSATION, countStates, firstTables, tune } from './tune.ts';
import { writeArtifact } from './write_artifact.ts';

/**
 * How often a context must occur, by the worth of the samples that have it; and where there are few of its kind. Counts end
 * at MAX_COUNT: what must occur more often hardly occurs at all.
 */
type Minima = Readonly<Record<Worth | 'few', number>>;

/** A model to make: the stricter, the smaller. */
export interface Plan {
  readonly id: number;
  readonly name: string;
  /** Of the largest source, one conversation in so many is counted, and one weights are learnt from (infinite: none). */
  readonly largeSource: { readonly countedEvery: number; readonly tunedEvery: number };
  /** Whether chat in English, of which there is so much more, is precious as that in other languages is. */
  readonly isEnglishPrecious: boolean;
  /** Which contexts states and weights are learnt with: those, or more than there is room for. */
  readonly learnt: Minima;
  /** Which are written. */
  readonly kept: Minima;
  readonly pruning: Pruning;
}

/** Ids, once released, name their bytes for ever. Sizes: 3 MB for all together, 200 KB for the small one. */
export const PLANS: readonly Plan[] = [
  {
    id: 1,
    name: 'large',
    largeSource: { countedEvery: 1, tunedEvery: 12 },
    isEnglishPrecious: true,
    learnt: { common: 10, usual: 4, precious: 1, few: 1 },
    kept: { common: 16, usual: 5, precious: 1, few: 1 },
    pruning: { rootLevel: 4, branchLevel: 2 },
  },
  {
    id: 2,
    name: 'small',
    largeSource: { countedEvery: 4, tunedEvery: Number.POSITIVE_INFINITY },
    isEnglishPrecious: false,
    learnt: { common: 83, usual: 83, precious: 49, few: 200 },
    kept: { common: 83, usual: 83, precious: 49, few: 200 },
    pruning: { rootLevel: 0, branchLevel: 4 },
  },
];

/** Contexts of all messages together; about as many as the corpus has. */
const CAPACITY = 8_000_000;
/** Learning rates of the passes over the tuning samples. */
const PASSES: readonly number[] = [11, 12, 13, 14];

const LARGE_SOURCE = 'chitchat';

const WORTH_OF_SOURCE: Readonly<Record<string, Worth>> = {
  chat: 'precious',
  chatterbot: 'precious',
  [LARGE_SOURCE]: 'common',
};

/** Sources of what is said, and coded. */
const CHAT: ReadonlySet<string> = new Set(['chat', 'chatterbot', LARGE_SOURCE]);

/** Kinds of which there are few contexts. */
const FEW = new Set([0, 1, 10, 11]);

/** Builds one artifact after another; says what it does to `tell`. */
export function trainModels(
  corpus: Corpus,
  shapes: readonly Sample[],
  plans: readonly Plan[],
  tell: (sentence: string) => void,
): Map<string, Uint8Array> {
  const artifacts = new Map<string, Uint8Array>();
  for (const plan of plans) {
    const texts = corpus.training.map(
      (line) => ({ ...line, form: 'text', worth: worthOf(line, plan) }) as const,
    );
    const share = (every: number): typeof texts =>
      texts.filter(({ source }, i) => source !== LARGE_SOURCE || i % (every * CONVERSATION) < CONVERSATION);
    const counts = new Counts(CAPACITY);
    for (const sample of [...share(plan.largeSource.countedEvery), ...shapes]) counts.add(sample);
    tell(`${plan.name}: ${counts.length} contexts counted`);
    // Words by themselves and phrases of an interface are for the statistics; what is coded is chat and events. The source
    // that is far larger than the others counts as much as they do.
    const tuning: readonly Sample[] = [
      ...share(plan.largeSource.tunedEvery).filter(({ source }) => CHAT.has(source)),
      ...shapes,
    ];
    artifacts.set(plan.name, trainOne(plan, counts, tuning, tell));
  }
  return artifacts;
}

function worthOf({ source, language }: Line, plan: Plan): Worth {
  const worth = WORTH_OF_SOURCE[source] ?? 'usual';
  return worth === 'precious' && language === 'en' && !plan.isEnglishPrecious ? 'common' : worth;
}

function trainOne(
  plan: Plan,
  counts: Counts,
  tuning: readonly Sample[],
  tell: (sentence: string) => void,
): Uint8Array {
  const random = seededRandom(plan.id);
  keep(counts, plan.learnt, plan.pruning);
  const tables: Tables = firstTables(countStates(tuning, counts, random));
  tell(`${plan.name}: states`);
  for (const shift of PASSES) {
    const bits = tune(tables, tuning, counts, random, shift);
    tell(`${plan.name}: weights, pass at 2^-${shift}: ${bits.toFixed(3)} bits a byte`);
  }
  keep(counts, plan.kept, plan.pruning);
  return writeArtifact(plan.id, tables, counts);
}

/** Ends are asked for at every byte of text and seldom come: they have to earn their place twice over. */
const END_FACTOR = 2;

function keep(counts: Counts, least: Minima, pruning: Pruning): void {
  counts.minima = WORTHS.map((worth) =>
    Array.from({ length: KINDS }, (_, kind) =>
      FEW.has(kind) ? least.few : kind < CONTEXTS ? least[worth] : END_FACTOR * least[worth],
    ),
  );
  counts.pruning = pruning;
}
