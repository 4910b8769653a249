import { brotliCompressSync, constants, createZstdCompress, deflateRawSync } from 'node:zlib';
import { assert } from '../../src/base/assert.ts';
import { equal } from '../../src/base/bytes.ts';
import { Model } from '../../src/compact/mixer/model.ts';
import { type Corpus, LANGUAGES, type Language, type Line } from './corpus.ts';

interface Artifact {
  readonly name: string;
  readonly bytes: Uint8Array;
}

interface Row {
  readonly language: Language;
  readonly lines: number;
  readonly characters: number;
  /** A character, by coder. */
  readonly bits: readonly number[];
}

/** Bytes that a line takes by itself. */
type Coder = (line: Line) => number | Promise<number>;

const ZSTD_MAGIC_BYTES = 4;

/** Two tables in Markdown: bits a character by language beside other coders, and by size of the artifact. */
export async function report(
  corpus: Corpus,
  artifacts: readonly Artifact[],
  preset: Uint8Array,
): Promise<string> {
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
  const rows: Row[] = [];
  for (const language of LANGUAGES) {
    const lines = corpus.heldOut.filter((line) => line.language === language);
    const characters = lines.reduce((sum, { text }) => sum + [...text].length, 0);
    const bits: number[] = [];
    for (const [, code] of coders) {
      let bytes = 0;
      for (const line of lines) bytes += await code(line);
      bits.push((8 * bytes) / characters);
    }
    rows.push({ language, lines: lines.length, characters, bits });
  }
  const header = [
    ...['language', 'lines', 'characters', ...coders.map(([name]) => name)],
    ...mixers.map(([name]) => `${name} saves`),
  ];
  const cells = rows.map(({ language, lines, characters, bits }) => {
    const best = Math.min(...bits.slice(0, rivals.length));
    return [
      ...[language, `${lines}`, `${characters}`, ...bits.map((b) => b.toFixed(2))],
      ...bits.slice(rivals.length).map((b) => `${(100 * (1 - b / best)).toFixed(0)} %`),
    ];
  });
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

/**
 * With everything that was trained on as the dictionary, and without the magic number, which a container need not carry. One
 * stream of many frames: so the dictionary is read once, and each frame has nothing else to refer to.
 */
function zstdCoder(dictionary: Uint8Array): Coder {
  const stream = createZstdCompress({
    dictionary: Buffer.from(dictionary),
    flush: constants.ZSTD_e_end,
    params: { [constants.ZSTD_c_compressionLevel]: 19, [constants.ZSTD_c_checksumFlag]: 0 },
  });
  let total = 0;
  stream.on('data', (frame: Uint8Array) => {
    total += frame.length;
  });
  return async ({ bytes }) => {
    const before = total;
    const written = Promise.withResolvers<void>();
    stream.write(bytes, () => written.resolve());
    await written.promise;
    // What has been written is told of first.
    await new Promise<void>((resolve) => setImmediate(resolve));
    assert(total > before, 'a frame has come');
    return Math.min(total - before - ZSTD_MAGIC_BYTES, bytes.length);
  };
}

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
