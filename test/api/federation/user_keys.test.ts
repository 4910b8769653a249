import { expect } from 'vitest';
import { ALL_LAYERS } from '../../../src/exchange/layers.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { CrossSigner, DeviceOwner } from '../../homeserver/keys/key_owner.ts';
import { type Answer, type Door, doorsOf, PASSWORD, SERVER, type User } from '../coverage/doors.ts';
import { PEER } from '../coverage/peer.ts';

/* Another server, away.example, asks for the keys of users here, and tells of its own. */

const { eachDoor } = doorsOf(import.meta.url, {}, { ...ALL_LAYERS, forms: false });

const V1 = '/_matrix/federation/v1';
const encoded = encodeURIComponent;
const failure = ({ status, body }: Answer) => [status, body.errcode];
let seeds = 1;
const nextSeed = (): number => {
  seeds += 10;
  return seeds;
};

/** Somebody with a device that has keys and a name. */
async function encrypted(door: Door): Promise<{ readonly alice: User; readonly keys: DeviceOwner }> {
  const alice = await door.user('alice');
  await alice.ask('PUT', `/devices/${alice.device}`, { display_name: 'Phone' });
  const keys = new DeviceOwner(alice, nextSeed());
  await alice.ask('POST', '/keys/upload', {
    device_keys: keys.identityKeys(),
    one_time_keys: keys.oneTimeKeys('a', 'b'),
  });
  return { alice, keys };
}

async function crossSigned(user: User): Promise<CrossSigner> {
  const signer = new CrossSigner(user.id, nextSeed());
  const body = { master_key: signer.key('master'), self_signing_key: signer.key('self_signing') };
  const auth = {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: user.localpart },
    password: PASSWORD,
  };
  expect((await user.ask('POST', '/keys/device_signing/upload', { ...body, auth })).status).toBe(200);
  return signer;
}

eachDoor(
  'is told the devices of a user, with a place in the chain that each change moves on',
  async (door) => {
    const { alice, keys } = await encrypted(door);
    const signer = await crossSigned(alice);
    const path = `${V1}/user/devices/${encoded(alice.id)}`;
    const first = await door.peer().ask('GET', path);
    expect([first.status, first.body]).toEqual([
      200,
      {
        user_id: alice.id,
        stream_id: expect.any(Number),
        devices: [{ device_id: alice.device, device_display_name: 'Phone', keys: keys.identityKeys() }],
        master_key: expect.objectContaining({ keys: signer.key('master').keys }),
        self_signing_key: expect.objectContaining({ keys: signer.key('self_signing').keys }),
      },
    ]);
    await alice.ask('PUT', `/devices/${alice.device}`, { display_name: 'Tablet' });
    const second = await door.peer().ask('GET', path);
    expect(second.body.stream_id).toBeGreaterThan(first.body.stream_id as number);
    expect(
      failure(await door.peer().ask('GET', `${V1}/user/devices/${encoded(`@nobody:${SERVER}`)}`)),
    ).toEqual([404, 'M_NOT_FOUND']);
    expect(failure(await door.peer().ask('GET', `${V1}/user/devices/${encoded(`@carol:${PEER}`)}`))).toEqual([
      400,
      'M_INVALID_PARAM',
    ]);
    expect(failure(await door.peer().ask('GET', `${V1}/user/devices/alice`))).toEqual([
      400,
      'M_INVALID_PARAM',
    ]);
  },
);

eachDoor('is told the keys of users, and never what they keep for themselves', async (door) => {
  const { alice, keys } = await encrypted(door);
  const signer = await crossSigned(alice);
  const query = (device_keys: JsonObject): Promise<Answer> =>
    door.peer().ask('POST', `${V1}/user/keys/query`, { device_keys });
  const { status, body } = await query({ [alice.id]: [], [`@nobody:${SERVER}`]: [] });
  expect([status, body]).toEqual([
    200,
    {
      device_keys: {
        [alice.id]: {
          [alice.device]: { ...keys.identityKeys(), unsigned: { device_display_name: 'Phone' } },
        },
      },
      master_keys: { [alice.id]: expect.objectContaining({ keys: signer.key('master').keys }) },
      self_signing_keys: { [alice.id]: expect.objectContaining({ keys: signer.key('self_signing').keys }) },
    },
  ]);
  expect((await query({ [alice.id]: ['OTHER'] })).body.device_keys).toEqual({ [alice.id]: {} });
  expect(failure(await query({ [`@carol:${PEER}`]: [] }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await query({ alice: [] }))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await door.peer().ask('POST', `${V1}/user/keys/query`, {}))).toEqual([400, 'M_BAD_JSON']);
});

eachDoor('claims each one-time key once', async (door) => {
  const { alice, keys } = await encrypted(door);
  const claim = (device: string, algorithm = 'signed_curve25519'): Promise<Answer> =>
    door
      .peer()
      .ask('POST', `${V1}/user/keys/claim`, { one_time_keys: { [alice.id]: { [device]: algorithm } } });
  const given = [await claim(alice.device), await claim(alice.device), await claim(alice.device)];
  expect(given.map(({ body }) => body.one_time_keys)).toEqual([
    { [alice.id]: { [alice.device]: keys.oneTimeKeys('a') } },
    { [alice.id]: { [alice.device]: keys.oneTimeKeys('b') } },
    {},
  ]);
  expect((await claim('OTHER')).body).toEqual({ one_time_keys: {} });
  const many = Object.fromEntries(Array.from({ length: 2_001 }, (_, n) => [`D${n}`, 'signed_curve25519']));
  const tooMany = await door
    .peer()
    .ask('POST', `${V1}/user/keys/claim`, { one_time_keys: { [alice.id]: many } });
  expect(failure(tooMany)).toEqual([413, 'M_TOO_LARGE']);
  const elsewhere = { one_time_keys: { [`@carol:${PEER}`]: { X: 'signed_curve25519' } } };
  expect(failure(await door.peer().ask('POST', `${V1}/user/keys/claim`, elsewhere))).toEqual([
    400,
    'M_INVALID_PARAM',
  ]);
});

eachDoor('sends messages to devices here, each once', async (door) => {
  const alice = await door.user('alice');
  const sender = `@carol:${PEER}`;
  const id = `m ${alice.id}`;
  for (const txn of ['t1', 't2']) {
    const content = { sender, type: 'm.test', message_id: id, messages: { [alice.id]: { '*': { n: 1 } } } };
    const body = {
      origin: PEER,
      origin_server_ts: 1,
      pdus: [],
      edus: [{ edu_type: 'm.direct_to_device', content }],
    };
    const { status } = await door.peer().ask('PUT', `${V1}/send/${encoded(`${txn}${alice.id}`)}`, body);
    expect(status).toBe(200);
  }
  const { body } = await alice.ask('GET', '/sync');
  expect(body.to_device).toEqual({ events: [{ sender, type: 'm.test', content: { n: 1 } }] });
});
