import { brotliCompressSync, constants, deflateRawSync, zstdCompressSync } from 'node:zlib';
import { assert } from '../../src/base/assert.ts';
import { equal } from '../../src/base/bytes.ts';
import { Model } from '../../src/compact/mixer/model.ts';
import { type Corpus, LANGUAGES, type Line } from './corpus.ts';

interface Artifact {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Bytes that a line takes by itself. */
type Coder = (line: Line) => number;

const ZSTD_MAGIC_BYTES = 4;

/** Two tables in Markdown: bits a character by language beside other coders, and by size of the artifact. */
export function report(corpus: Corpus, artifacts: readonly Artifact[], preset: Uint8Array): string {
  const training = Buffer.concat(
    [...corpus.said, ...corpus.training].map(({ text }) => Buffer.from(`${text}\n`)),
  );
  const rivals: readonly (readonly [string, Coder])[] = [
    ['deflate', deflateCoder(preset)],
    ['brotli', brotliCoder(training)],
    ['zstd', zstdCoder(training)],
  ];
  const mixers = artifacts.map(({ name, bytes }) => [name, mixerCoder(bytes)] as const);
  const coders = [...rivals, ...mixers];
  const rows = LANGUAGES.map((language) => {
    const lines = corpus.heldOut.filter((line) => line.language === language);
    const characters = lines.reduce((sum, { text }) => sum + [...text].length, 0);
    const bits = coders.map(
      ([, code]) => (8 * lines.reduce((sum, line) => sum + code(line), 0)) / characters,
    );
    const best = Math.min(...bits.slice(0, rivals.length));
    const saved = 100 * (1 - bits[rivals.length]! / best);
    return { language, lines: lines.length, characters, bits, saved };
  });
  const header = ['language', 'lines', 'characters', ...coders.map(([name]) => name), 'large saves'];
  const cells = rows.map(({ language, lines, characters, bits, saved }) => [
    language,
    `${lines}`,
    `${characters}`,
    ...bits.map((b) => b.toFixed(2)),
    `${saved.toFixed(0)} %`,
  ]);
  const sizes = artifacts.map(({ name, bytes }, i) => [
    name,
    `${bytes.length}`,
    ...rows.map(({ bits }) => bits[rivals.length + i]!.toFixed(2)),
  ]);
  return `${table(header, cells)}\n${table(['artifact', 'bytes', ...LANGUAGES], sizes)}`;
}

const table = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`).join('');

const deflateCoder =
  (dictionary: Uint8Array): Coder =>
  ({ bytes }) =>
    Math.min(deflateRawSync(bytes, { level: 9, dictionary }).length, bytes.length);

/** With everything that was trained on as the dictionary, and without the magic number, which a container need not carry. */
const zstdCoder =
  (dictionary: Uint8Array): Coder =>
  ({ bytes }) => {
    const packed = zstdCompressSync(bytes, {
      dictionary,
      params: { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_checksumFlag]: 0 },
    });
    return Math.min(packed.length - ZSTD_MAGIC_BYTES, bytes.length);
  };

/** Node's Brotli takes no dictionary: what the line adds to the training text before it, both flushed. */
function brotliCoder(training: Uint8Array): Coder {
  const flushed = (bytes: Uint8Array): number =>
    brotliCompressSync(bytes, {
      finishFlush: constants.BROTLI_OPERATION_FLUSH,
      params: { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: 24 },
    }).length;
  const alone = flushed(training);
  return ({ bytes }) => Math.min(flushed(Buffer.concat([training, bytes])) - alone, bytes.length);
}

function mixerCoder(artifact: Uint8Array): Coder {
  const model = Model.parse(artifact);
  assert(model.ok, 'the artifact is read');
  return ({ bytes }) => {
    const coded = model.value.encode(bytes, 'text');
    assert(coded !== undefined, 'a line is short enough');
    const decoded = model.value.decode(coded, bytes.length, 'text');
    assert(decoded.ok && equal(decoded.value, bytes), 'a line comes back as it was');
    return coded.length;
  };
}
