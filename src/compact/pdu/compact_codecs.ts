import { fromUtf8, utf8 } from '../../base/bytes.ts';
import { bad, ok } from '../../base/result.ts';
import type { CompactContext } from '../context.ts';
import { decodeCompact, encodeCompact, problemOf } from '../value.ts';
import { CompactReader } from '../value_reader.ts';
import { CompactWriter } from '../value_writer.ts';
import { hasHandles } from './byte_reader.ts';
import type { ContentReader, ContentWriter, NameReader, NameWriter } from './view.ts';

/**
 * Names as items of compact values (`value.ts`): a handle where the context has one, a word of the vocabulary, an id in its
 * binary form, or text.
 */
export function compactNames(context: CompactContext): NameWriter & NameReader {
  return {
    write(kind, name) {
      const writer = new CompactWriter(context);
      if (hasHandles(kind)) writer.named(name, kind);
      else writer.item(name);
      return writer.done();
    },
    read(kind, bytes, at) {
      const reader = new CompactReader(bytes, at, context);
      const name = hasHandles(kind) ? reader.named(kind) : reader.item();
      return name === undefined ? bad(problemOf(reader)) : ok({ name, end: reader.at });
    },
  };
}

/** Contents as compact values, texts as UTF-8. */
export const compactContents = (context: CompactContext): ContentWriter & ContentReader => ({
  writeText: utf8,
  readText(bytes) {
    const text = fromUtf8(bytes);
    return text === undefined ? bad({ kind: 'malformed' }) : ok(text);
  },
  writeJson: (value) => encodeCompact(value, context),
  readJson: (bytes) => decodeCompact(bytes, context),
});
