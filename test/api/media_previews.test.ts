import { expect } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { ALL_LAYERS } from '../../src/exchange/layers.ts';
import { type Web, WebError } from '../../src/homeserver/media/ports.ts';
import { type Door, doorsOf } from './coverage/doors.ts';

interface Page {
  readonly status?: number;
  readonly contentType: string;
  readonly bytes: Uint8Array;
}

/** A web of a few pages, and what was asked of it. */
const pages = new Map<string, Page>();
const asked: string[] = [];
const web: Web = {
  async fetch(url) {
    asked.push(url);
    const page = pages.get(url);
    if (page === undefined) throw new WebError('it cannot be had: ENOTFOUND');
    const { status = 200, contentType, bytes } = page;
    async function* content(): AsyncIterable<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 1_000) yield bytes.subarray(at, at + 1_000);
    }
    return { status, url, contentType, disposition: null, content: content() };
  },
};

const url_previews = {
  ...{ enabled: true, blocked_hosts: ['bad.example'] },
  ...{ max_page_bytes: 4_096, max_image_bytes: 2_000 },
};
const { eachDoor } = doorsOf(import.meta.url, { media: { url_previews } }, ALL_LAYERS, web);

const PREVIEW = '/_matrix/client/v1/media/preview_url';
const query = (url: string): string => `?url=${encodeURIComponent(url)}`;

/** A page under an address that no other door has asked for. */
function put(door: Door, path: string, contentType: string, text: string | Uint8Array, status = 200): string {
  const url = `https://www.example/${encodeURIComponent(door.name)}/${path}`;
  const bytes = typeof text === 'string' ? utf8(text) : text;
  pages.set(url, { status, contentType, bytes });
  return url;
}

eachDoor('what a page says of itself is told, with its image', async (door) => {
  const alice = await door.user('alice');
  put(door, 'a.png', 'image/png', new Uint8Array(1_500));
  const url = put(
    door,
    'page',
    'text/html; charset=utf-8',
    `<title>Ignored</title><meta property="og:title" content="A &amp; B"><meta name="description" content="Long">
     <meta property="og:image" content="a.png"><meta property="og:image:width" content="48">
     <meta property="og:video" content="https://www.example/v"><meta property="og:site_name" content="Site">`,
  );
  const before = asked.length;
  const { status, body } = await alice.ask('GET', PREVIEW + query(`${url}#part`));
  expect([status, body]).toEqual([
    200,
    {
      'og:title': 'A & B',
      'og:site_name': 'Site',
      'og:description': 'Long',
      'og:image': expect.stringMatching(/^mxc:\/\/home\.example\//),
      'og:image:type': 'image/png',
      'og:image:width': 48,
      'matrix:image:size': 1_500,
    },
  ]);
  const image = String(body['og:image']).slice('mxc://'.length);
  expect((await alice.send('GET', `/_matrix/client/v1/media/download/${image}`)).bytes).toHaveLength(1_500);
  expect((await alice.ask('GET', `/_matrix/media/v3/preview_url${query(url)}&ts=5`)).body).toEqual(body);
  expect(asked.length - before, 'the page and its image, once').toBe(2);
  await door.pass(60 * 60_000);
  await alice.ask('GET', PREVIEW + query(url));
  expect(asked.length - before, 'after an hour once more').toBe(4);
});

eachDoor('what is not a page of the web is not looked at', async (door) => {
  const alice = await door.user('alice');
  const ask = async (url: string) => {
    const { status, body } = await alice.ask('GET', PREVIEW + query(url));
    return [status, status === 200 ? body : body.errcode];
  };
  expect((await alice.ask('GET', PREVIEW)).body.errcode).toBe('M_MISSING_PARAM');
  expect((await door.stranger().ask('GET', PREVIEW + query('https://www.example/'))).status).toBe(401);
  const before = asked.length;
  expect(await ask('file:///etc/passwd')).toEqual([400, 'M_INVALID_PARAM']);
  expect(await ask('nonsense')).toEqual([400, 'M_INVALID_PARAM']);
  expect(await ask('https://sub.BAD.example./x')).toEqual([403, 'M_FORBIDDEN']);
  expect(asked.length).toBe(before);
  expect(await ask('https://nowhere.example/')).toEqual([502, 'M_UNKNOWN']);
  expect(await ask(put(door, 'gone', 'text/html', 'no', 404))).toEqual([502, 'M_UNKNOWN']);
  expect(await ask(put(door, 'zip', 'application/zip', 'PK'))).toEqual([502, 'M_UNKNOWN']);
  expect(await ask(put(door, 'empty', 'text/html', ''))).toEqual([200, {}]);
  const large = put(door, 'large', 'image/png', new Uint8Array(2_001));
  expect(await ask(large)).toEqual([413, 'M_TOO_LARGE']);
  // Of a long page the beginning counts, and an image that is too large is left out.
  const long = `<title>Long</title><meta property="og:image" content="large">${'x'.repeat(5_000)}<meta name="description" content="no">`;
  expect(await ask(put(door, 'long', 'text/html', long))).toEqual([200, { 'og:title': 'Long' }]);
  const blocked = '<title>T</title><meta property="og:image" content="https://bad.example/i.png">';
  expect(await ask(put(door, 'blocked', 'text/html', blocked))).toEqual([200, { 'og:title': 'T' }]);
  expect(asked).not.toContain('https://bad.example/i.png');
});
