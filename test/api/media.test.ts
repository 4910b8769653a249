import sharp from 'sharp';
import { expect } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { type Door, doorsOf, type SentFile, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url, {
  media: {
    max_upload_bytes: 100_000,
    max_user_files: 12,
    max_user_bytes: 400_000,
    max_pending: 3,
    thumbnails: { max_source_bytes: 50_000 },
  },
});

const UPLOAD = '/_matrix/media/v3/upload';
const MEDIA = '/_matrix/client/v1/media';
const TEXT: SentFile = { kind: 'bytes', contentType: 'text/plain', bytes: utf8('Hello?') };
const isHttp = ({ name }: Door): boolean => name.startsWith('HTTPS');

async function png(width: number, height: number): Promise<SentFile> {
  const create = { width, height, channels: 3 as const, background: { r: 200, g: 30, b: 90 } };
  return {
    kind: 'bytes',
    contentType: 'image/png',
    bytes: new Uint8Array(await sharp({ create }).png().toBuffer()),
  };
}

/** Uploads, and answers what is behind `mxc://`. */
async function upload(user: User, file: SentFile, query = ''): Promise<string> {
  const { status, body } = await user.send('POST', `${UPLOAD}${query}`, file);
  expect([status, body]).toEqual([
    200,
    { content_uri: expect.stringMatching(/^mxc:\/\/home\.example\/[\w-]{24}$/) },
  ]);
  return String(body.content_uri).slice('mxc://'.length);
}

eachDoor('what was uploaded is what is downloaded, to those who are logged in', async (door) => {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const name = await upload(alice, TEXT, '?filename=a%20%22quoted%22.txt');
  const answer = await bob.send('GET', `${MEDIA}/download/${name}`);
  expect(answer.status).toBe(200);
  expect(Buffer.from(answer.bytes!).toString()).toBe('Hello?');
  expect(answer.headers['content-disposition']).toBe('inline; filename="a \\"quoted\\".txt"');
  const renamed = await bob.send('GET', `${MEDIA}/download/${name}/${encodeURIComponent('läuft.txt')}`);
  expect(renamed.headers['content-disposition']).toBe("inline; filename*=utf-8''l%C3%A4uft.txt");
  expect(renamed.bytes).toEqual(answer.bytes);
  expect((await door.stranger().send('GET', `${MEDIA}/download/${name}`)).status).toBe(401);
  expect((await door.stranger().send('POST', UPLOAD, TEXT)).status).toBe(401);
  expect(await bob.send('GET', `${MEDIA}/download/home.example/nothing`)).toMatchObject({
    status: 404,
    body: { errcode: 'M_NOT_FOUND' },
  });
  for (const wrong of ['home.example/..%2F..%2Fravine.db', 'home.example/a.b', 'a%20b/x'])
    expect((await bob.send('GET', `${MEDIA}/download/${wrong}`)).status, wrong).toBe(404);
  if (!isHttp(door)) return;
  expect(answer.headers).toMatchObject({
    'content-type': 'text/plain',
    'content-security-policy':
      "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';",
    'cross-origin-resource-policy': 'cross-origin',
    'x-content-type-options': 'nosniff',
    'content-length': '6',
  });
});

eachDoor('only types that are safe are shown in place', async (door) => {
  const alice = await door.user('alice');
  const disposition = async (contentType: string) => {
    const name = await upload(alice, { ...TEXT, contentType });
    const answer = await alice.send('GET', `${MEDIA}/download/${name}`);
    expect(Buffer.from(answer.bytes!).toString()).toBe('Hello?');
    return answer.headers['content-disposition'];
  };
  expect(await disposition('text/html')).toBe('attachment');
  expect(await disposition('image/svg+xml')).toBe('attachment');
  expect(await disposition('Text/Plain; charset=utf-8')).toBe('inline');
  expect(await disposition('audio/ogg')).toBe('inline');
  if (isHttp(door)) {
    // Neither JSON nor CBOR that cannot be read is of any concern.
    expect(await disposition('application/json')).toBe('inline');
    expect(await disposition('application/cbor')).toBe('attachment');
  }
});

eachDoor('files have a bound, and users have quotas', async (door) => {
  const alice = await door.user('alice');
  const config = await alice.ask('GET', `${MEDIA}/config`);
  expect([config.status, config.body]).toEqual([200, { 'm.upload.size': 100_000 }]);
  expect((await alice.ask('GET', '/_matrix/media/v3/config')).body).toEqual(config.body);
  const full: SentFile = {
    ...TEXT,
    contentType: 'video/mp4',
    bytes: new Uint8Array(100_000).fill(door.name.length),
  };
  const name = await upload(alice, full);
  expect((await alice.send('GET', `${MEDIA}/download/${name}`)).bytes).toEqual(full.bytes);
  expect(await alice.send('POST', UPLOAD, { ...full, bytes: new Uint8Array(100_001) })).toMatchObject({
    status: 413,
    body: { errcode: 'M_TOO_LARGE' },
  });
  for (let more = 0; more < 3; more++) await upload(alice, full);
  expect(await alice.send('POST', UPLOAD, TEXT)).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  const bob = await door.user('bob');
  for (let more = 0; more < 11; more++) await upload(bob, TEXT);
  const both = await Promise.all([1, 2].map(() => bob.send('POST', UPLOAD, TEXT)));
  expect(both.map(({ status }) => status).sort(), 'of two at once').toEqual([200, 403]);
  expect(await bob.send('POST', UPLOAD, TEXT)).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  expect(await bob.ask('POST', '/_matrix/media/v1/create', {})).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
});

eachDoor('a part of a file, and a file that the client has already', async (door) => {
  if (!isHttp(door)) return;
  const alice = await door.user('alice');
  const name = await upload(alice, TEXT);
  const get = (headers: Record<string, string>) =>
    alice.send('GET', `${MEDIA}/download/${name}`, undefined, headers);
  const { etag = '' } = (await get({})).headers;
  expect(await get({ 'if-none-match': `"x", W/${etag}` })).toMatchObject({ status: 304, body: {} });
  const part = async (range: string) => {
    const { status, headers, bytes } = await get({ range });
    return [status, headers['content-range'], bytes && Buffer.from(bytes).toString()];
  };
  expect(await part('bytes=1-3')).toEqual([206, 'bytes 1-3/6', 'ell']);
  expect(await part('bytes=4-')).toEqual([206, 'bytes 4-5/6', 'o?']);
  expect(await part('bytes=-2')).toEqual([206, 'bytes 4-5/6', 'o?']);
  expect(await part('bytes=0-99')).toEqual([206, 'bytes 0-5/6', 'Hello?']);
  expect(await part('bytes=0-1,3-4')).toEqual([200, undefined, 'Hello?']);
  expect(await part('bytes=3-1')).toEqual([200, undefined, 'Hello?']);
  expect(await get({ range: 'bytes=6-' })).toMatchObject({
    status: 416,
    headers: { 'content-range': 'bytes */6' },
    body: { errcode: 'M_INVALID_PARAM' },
  });
  expect((await get({ range: 'bytes=1-2', 'if-range': '"other"' })).status).toBe(200);
  expect((await get({ range: 'bytes=1-2', 'if-range': etag })).status).toBe(206);
});

eachDoor('a file may come after its id', async (door) => {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const create = () => alice.ask('POST', '/_matrix/media/v1/create', {});
  const { status, body } = await create();
  expect([status, body]).toEqual([
    200,
    {
      content_uri: expect.stringMatching(/^mxc:/),
      unused_expires_at: expect.any(Number),
    },
  ]);
  const name = String(body.content_uri).slice('mxc://'.length);
  expect(Number(body.unused_expires_at) - door.time.clock.wall()).toBeGreaterThan(23.9 * 3_600_000);
  const early = await bob.ask('GET', `${MEDIA}/download/${name}?timeout_ms=500`);
  expect(early).toMatchObject({ status: 504, body: { errcode: 'M_NOT_YET_UPLOADED' } });
  const waiting = bob.begin('GET', `${MEDIA}/download/${name}`);
  await door.pass(2_000);
  expect(await bob.send('PUT', `${UPLOAD}/${name}`, TEXT)).toMatchObject({
    status: 403,
    body: { errcode: 'M_FORBIDDEN' },
  });
  expect(await alice.send('PUT', `${UPLOAD}/${name}`, TEXT)).toMatchObject({ status: 200, body: {} });
  const broughtAt = door.time.clock.monotonic();
  expect(Buffer.from((await door.until(waiting)).bytes!).toString()).toBe('Hello?');
  expect(door.time.clock.monotonic() - broughtAt, 'at once').toBeLessThan(10_000);
  expect(await alice.send('PUT', `${UPLOAD}/${name}`, TEXT)).toMatchObject({
    status: 409,
    body: { errcode: 'M_CANNOT_OVERWRITE_MEDIA' },
  });
  expect(await alice.send('PUT', `${UPLOAD}/home.example/nothing`, TEXT)).toMatchObject({
    status: 404,
    body: { errcode: 'M_NOT_FOUND' },
  });
  const late = String((await create()).body.content_uri).slice('mxc://'.length);
  await create();
  await create();
  expect(await create()).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED' } });
  await door.pass(24 * 3_600_000 + 1_000);
  expect((await alice.send('PUT', `${UPLOAD}/${late}`, TEXT)).status).toBe(404);
  expect((await alice.ask('GET', `${MEDIA}/download/${late}`)).status).toBe(404);
  expect((await create()).status).toBe(200);
});

eachDoor('thumbnails are as large as they have to be, and never larger than the image', async (door) => {
  const alice = await door.user('alice');
  const image = await png(1000, 500);
  const name = await upload(alice, image);
  const thumbnail = async (query: string) => {
    const answer = await alice.send('GET', `${MEDIA}/thumbnail/${name}?${query}`);
    expect([answer.status, answer.body]).toEqual([200, {}]);
    const { width, height, format } = await sharp(answer.bytes).metadata();
    expect(answer.headers['content-disposition']).toBe(`inline; filename="thumbnail.${format}"`);
    return `${width}x${height}`;
  };
  expect(await thumbnail('width=20&height=20&method=crop')).toBe('32x32');
  expect(await thumbnail('width=33&height=33&method=crop')).toBe('96x96');
  expect(await thumbnail('width=300&height=100&method=crop')).toBe('320x107');
  expect(await thumbnail('width=100&height=100')).toBe('320x160');
  expect(await thumbnail('width=640&height=480&method=scale')).toBe('640x320');
  expect(await thumbnail('width=5000&height=5000')).toBe('1000x500');
  const asked = async (query: string, of = name) =>
    (await alice.send('GET', `${MEDIA}/thumbnail/${of}${query}`)).body.errcode;
  expect(await asked('?width=10')).toBe('M_MISSING_PARAM');
  expect(await asked('?width=-1&height=10')).toBe('M_UNKNOWN');
  expect(await asked('?width=0&height=10')).toBe('M_UNKNOWN');
  expect(await asked('?width=1.5&height=10')).toBe('M_UNKNOWN');
  expect(await asked('?width=1&height=10&method=stretch')).toBe('M_UNKNOWN');
  expect(await asked('?width=9&height=9', await upload(alice, TEXT))).toBe('M_UNKNOWN');
  expect(await asked('?width=9&height=9', 'home.example/none')).toBe('M_NOT_FOUND');
  const large = await upload(alice, { ...image, bytes: new Uint8Array(50_001) });
  expect(await alice.send('GET', `${MEDIA}/thumbnail/${large}?width=9&height=9`)).toMatchObject({
    status: 413,
    body: { errcode: 'M_TOO_LARGE' },
  });
});

eachDoor('without a token nothing is given', async (door) => {
  const alice = await door.user('alice');
  const name = await upload(alice, TEXT);
  for (const path of [`download/${name}`, `download/${name}/x.txt`, `thumbnail/${name}?width=1&height=1`])
    expect(await alice.ask('GET', `/_matrix/media/v3/${path}`)).toMatchObject({
      status: 404,
      body: { errcode: 'M_NOT_FOUND' },
    });
});
