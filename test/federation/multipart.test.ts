import fc from 'fast-check';
import { expect, test } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { readMediaPart } from '../../src/federation/multipart.ts';
import { FederationError } from '../../src/federation/transport.ts';

const TYPE = 'multipart/mixed; boundary=abc';
const HEAD = '--abc\r\nContent-Type: application/json\r\n\r\n{}\r\n--abc\r\nContent-Type: text/plain\r\n\r\n';
const END = '\r\n--abc--\r\n';

/** In pieces of these lengths, again and again. */
async function* cut(
  bytes: Uint8Array,
  lengths: readonly number[],
  end = () => {},
): AsyncIterable<Uint8Array> {
  try {
    for (let at = 0, n = 0; at < bytes.length; n++) {
      const length = lengths[n % lengths.length]!;
      yield bytes.subarray(at, at + length);
      at += length;
    }
  } finally {
    end();
  }
}

async function read(type: string, source: AsyncIterable<Uint8Array>) {
  const { headers, content } = await readMediaPart(type, source);
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return { headers: Object.fromEntries(headers), bytes: Buffer.concat(parts) };
}

test('the second part is the file, however the answer is cut into pieces and whatever is in it', async () => {
  const content = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .array(fc.constantFrom('\r\n', '--', '\r\n--ab', 'abc', '\r', '-', 'x'), { maxLength: 40 })
      .map((all) => utf8(all.join('').replaceAll('\r\n--abc', ''))),
  );
  await fc.assert(
    fc.asyncProperty(
      content,
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
      async (file, lengths) => {
        const whole = Buffer.concat([utf8(HEAD), file, utf8(END)]);
        const answer = await read(TYPE, cut(whole, lengths));
        expect(answer.headers).toEqual({ 'content-type': 'text/plain' });
        expect(answer.bytes.equals(file)).toBe(true);
      },
    ),
    { seed: 3, numRuns: 300 },
  );
});

test('boundaries are quoted or not, and may have text in front of them and spaces behind', async () => {
  const body = `hello\r\n--a b\t \r\n\r\n{}\r\n--a b\r\nLocation:  https://x.example/y \r\n\r\n\r\n--a b--`;
  const { headers, bytes } = await read('Multipart/Mixed; x=y; boundary="a b"', cut(utf8(body), [7]));
  expect(headers).toEqual({ location: 'https://x.example/y' });
  expect(bytes).toHaveLength(0);
});

test('what is not so is refused, and nothing of it is read on', async () => {
  const wrong: readonly (readonly [string, string])[] = [
    ['application/json', '{}'],
    ['multipart/mixed', HEAD],
    ['multipart/mixed; boundary=""', HEAD],
    [`multipart/mixed; boundary=${'x'.repeat(71)}`, HEAD],
    [TYPE, ''],
    [TYPE, '--abc--\r\n'],
    [TYPE, `${HEAD}cut off`],
    [TYPE, `${HEAD}cut off\r\n--ab`],
    [TYPE, '--abc\r\n\r\n{}\r\n--abc--\r\n'],
    [TYPE, '--abc\r\nno header\r\n\r\n{}'],
    [TYPE, `--abc\r\n${'a: b\r\n'.repeat(40)}\r\n{}`],
    [TYPE, `--abc\r\na: ${'x'.repeat(10_000)}\r\n`],
    [TYPE, 'x'.repeat(100_000)],
    [TYPE, `--abc\r\n\r\n${'x'.repeat(100_000)}`],
  ];
  for (const [type, body] of wrong) {
    let ended = 0;
    const source = cut(utf8(`${body}`), [1_000], () => ended++);
    await expect(read(type, source), `${type} ${body.slice(0, 40)}`).rejects.toThrow(FederationError);
  }
});

test('an answer that nobody reads to its end is given up', async () => {
  let ended = 0;
  const whole = Buffer.concat([utf8(HEAD), new Uint8Array(10_000), utf8(END)]);
  const { content } = await readMediaPart(
    TYPE,
    cut(whole, [100], () => ended++),
  );
  for await (const _ of content) break;
  expect(ended).toBe(1);
});
