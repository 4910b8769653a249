import { expect, test } from 'vitest';
import { linkFits, putLinkFits } from '../../src/storage/link_fits.ts';
import { temporaryDatabase } from './temporary_database.ts';

const DAY = 24 * 60 * 60 * 1000;

test('fits of timers are kept by link and peer, the newest first, and forgotten after half a year', async () => {
  const database = temporaryDatabase();
  const put = (link: string, fits: Record<string, string>, now: number, most = 10): Promise<void> =>
    database.transaction((tx) => putLinkFits(tx, link, new Map(Object.entries(fits)), most, now));
  const all = (link: string, most = 10) => linkFits(database, link, most);

  expect(await all('udp')).toEqual(new Map());
  await put('udp', { 'a.example': '1', 'b.example': '2' }, 0);
  await put('serial:radio', { 'a.example': '3' }, 0);
  await put('udp', { 'a.example': '4', 'c.example': '{"any": "text"}' }, DAY);
  expect([...(await all('udp'))]).toEqual([
    ['a.example', '4'],
    ['c.example', '{"any": "text"}'],
    ['b.example', '2'],
  ]);
  expect(await all('udp', 1)).toEqual(new Map([['a.example', '4']]));
  expect(await all('serial:radio')).toEqual(new Map([['a.example', '3']]));

  await put('udp', { 'd.example': '5' }, 180 * DAY + 1);
  expect([...(await all('udp')).keys()]).toEqual(['d.example', 'a.example', 'c.example']);
  expect(await all('serial:radio')).toEqual(new Map([['a.example', '3']]));

  await put('udp', { 'e.example': '6' }, 180 * DAY + 2, 2);
  expect([...(await all('udp')).keys()]).toEqual(['e.example', 'd.example']);
  expect(await all('serial:radio')).toEqual(new Map([['a.example', '3']]));
});
