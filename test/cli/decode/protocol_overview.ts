import { readFileSync, writeFileSync } from 'node:fs';
import { Explainer } from '../../../src/cli/decode/explain.ts';
import { toText } from '../../../src/cli/decode/text.ts';
import { ReadKeyLog } from '../../../src/cli/key_log.ts';
import { loadModel } from '../../../src/server/models.ts';
import { captureDevice, into } from './captured.ts';

/*
 * Makes "A message, byte by byte" of docs/protocol.md: `node test/cli/decode/protocol_overview.ts` writes it, a test compares.
 */

const DOCUMENT = new URL('../../../docs/protocol.md', import.meta.url);
const HEADING = '### A message, byte by byte\n';
const FENCE = '```\n';
/** The send and its answer end the capture. */
const LAST = 2;

/** What is between the fences. */
export async function overview(): Promise<string> {
  const log = new ReadKeyLog();
  const captured = await captureDevice(into(log));
  const explainer = new Explainer(log, await Promise.all((['large', 'small'] as const).map(loadModel)));
  const told = captured.map(({ bytes, from, to }) => {
    const given = { bytes, from, to };
    return toText({ given, explained: explainer.explain(bytes, given) });
  });
  return `${told.slice(-LAST).join('\n\n')}\n`;
}

function parts(): readonly [before: string, section: string, after: string] {
  const text = readFileSync(DOCUMENT, 'utf8');
  const start = text.indexOf(FENCE, text.indexOf(HEADING)) + FENCE.length;
  const end = text.indexOf(FENCE, start);
  return [text.slice(0, start), text.slice(start, end), text.slice(end)];
}

/** The same as it stands in the document. */
export const documented = (): string => parts()[1];

if (import.meta.main) {
  const [before, , after] = parts();
  writeFileSync(DOCUMENT, before + (await overview()) + after);
}
