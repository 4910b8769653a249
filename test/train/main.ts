import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '../../src/base/time.ts';
import { readCorpus } from './corpus.ts';
import { presetDictionary } from './preset_dictionary.ts';
import { report } from './report.ts';
import { recordShapes } from './shapes.ts';
import { recordTraffic } from './traffic.ts';
import { PLANS, trainModels } from './train.ts';

const HELP = `Usage: npm run train -- [options]

Makes the models of the context-mixing coder, and the text of a preset dictionary for Flate, out of test/train/corpus
and of events recorded from our own server, and writes them to src/compact/artifacts. The same corpus gives the same bytes.

Options:
  --only <name>   one model: large or small
  --report        no training: measures the artifacts on the lines that were held out, and writes the tables of
                  docs/compression.md
  --help
`;

const ROOT = join(import.meta.dirname, '../..');
const ARTIFACTS = join(ROOT, 'src/compact/artifacts');
const DOCUMENT = join(ROOT, 'docs/compression.md');

const { values } = parseArgs({
  options: { only: { type: 'string' }, report: { type: 'boolean' }, help: { type: 'boolean' } },
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
  const isOdd = (_: unknown, i: number): boolean => i % 2 === 1;
  const shapes = [
    ...(await recordShapes(corpus.said.filter((line, i) => !isOdd(line, i)))),
    ...(await recordTraffic(corpus.said.filter(isOdd))),
  ];
  tell(`${shapes.length} events and bodies recorded`);
  mkdirSync(ARTIFACTS, { recursive: true });
  writeFileSync(join(ARTIFACTS, 'preset.txt'), presetDictionary([...corpus.training, ...corpus.said]));
  const plans = PLANS.filter(({ name }) => values.only === undefined || values.only === name);
  for (const [name, artifact] of trainModels(corpus, shapes, plans, tell)) {
    writeFileSync(join(ARTIFACTS, `${name}.mix`), artifact);
    tell(`${name}.mix: ${artifact.length} bytes`);
  }
}

async function writeReport(): Promise<void> {
  const artifacts = PLANS.map(({ name }) => ({ name, bytes: readFileSync(join(ARTIFACTS, `${name}.mix`)) }));
  const tables = report(readCorpus(), artifacts, readFileSync(join(ARTIFACTS, 'preset.txt')));
  const document = readFileSync(DOCUMENT, 'utf8');
  const marked = /(<!-- figures: npm run train -- --report -->\n)[\s\S]*?(<!-- end of figures -->)/;
  writeFileSync(
    DOCUMENT,
    document.replace(marked, (_, begin: string, end: string) => `${begin}${tables}${end}`),
  );
  process.stdout.write(tables);
}
