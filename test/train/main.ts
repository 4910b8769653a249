import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { equal, utf8 } from '../../src/base/bytes.ts';
import { systemClock } from '../../src/base/time.ts';
import { readCorpus } from './corpus.ts';
import { presetDictionary } from './preset_dictionary.ts';
import { readRecordings, record } from './recordings.ts';
import { report } from './report.ts';
import { PLANS, trainModels } from './train.ts';

const HELP = `Usage: npm run train -- [options]

Makes the models of the context-mixing coder, and the text of a preset dictionary for Flate, out of test/train/corpus, writes
them to src/compact/artifacts, and says whether they are the bytes that were there. Nothing else is needed.

Options:
  --only <name>   one model: large or small
  --record        records the requests, answers and events in corpus/recorded.tsv anew from our own servers, before it trains
  --report        no training: measures the artifacts on the lines that were held out, and writes the tables of
                  docs/compression.md
  --help
`;

const ROOT = join(import.meta.dirname, '../..');
const ARTIFACTS = join(ROOT, 'src/compact/artifacts');
const DOCUMENT = join(ROOT, 'docs/compression.md');

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    record: { type: 'boolean' },
    report: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
if (values.help) process.stdout.write(HELP);
else if (values.report) await writeReport();
else await train();

async function train(): Promise<void> {
  const begun = systemClock.monotonic();
  const tell = (sentence: string): void => {
    process.stderr.write(
      `${((systemClock.monotonic() - begun) / 1000).toFixed(0).padStart(5)} s  ${sentence}\n`,
    );
  };
  const corpus = readCorpus();
  tell(`${corpus.training.length} lines to train on, ${corpus.heldOut.length} held out`);
  const shapes = values.record ? await record(corpus) : readRecordings();
  tell(`${shapes.length} requests, answers and events recorded`);
  mkdirSync(ARTIFACTS, { recursive: true });
  const write = (name: string, made: Uint8Array): void => tell(replaced(join(ARTIFACTS, name), made));
  write('preset.txt', utf8(presetDictionary([...corpus.training, ...corpus.said])));
  const plans = PLANS.filter(({ name }) => values.only === undefined || values.only === name);
  for (const [name, artifact] of trainModels(corpus, shapes, plans, tell)) write(`${name}.mix`, artifact);
}

/** Writes a file; says what has become of it. */
function replaced(path: string, made: Uint8Array): string {
  const before = existsSync(path) ? readFileSync(path) : undefined;
  writeFileSync(path, made);
  const change = before === undefined ? 'new' : equal(before, made) ? 'the same as before' : 'CHANGED';
  const hash = createHash('sha256').update(made).digest('hex');
  return `${basename(path)}: ${made.length} bytes, ${hash}, ${change}`;
}

async function writeReport(): Promise<void> {
  const artifacts = PLANS.map(({ name }) => ({ name, bytes: readFileSync(join(ARTIFACTS, `${name}.mix`)) }));
  const tables = await report(readCorpus(), artifacts, readFileSync(join(ARTIFACTS, 'preset.txt')));
  const document = readFileSync(DOCUMENT, 'utf8');
  const marked = /(<!-- figures: npm run train -- --report -->\n)[\s\S]*?(<!-- end of figures -->)/;
  writeFileSync(
    DOCUMENT,
    document.replace(marked, (_, begin: string, end: string) => `${begin}${tables}${end}`),
  );
  process.stdout.write(tables);
}
