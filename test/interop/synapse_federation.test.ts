import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sleep, systemClock } from '../../src/base/time.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Person, RavineAndSynapse, until } from './synapse_federating.ts';
import { synapseEnvironment } from './synapse_rules_peer.ts';

const missing = await synapseEnvironment.install();
const esc = encodeURIComponent;

/** Every event of a room from now back, as a client comes by them. */
async function past(person: Person, room: string, limit = 50): Promise<string[]> {
  const ids: string[] = [];
  let from = '';
  for (let page = 0; page < 60; page++) {
    const body = await person.ask('GET', `/rooms/${esc(room)}/messages?dir=b&limit=${limit}${from}`);
    ids.push(...(body.chunk as JsonObject[]).map((event) => String(event.event_id)));
    if (body.end === undefined || body.end === null) return ids;
    from = `&from=${esc(String(body.end))}`;
  }
  throw new Error('there is no end to it');
}

describe.skipIf(missing !== undefined)(
  `with a Synapse over HTTPS (skipped where it cannot be installed: ${missing ?? 'it is'})`,
  () => {
    let both: RavineAndSynapse;
    let alice: Person;
    let bob: Person;
    beforeAll(async () => {
      both = await RavineAndSynapse.start();
      alice = await both.person('ravine', 'alice');
      bob = await both.person('synapse', 'bob');
    });
    afterAll(() => both?.stop());

    const create = async (person: Person, options: JsonObject): Promise<string> =>
      String((await person.ask('POST', '/createRoom', { preset: 'public_chat', ...options })).room_id);
    const say = async (person: Person, room: string, body: string): Promise<string> =>
      String(
        (
          await person.ask('PUT', `/rooms/${esc(room)}/send/m.room.message/${esc(body)}`, {
            ...{ msgtype: 'm.text', body },
          })
        ).event_id,
      );
    const join = (person: Person, room: string, via: string) =>
      person.ask('POST', `/join/${esc(room)}?via=${esc(via)}&server_name=${esc(via)}`, {});
    const pairs = () =>
      [
        [alice, both.ravine, bob],
        [bob, both.synapse, alice],
      ] as const;

    it.each(['6', '9', '10', '11', '12'])(
      'the past of a room comes whole, both ways, in version %s',
      async (version) => {
        for (const [owner, server, guest] of pairs()) {
          const room = await create(owner, { room_version: version, name: 'Past' });
          const count = version === '12' ? 200 : 30;
          for (let i = 0; i < count; i++) {
            await say(owner, room, `said ${i}`);
            if (i % 10 === 5)
              await owner.ask('PUT', `/rooms/${esc(room)}/state/m.room.topic`, { topic: `topic ${i}` });
          }
          const there = await past(owner, room);
          await join(guest, room, server);
          // The join is the newest; of it the owner need not have heard before.
          const here = async () => (await past(guest, room)).slice(1);
          // Synapse fills a gap beside the request that comes to it, and answers that with nothing.
          if (guest === bob) await until(async () => (await here()).length >= there.length);
          expect(await here(), `for ${guest.id}`).toEqual(there);
          const answer = await say(guest, room, 'and on');
          await until(async () => (await past(owner, room, 5)).includes(answer));
        }
      },
    );

    it('an event is found by its time, both ways', async () => {
      for (const [owner, server, guest] of pairs()) {
        const room = await create(owner, {});
        const first = await say(owner, room, 'first');
        const at = systemClock.wall();
        await sleep(systemClock, 50);
        await say(owner, room, 'second');
        await join(guest, room, server);
        const path = `/_matrix/client/v1/rooms/${esc(room)}/timestamp_to_event?ts=${at}&dir=b`;
        expect((await guest.ask('GET', path)).event_id, server).toBe(first);
        const context = await guest.ask('GET', `/rooms/${esc(room)}/context/${esc(first)}?limit=0`);
        expect(context.event, server).toMatchObject({ content: { body: 'first' } });
      }
    });

    it('the room directory, the rooms of a space and a summary are told, both ways', async () => {
      for (const [owner, server, guest] of pairs()) {
        const tea = await create(owner, { name: `Tea of ${server}`, visibility: 'public' });
        const secret = String((await owner.ask('POST', '/createRoom', { name: 'Secret' })).room_id);
        const space = await create(owner, { name: 'Space', creation_content: { type: 'm.space' } });
        for (const child of [tea, secret])
          await owner.ask('PUT', `/rooms/${esc(space)}/state/m.space.child/${esc(child)}`, { via: [server] });
        const list = await guest.ask('POST', `/publicRooms?server=${esc(server)}`, {
          filter: { generic_search_term: 'tea' },
        });
        expect((list.chunk as JsonObject[]).map(({ room_id: id }) => id)).toEqual([tea]);
        const mine = String(
          (await guest.ask('POST', '/createRoom', { creation_content: { type: 'm.space' } })).room_id,
        );
        await guest.ask('PUT', `/rooms/${esc(mine)}/state/m.space.child/${esc(space)}`, { via: [server] });
        const { rooms } = await guest.ask('GET', `/_matrix/client/v1/rooms/${esc(mine)}/hierarchy`);
        expect((rooms as JsonObject[]).map(({ room_id: id }) => id)).toEqual([mine, space, tea]);
      }
    });

    const membership = async (person: Person, room: string, of: Person): Promise<unknown> =>
      person.ask('GET', `/rooms/${esc(room)}/state/m.room.member/${esc(of.id)}`).then(
        (content) => content.membership,
        () => undefined,
      );
    /** Both come to say so. */
    const become = async (
      room: string,
      of: Person,
      wanted: string,
      seenBy: readonly Person[],
    ): Promise<void> => {
      for (const person of seenBy) await until(async () => (await membership(person, room, of)) === wanted);
    };
    const invited = async (person: Person, room: string): Promise<void> =>
      until(async () => {
        const { rooms } = await person.ask('GET', '/sync');
        return room in (((rooms as JsonObject | undefined)?.invite as JsonObject | undefined) ?? {});
      });

    it('somebody is invited, declines, is invited again, comes, is kicked and banned, both ways', async () => {
      for (const [owner, server, guest] of pairs()) {
        const room = await create(owner, { preset: 'private_chat' });
        const at = `/rooms/${esc(room)}`;
        await owner.ask('POST', `${at}/invite`, { user_id: guest.id });
        await invited(guest, room);
        await guest.ask('POST', `${at}/leave`, {});
        await become(room, guest, 'leave', [owner]);
        await owner.ask('POST', `${at}/invite`, { user_id: guest.id });
        await invited(guest, room);
        await guest.ask('POST', `${at}/join`, {});
        await become(room, guest, 'join', [owner, guest]);
        await owner.ask('POST', `${at}/kick`, { user_id: guest.id, reason: 'off' });
        await become(room, guest, 'leave', [owner, guest]);
        await owner.ask('POST', `${at}/invite`, { user_id: guest.id });
        await invited(guest, room);
        await guest.ask('POST', `${at}/join`, {});
        await become(room, guest, 'join', [owner, guest]);
        await owner.ask('POST', `${at}/ban`, { user_id: guest.id });
        await become(room, guest, 'ban', [owner]);
        await until(async () =>
          guest.ask('GET', `${at}/joined_members`).then(
            () => false,
            () => true,
          ),
        );
        await expect(join(guest, room, server)).rejects.toThrow('403');
      }
    });

    it('a knock is let in, and a member of one room into another, both ways', async () => {
      for (const [owner, server, guest] of pairs()) {
        const rule = (content: JsonObject) => ({
          initial_state: [{ type: 'm.room.join_rules', state_key: '', content }],
        });
        const knocking = await create(owner, { preset: 'private_chat', ...rule({ join_rule: 'knock' }) });
        await guest.ask('POST', `/knock/${esc(knocking)}?via=${esc(server)}&server_name=${esc(server)}`, {});
        await become(knocking, guest, 'knock', [owner]);
        await owner.ask('POST', `/rooms/${esc(knocking)}/invite`, { user_id: guest.id });
        await invited(guest, knocking);
        await guest.ask('POST', `/rooms/${esc(knocking)}/join`, {});
        await become(knocking, guest, 'join', [owner, guest]);

        const allow = [{ type: 'm.room_membership', room_id: knocking }];
        const inner = await create(owner, {
          preset: 'private_chat',
          ...rule({ join_rule: 'restricted', allow }),
        });
        await join(guest, inner, server);
        await become(inner, guest, 'join', [owner, guest]);
        await guest.ask('POST', `/rooms/${esc(inner)}/leave`, {});
        await become(inner, guest, 'leave', [owner]);
      }
    });

    it('an alias leads in; what was said is edited and redacted, and state set, both ways', async () => {
      for (const [owner, server, guest] of pairs()) {
        const alias = `tea-${server.split(':')[1]}`;
        const room = await create(owner, { room_alias_name: alias });
        await guest.ask('POST', `/join/${esc(`#${alias}:${server}`)}`, {});
        const at = `/rooms/${esc(room)}`;
        const said = await say(guest, room, 'wrong');
        await until(async () => (await past(owner, room, 5)).includes(said));
        await guest.ask('PUT', `${at}/send/m.room.message/edit`, {
          ...{ msgtype: 'm.text', body: '* right', 'm.new_content': { msgtype: 'm.text', body: 'right' } },
          'm.relates_to': { rel_type: 'm.replace', event_id: said },
        });
        const other = await say(guest, room, 'regretted');
        await guest.ask('PUT', `${at}/redact/${esc(other)}/1`, { reason: 'no' });
        await until(async () => {
          const { content } = await owner
            .ask('GET', `${at}/event/${esc(other)}`)
            .catch(() => ({ content: undefined }));
          return content !== undefined && Object.keys(content as JsonObject).length === 0;
        });
        const { users, ...levels } = await owner.ask('GET', `${at}/state/m.room.power_levels`);
        await owner.ask('PUT', `${at}/state/m.room.power_levels`, {
          ...levels,
          users: { ...(users as JsonObject), [guest.id]: 50 },
        });
        const topic = (of: Person) =>
          of.ask('GET', `${at}/state/m.room.topic`).then(
            (content) => content.topic,
            () => undefined,
          );
        await until(async () =>
          guest.ask('PUT', `${at}/state/m.room.topic`, { topic: 'of the guest' }).then(
            () => true,
            () => false,
          ),
        );
        await until(async () => (await topic(owner)) === 'of the guest');
        await owner.ask('POST', `${at}/receipt/m.read/${esc(said)}`, {});
        await until(async () => {
          const { rooms } = await guest.ask('GET', '/sync');
          const joined = (rooms as { readonly join: Record<string, { readonly ephemeral: JsonObject }> })
            .join;
          return JSON.stringify(joined[room]?.ephemeral).includes(owner.id);
        }, `the receipt of ${owner.id}`);
      }
    });
  },
);
