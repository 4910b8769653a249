import sharp from 'sharp';
import { expect, onTestFinished, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { Pair } from '../../src/mesh/pair.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';

async function tokenAt({ app }: Homeserver, username: string): Promise<Record<string, string>> {
  const payload = { username, password: `password of ${username}`, auth: { type: 'm.login.dummy' } };
  const answer = await app.inject({ method: 'POST', url: '/_matrix/client/v3/register', payload });
  return { authorization: `Bearer ${answer.json<{ access_token: string }>().access_token}` };
}

/*
 * alice --HTTP--> alpha  <== pipe, 600 bit/s, a tenth lost ==>  bravo <--HTTP-- bob
 */
test('a file crosses a slow pipe that loses datagrams, its thumbnail before it, and each of them once', async () => {
  let bytes = 0;
  const pair = await Pair.start({
    ...{ rate: 600, latency: 200, loss: 0.1, seed: 5 },
    observe: ({ bytes: length, fate }) => {
      if (fate === 'sent') bytes += length;
    },
  });
  onTestFinished(() => pair.close());
  const alice = await pair.until(tokenAt(pair.alpha, 'alice'));
  const bob = await pair.until(tokenAt(pair.bravo, 'bob'));
  const [width, height] = [160, 120];
  const noise = seededRandom(9).bytes(width * height * 3);
  const image = await sharp(noise, { raw: { width, height, channels: 3 } })
    .jpeg()
    .toBuffer();
  const uploaded = await pair.until(
    pair.alpha.app.inject({
      ...{ method: 'POST', url: '/_matrix/media/v3/upload?filename=sea.jpg', payload: image },
      headers: { ...alice, 'content-type': 'image/jpeg' },
    }),
  );
  const name = uploaded.json<{ content_uri: string }>().content_uri.slice('mxc://'.length);
  const get = (what: string) =>
    pair.until(pair.bravo.app.inject({ url: `/_matrix/client/v1/media/${what}`, headers: bob }));
  const thumbnail = await get(`thumbnail/${name}?width=32&height=32&method=crop`);
  expect(await sharp(thumbnail.rawPayload).metadata()).toMatchObject({ width: 32, height: 32 });
  expect(bytes, 'without the original').toBeLessThan(image.length / 2);
  bytes = 0;

  // Two minutes are not enough at that rate: it is fetched on.
  const first = await get(`download/${name}`);
  expect([first.statusCode, first.json<{ errcode: string }>().errcode]).toEqual([504, 'M_NOT_YET_UPLOADED']);
  let answer = first;
  for (let tries = 0; tries < 60 && answer.statusCode === 504; tries++)
    answer = await get(`download/${name}`);
  expect(answer.rawPayload.equals(image)).toBe(true);
  expect(answer.headers['content-disposition']).toBe('inline; filename="sea.jpg"');
  expect(bytes, 'once, with what was lost').toBeLessThan(1.4 * image.length);
  expect(pair.bravo.counters().federation.pipe, 'requests: one for each').toBe(2);
  await pair.stop('alpha');
  expect((await get(`download/${name}`)).statusCode, 'it is kept').toBe(200);
});
