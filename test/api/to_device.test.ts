import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { doorsOf, type User } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const sync = async (user: User, since?: string): Promise<{ next: string; events: JsonObject[] }> => {
  const { body } = await user.ask('GET', `/sync${since === undefined ? '' : `?since=${since}`}`);
  const { events } = body.to_device as { events: JsonObject[] };
  return { next: String(body.next_batch), events };
};

eachDoor(
  'a message reaches the devices that it is for, once each, and stays until acknowledged',
  async (door) => {
    const [alice, bob] = [await door.user('alice'), await door.user('bob')];
    const tablet = await door.again(alice);
    const messages = { [alice.id]: { [alice.device]: { n: 1 }, '*': { n: 2 } } };
    for (let time = 0; time < 2; time++)
      expect(await bob.ask('PUT', '/sendToDevice/m.test/t1', { messages })).toMatchObject({
        status: 200,
        body: {},
      });
    const told = (n: number) => [{ sender: bob.id, type: 'm.test', content: { n } }];
    const first = await sync(alice);
    expect(first.events).toEqual(told(1));
    expect((await sync(alice)).events).toEqual(told(1));
    expect((await sync(alice, first.next)).events).toEqual([]);
    expect((await sync(alice)).events).toEqual([]);
    expect((await sync(tablet)).events).toEqual(told(2));
  },
);

eachDoor('more than a hundred messages come in parts, one behind the other', async (door) => {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  for (let n = 0; n < 104; n++)
    await bob.ask('PUT', `/sendToDevice/m.test/t${n}`, { messages: { [alice.id]: { '*': { n } } } });
  const first = await sync(alice);
  const second = await sync(alice, first.next);
  const numbers = [...first.events, ...second.events].map(({ content }) => (content as JsonObject).n);
  expect([first.events.length, numbers]).toEqual([100, Array.from({ length: 104 }, (_, n) => n)]);
});

eachDoor('what is no message is refused, and nothing of it sent', async (door) => {
  const [alice, bob] = [await door.user('alice'), await door.user('bob')];
  const messages = { [alice.id]: { '*': { n: 1 } } };
  for (const [body, status, errcode] of [
    [{}, 400, 'M_BAD_JSON'],
    [{ messages: { [alice.id]: { '*': 'text' } } }, 400, 'M_BAD_JSON'],
    [{ messages: { ...messages, alice: { '*': {} } } }, 400, 'M_INVALID_PARAM'],
    [{ messages: { ...messages, [bob.id]: { '*': { text: 'x'.repeat(66_000) } } } }, 413, 'M_TOO_LARGE'],
  ] as const)
    expect(await bob.ask('PUT', '/sendToDevice/m.test/t1', body)).toMatchObject({
      status,
      body: { errcode },
    });
  expect((await sync(alice)).events).toEqual([]);
  const nobody = await door.stranger().ask('PUT', '/sendToDevice/m.test/t1', { messages });
  // A device's pipe says who it is, and this one's has not logged in.
  const errcode = door.name === 'pipe' ? 'M_UNKNOWN_TOKEN' : 'M_MISSING_TOKEN';
  expect(nobody).toMatchObject({ status: 401, body: { errcode } });
});
