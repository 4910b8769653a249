import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { COMPACT_DICTIONARY, DICTIONARIES } from '../../src/compact/dictionary.ts';
import { ROUTES } from '../../src/compact/routes.ts';
import { encodeTarget } from '../../src/compact/target.ts';
import { encodeCompact } from '../../src/compact/value.ts';
import { formatNumber } from '../../src/exchange/content_format.ts';
import { pipeCodecFor } from '../../src/exchange/pipe_codec.ts';
import type { Body, ExchangeRequest } from '../../src/exchange/request.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { told } from '../compact/told.ts';
import { ValuesUnderFire } from '../compact/values_under_fire.ts';
import { bodyText, ContentsUnderFire, Names, requestText } from '../exchange/contents_under_fire.ts';

/*
 * docs/protocol.md ──> compact.py (Python, the document's text and nothing of ours) <── what we have written
 */
const HERE = join(import.meta.dirname, 'pipe_peer');
const DOCUMENT = join(import.meta.dirname, '../../docs/protocol.md');
const missing = spawnSync('python3', ['--version']).status === 0 ? undefined : 'there is no python3';
const GENERATED = 1_000;
/** Who asks, and who answers, in the examples with names. */
const BOTH = ['a.example', 'b.example'];

interface Order {
  readonly kind: 'value' | 'target' | 'request' | 'answer';
  readonly bytes: Uint8Array;
  /** Who asks and who answers; names that were introduced before with servers are known. */
  readonly servers?: readonly string[];
}

interface Introduction {
  readonly examples: readonly (readonly [string, string])[];
  readonly named: readonly (readonly [string, string])[];
  readonly routes: number;
}

type Read = { readonly read: JsonValue } | { readonly problem: string };

/** What the program makes of everything, in its order. */
async function readAll(
  ordersOf: (introduction: Introduction) => readonly Order[],
): Promise<{ readonly introduction: Introduction; readonly answers: readonly Read[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-compact-'));
  try {
    const dictionary = join(folder, 'dictionary');
    writeFileSync(dictionary, DICTIONARIES[COMPACT_DICTIONARY]);
    const child = spawn('python3', [join(HERE, 'read_compact.py'), DOCUMENT, dictionary], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
    });
    let introduction: Introduction | undefined;
    const answers: Read[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      if (introduction !== undefined) answers.push(JSON.parse(line) as Read);
      else {
        introduction = JSON.parse(line) as Introduction;
        for (const { bytes, ...order } of ordersOf(introduction))
          child.stdin.write(`${JSON.stringify({ ...order, bytes: hex(bytes) })}\n`);
        child.stdin.end();
      }
    }
    if (introduction === undefined) throw new Error('the reader does not start');
    return { introduction, answers };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const readOf = (answer: Read | undefined): string =>
  answer === undefined ? 'nothing' : 'read' in answer ? told(answer.read) : answer.problem;

/** A body as compact.py tells it. */
function bodyOf(body: Body | undefined): JsonValue {
  if (body?.kind === 'json') return { json: body.value };
  if (body?.kind !== 'bytes') return null;
  return { 'media type': formatNumber(body.contentType) ?? body.contentType, bytes: hex(body.bytes) };
}

const contentOf = ({ method, path, query, body }: ExchangeRequest): JsonValue => ({
  target: [method, path, query],
  body: bodyOf(body),
});

it.skipIf(missing !== undefined)(
  `a reader made from docs/protocol.md reads its worked examples (skipped where it cannot run: ${missing ?? 'it can'})`,
  async () => {
    const { introduction, answers } = await readAll(({ examples, named }) => [
      ...examples.map(([said, bytes]) => ({ kind: kindOf(said), bytes: fromHex(bytes)! })),
      ...named.map(([said, bytes]) => ({ kind: kindOf(said), bytes: fromHex(bytes)!, servers: BOTH })),
    ]);
    expect(introduction.routes).toBe(ROUTES.length);
    expect(introduction.examples.length).toBeGreaterThan(10);
    expect(introduction.named.length).toBeGreaterThan(2);
    for (const [i, [said]] of [...introduction.examples, ...introduction.named].entries())
      expect(readOf(answers[i])).toBe(told(meantBy(said)));
  },
);

/** What an example is: `PUT /x {...}` a request in a container, `PUT /x` a target, the rest values. */
const kindOf = (said: string): Order['kind'] =>
  !/^[A-Z]+ \//.test(said) ? 'value' : /^\S+ \S+ /.test(said) ? 'request' : 'target';

function meantBy(said: string): JsonValue {
  const kind = kindOf(said);
  if (kind === 'value') return JSON.parse(said) as JsonValue;
  const [, method = '', path = '', query = '', body = ''] = /^(\S+) ([^ ?]+)\??(\S*) ?(.*)$/.exec(said) ?? [];
  const target = [method, path, query];
  return kind === 'target' ? target : { target, body: { json: JSON.parse(body) as JsonValue } };
}

it.skipIf(missing !== undefined)(
  `a reader made from docs/protocol.md reads ${GENERATED} of each: values, targets, requests and answers (skipped where it cannot run: ${missing ?? 'it can'})`,
  async () => {
    const random = seededRandom(11);
    const values = new ValuesUnderFire(random);
    const contents = new ContentsUnderFire(random);
    const packings = ['static', 'nothing'] as const;
    const cases = Array.from({ length: GENERATED }, (_, i) => {
      const value = values.value();
      const request = contents.request();
      const codec = pipeCodecFor({ writing: { context: {}, packing: { kind: packings[i % 2]! } } });
      const said = codec.encodeRequest(request);
      if (!said.ok) throw new Error(said.problem);
      const { method, path, query, body } = request;
      const answer = codec.encodeResponse({ status: 200, headers: {}, ...(body && { body }) }, said.value);
      const orders: readonly (readonly [Order, JsonValue, string])[] = [
        [{ kind: 'value', bytes: encodeCompact(value) }, value, told(value)],
        [{ kind: 'target', bytes: encodeTarget(request) }, [method, path, query], requestText(request)],
        [{ kind: 'request', bytes: said.value.payload }, contentOf(request), requestText(request)],
        ...(answer.payload.length === 0
          ? []
          : [
              [
                { kind: 'answer', bytes: answer.payload },
                { target: null, body: bodyOf(body) },
                bodyText(body),
              ] as const,
            ]),
      ];
      return orders;
    }).flat();
    // In one session, in which every message has arrived.
    const handles = new Names();
    const inSession = pipeCodecFor({
      writing: { context: { servers: BOTH, handles }, packing: { kind: 'static' } },
    });
    for (let n = 0; n < GENERATED; n++) {
      const request = contents.request();
      const said = inSession.encodeRequest(request);
      if (!said.ok) throw new Error(said.problem);
      const order: Order = { kind: 'request', bytes: said.value.payload, servers: BOTH };
      cases.push([order, contentOf(request), requestText(request)]);
    }
    expect(handles.size).toBeGreaterThan(20);
    const { answers } = await readAll(() => cases.map(([order]) => order));
    expect(answers).toHaveLength(cases.length);
    for (const [i, [{ kind, bytes }, expected, what]] of cases.entries())
      expect(readOf(answers[i]), `${kind} ${what} ${hex(bytes)}`).toBe(told(expected));
    // Both forms of containers, and blobs apart.
    const heads = new Set(cases.flatMap(([{ kind, bytes }]) => (kind === 'request' ? [bytes[0]] : [])));
    expect([...heads].sort()).toEqual([0x82, 0xa2, 0xb2]);
  },
);

it('has the document to read from', () => {
  expect(readFileSync(DOCUMENT, 'utf8')).toContain('### Compact containers');
});
