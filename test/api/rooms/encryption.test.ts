import { describe, expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf, type User } from '../coverage/doors.ts';
import { newRoom, stateOf, typesIn } from './room_user.ts';

const ENCRYPTION = 'm.room.encryption';
const MEGOLM = { algorithm: 'm.megolm.v1.aes-sha2' };
const ROOMS = {
  nothing: {},
  private: { preset: 'private_chat' },
  trusted: { preset: 'trusted_private_chat' },
  public: { preset: 'public_chat' },
  published: { visibility: 'public' },
  'published, but private': { visibility: 'public', preset: 'private_chat' },
  space: { creation_content: { type: 'm.space' } },
} as const;

async function encrypted(alice: User): Promise<string[]> {
  const names: string[] = [];
  for (const [name, request] of Object.entries(ROOMS)) {
    const room = await newRoom(alice, request);
    if ((await typesIn(alice, room)).includes(ENCRYPTION)) names.push(name);
  }
  return names;
}

const PRIVATE = ['nothing', 'private', 'trusted', 'published, but private'];

describe.each([
  ['off', []],
  ['private', PRIVATE],
  ['all', [...PRIVATE, 'public', 'published']],
] as const)('with encrypt: %s', (encrypt, expected) => {
  const { door } = doorsOf(import.meta.url, { rooms: { encrypt } });

  test('these rooms are encrypted from the start', async () => {
    const alice = await door('HTTPS, JSON').user();
    expect((await encrypted(alice)).sort()).toEqual([...expected].sort());
  });

  test('what a client says goes first', async () => {
    const alice = await door('HTTPS, JSON').user();
    const content: JsonObject = { ...MEGOLM, rotation_period_msgs: 10 };
    const room = await newRoom(alice, { initial_state: [{ type: ENCRYPTION, content }] });
    expect((await typesIn(alice, room)).filter((type) => type === ENCRYPTION)).toHaveLength(1);
    expect(await stateOf(alice, room, ENCRYPTION)).toEqual(content);
  });
});

describe('a room that the server encrypts', () => {
  const { door } = doorsOf(import.meta.url, { rooms: { encrypt: 'private' } });

  test('stays so where it is upgraded', async () => {
    const alice = await door('HTTPS, JSON').user();
    const room = await newRoom(alice, { room_version: '11' });
    expect(await stateOf(alice, room, ENCRYPTION)).toEqual(MEGOLM);
    const path = `/rooms/${encodeURIComponent(room)}/upgrade`;
    const { body } = await alice.ask('POST', path, { new_version: '12' });
    expect(await stateOf(alice, body.replacement_room as string, ENCRYPTION)).toEqual(MEGOLM);
  });
});
