import { expect, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { wellKnownRoutes } from '../../src/api/client/well_known.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { SPEC_VERSIONS } from '../../src/homeserver/capabilities.ts';
import { doorsOf } from './coverage/doors.ts';

const CONTACT = {
  role: 'm.role.admin',
  matrix_id: '@admin:home.example',
  email_address: 'admin@home.example',
};

const { eachDoor } = doorsOf(import.meta.url, {
  http: {
    public_base_url: 'https://matrix.home.example',
    well_known: {
      server: 'matrix.home.example:443',
      support_page: 'https://home.example/help',
      contacts: [CONTACT],
    },
  },
});

eachDoor('everybody is told the versions of the specification', async (door) => {
  const { status, body } = await door.stranger().ask('GET', '/_matrix/client/versions');
  expect([status, body.versions]).toEqual([200, SPEC_VERSIONS]);
  expect(body.unstable_features).toMatchObject({ 'uk.tcpip.msc4133.stable': true });
});

eachDoor('everybody is told where clients, servers and people turn to', async (door) => {
  const asker = door.stranger();
  const answers = [];
  for (const name of ['client', 'server', 'support'])
    answers.push((await asker.ask('GET', `/.well-known/matrix/${name}`)).body);
  expect(answers).toEqual([
    { 'm.homeserver': { base_url: 'https://matrix.home.example' } },
    { 'm.server': 'matrix.home.example:443' },
    { contacts: [CONTACT], support_page: 'https://home.example/help' },
  ]);
});

test('what nobody has configured is not there', async () => {
  const app = createApp({ clock: new VirtualClock(), authenticate: async () => undefined });
  wellKnownRoutes(app, { publicBaseUrl: null, server: null, support_page: null, contacts: [] });
  for (const name of ['client', 'server', 'support']) {
    const answer = await app.inject(`/.well-known/matrix/${name}`);
    expect([answer.statusCode, answer.json().errcode]).toEqual([404, 'M_NOT_FOUND']);
  }
  await app.close();
});

eachDoor('a user is told what the server can do, and nobody else is', async (door) => {
  const alice = await door.user('alice');
  for (const path of ['/capabilities', '/thirdparty/protocols']) {
    expect((await alice.ask('GET', path)).status).toBe(200);
    const refused = await door.stranger().ask('GET', path);
    const errcode = door.name === 'pipe' ? 'M_UNKNOWN_TOKEN' : 'M_MISSING_TOKEN';
    expect([refused.status, refused.body.errcode]).toEqual([401, errcode]);
  }
});

eachDoor('a user is who it is', async (door) => {
  const alice = await door.user('alice');
  const phone = await door.again(alice, 'PHONE');
  const told = [];
  for (const device of [alice, phone]) told.push((await device.ask('GET', '/account/whoami')).body);
  expect(told).toEqual([
    { user_id: alice.id, device_id: alice.device, is_guest: false },
    { user_id: alice.id, device_id: 'PHONE', is_guest: false },
  ]);
});
