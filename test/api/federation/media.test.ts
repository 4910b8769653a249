import sharp from 'sharp';
import { expect, test } from 'vitest';
import { utf8 } from '../../../src/base/bytes.ts';
import type { ExchangeResponse } from '../../../src/exchange/response.ts';
import { errorResponse } from '../../../src/exchange/response.ts';
import { readMediaPart } from '../../../src/federation/multipart.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import { type Answer, type Door, doorsOf, type SentFile, type User } from '../coverage/doors.ts';

const MIB = 1024 * 1024;
const { eachDoor, door: doorOf } = doorsOf(import.meta.url, {
  media: {
    max_upload_bytes: 9 * MIB,
    max_remote_bytes: 60_000,
    thumbnails: { max_source_bytes: 50_000 },
  },
});

const FEDERATION = '/_matrix/federation/v1/media';
const MEDIA = '/_matrix/client/v1/media';
const TEXT: SentFile = { kind: 'bytes', contentType: 'text/html', bytes: utf8('<b>Hello?</b>') };

const imageOf = async (width: number, height: number): Promise<Uint8Array> =>
  new Uint8Array(
    await sharp({ create: { width, height, channels: 3, background: 'teal' } })
      .jpeg()
      .toBuffer(),
  );

async function upload(user: User, file: SentFile): Promise<string> {
  const { body } = await user.send('POST', '/_matrix/media/v3/upload?filename=a.bin', file);
  return String(body.content_uri).slice('mxc://home.example/'.length);
}

async function* whole(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/** The file in an answer of two parts; over CoAP and pipes the type of the whole is not in a header. */
async function fileIn(answer: Answer): Promise<{ headers: object; bytes: Uint8Array }> {
  const text = Buffer.from(answer.bytes!).toString('latin1');
  const boundary = /^--(\w+)\r\n/.exec(text)?.[1];
  const type = answer.headers['content-type'] ?? `multipart/mixed; boundary=${boundary}`;
  expect(type).toBe(`multipart/mixed; boundary=${boundary}`);
  const part = await readMediaPart(type, whole(answer.bytes!));
  const parts: Uint8Array[] = [];
  for await (const one of part.content) parts.push(one);
  return { headers: Object.fromEntries(part.headers), bytes: new Uint8Array(Buffer.concat(parts)) };
}

eachDoor('another server gets files, and smaller images, in two parts', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  const answer = await peer.send('GET', `${FEDERATION}/download/${await upload(alice, TEXT)}`);
  expect(answer.status).toBe(200);
  expect(await fileIn(answer)).toEqual({
    headers: { 'content-type': 'text/html', 'content-disposition': 'attachment; filename="a.bin"' },
    bytes: TEXT.bytes,
  });
  const image = await upload(alice, { ...TEXT, bytes: await imageOf(400, 300) });
  const small = await fileIn(
    await peer.send('GET', `${FEDERATION}/thumbnail/${image}?width=90&height=90&method=crop`),
  );
  expect(small.headers).toEqual({
    'content-type': 'image/jpeg',
    'content-disposition': 'inline; filename="thumbnail.jpeg"',
  });
  expect(await sharp(small.bytes).metadata()).toMatchObject({ width: 96, height: 96 });
});

eachDoor('another server is refused what is not there, or not to be had', async (door) => {
  const alice = await door.user('alice');
  const peer = door.peer();
  expect((await door.stranger().ask('GET', `${FEDERATION}/download/x`)).status).toBe(401);
  expect(await peer.send('GET', `${FEDERATION}/download/nothing`)).toMatchObject({
    status: 404,
    body: { errcode: 'M_NOT_FOUND' },
  });
  const text = await upload(alice, TEXT);
  const thumbnail = (id: string, query: string) => peer.send('GET', `${FEDERATION}/thumbnail/${id}?${query}`);
  expect(await thumbnail(text, 'width=9&height=9')).toMatchObject({
    status: 400,
    body: { errcode: 'M_UNKNOWN' },
  });
  expect(await thumbnail(text, 'width=nine&height=9')).toMatchObject({
    status: 400,
    body: { errcode: 'M_UNKNOWN' },
  });
  const large = await upload(alice, { ...TEXT, bytes: new Uint8Array(50_001) });
  expect(await thumbnail(large, 'width=9&height=9')).toMatchObject({
    status: 413,
    body: { errcode: 'M_TOO_LARGE' },
  });
  const { body } = await alice.ask('POST', '/_matrix/media/v1/create', {});
  const late = String(body.content_uri).slice('mxc://home.example/'.length);
  expect(await peer.send('GET', `${FEDERATION}/download/${late}?timeout_ms=100`)).toMatchObject({
    status: 504,
    body: { errcode: 'M_NOT_YET_UPLOADED' },
  });
});

test('what is larger than an exchange carries is told of, not carried', async () => {
  const alice = await doorOf('HTTPS, JSON').user('alice');
  const id = await upload(alice, { ...TEXT, bytes: new Uint8Array(8.5 * MIB) });
  for (const name of ['CoAP', 'pipe'] as const) {
    expect(await doorOf(name).peer().send('GET', `${FEDERATION}/download/${id}`)).toMatchObject({
      status: 502,
      body: { errcode: 'M_TOO_LARGE' },
    });
  }
  expect((await doorOf('HTTPS, JSON').peer().send('GET', `${FEDERATION}/download/${id}`)).status).toBe(200);
});

/** What away.example answers with a file. */
function parts(contentType: string, bytes: Uint8Array, more = ''): ExchangeResponse {
  const head = `--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: ${contentType}\r\n${more}\r\n`;
  return {
    ...{ status: 200, headers: {} },
    body: {
      ...{ kind: 'bytes', contentType: 'multipart/mixed; boundary=b' },
      bytes: new Uint8Array(Buffer.concat([utf8(head), bytes, utf8('\r\n--b--\r\n')])),
    },
  };
}

let files = 0;
/** A file of away.example under an id that nobody has asked for. */
function away(door: Door, answer: ExchangeResponse, what = 'download'): string {
  const id = `file-${files++}`;
  door.peer().files.set(`${FEDERATION}/${what}/${id}`, answer);
  return id;
}

eachDoor("another server's file is fetched once, and has its name", async (door) => {
  const alice = await door.user('alice');
  const named = 'Content-Disposition: attachment; filename="a b.txt"\r\n';
  const id = away(door, parts('text/plain', utf8('From afar'), named));
  const local = await alice.ask('GET', `${MEDIA}/download/away.example/${id}?allow_remote=false`);
  expect(local).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
  const answers = await Promise.all(
    [1, 2].map(() => door.until(alice.begin('GET', `${MEDIA}/download/away.example/${id}`))),
  );
  door.peer().files.clear();
  answers.push(await alice.send('GET', `${MEDIA}/download/away.example/${id}?allow_remote=false`));
  for (const { bytes, headers } of answers) {
    expect(Buffer.from(bytes!).toString()).toBe('From afar');
    expect(headers['content-disposition']).toBe('inline; filename="a b.txt"');
  }
});

eachDoor("another server's failures are told as such", async (door) => {
  const alice = await door.user('alice');
  const get = async (answer: ExchangeResponse) => {
    const { status, body } = await alice.ask('GET', `${MEDIA}/download/away.example/${away(door, answer)}`);
    return [status, body.errcode];
  };
  const error = (status: number, errcode: string) => errorResponse(new MatrixError(status, errcode, 'no'));
  expect(await get(error(404, 'M_NOT_FOUND'))).toEqual([404, 'M_NOT_FOUND']);
  expect(await get(error(404, 'M_UNRECOGNIZED'))).toEqual([404, 'M_NOT_FOUND']);
  expect(await get(error(504, 'M_NOT_YET_UPLOADED'))).toEqual([504, 'M_NOT_YET_UPLOADED']);
  expect(await get(error(500, 'M_UNKNOWN'))).toEqual([502, 'M_UNKNOWN']);
  expect(await get(parts('video/mp4', new Uint8Array(60_001)))).toEqual([502, 'M_TOO_LARGE']);
  // Elsewhere: there is no web here.
  expect(await get(parts('a/b', utf8(''), 'Location: https://cdn.example/x\r\n'))).toEqual([
    502,
    'M_UNKNOWN',
  ]);
  const cut = parts('text/plain', utf8('Hello'));
  if (cut.body?.kind !== 'bytes') throw new Error('a file');
  const body = { ...cut.body, bytes: cut.body.bytes.subarray(0, -9) };
  expect(await get({ ...cut, body })).toEqual([502, 'M_UNKNOWN']);
  expect(await get({ ...cut, body: { ...body, contentType: 'text/plain' } })).toEqual([502, 'M_UNKNOWN']);
  expect((await alice.ask('GET', `${MEDIA}/download/nowhere.example/x`)).status).toBe(502);
});

eachDoor('a thumbnail comes from the other server, or is made of its file', async (door) => {
  const alice = await door.user('alice');
  const thumbnail = async (id: string) => {
    const answer = await alice.send(
      'GET',
      `${MEDIA}/thumbnail/away.example/${id}?width=30&height=30&method=crop`,
    );
    if (answer.bytes === undefined) return [answer.status, answer.body.errcode];
    const { width, height } = await sharp(answer.bytes).metadata();
    return [width, height];
  };
  const small = away(door, parts('image/jpeg', await imageOf(32, 32)), 'thumbnail');
  expect(await thumbnail(small)).toEqual([32, 32]);
  door.peer().files.clear();
  expect(await thumbnail(small), 'it is kept').toEqual([32, 32]);
  const unknown = errorResponse(new MatrixError(404, 'M_UNRECOGNIZED', 'no'));
  const whole = away(door, parts('image/png', await imageOf(500, 400)));
  door.peer().files.set(`${FEDERATION}/thumbnail/${whole}`, unknown);
  expect(await thumbnail(whole)).toEqual([32, 32]);
  // A page that says it is a thumbnail is none.
  const page = away(door, parts('image/png', await imageOf(200, 100)));
  door.peer().files.set(`${FEDERATION}/thumbnail/${page}`, parts('text/html', utf8('<script>')));
  expect(await thumbnail(page)).toEqual([32, 32]);
  const large = away(door, parts('image/png', new Uint8Array(50_001)));
  door.peer().files.set(`${FEDERATION}/thumbnail/${large}`, unknown);
  expect(await thumbnail(large)).toEqual([502, 'M_TOO_LARGE']);
});
