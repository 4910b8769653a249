import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Connection from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import { dotOf, svgOf } from '../../src/cli/room_graph.ts';
import type { EventId, RoomId } from '../../src/matrix/ids.ts';
import { completeConfig } from '../../src/server/config.ts';
import { openServer } from '../../src/server/open.ts';
import type { GraphEvent } from '../../src/storage/room_overview.ts';
import { openSqlite } from '../../src/storage/sqlite.ts';
import { World } from '../homeserver/rooms/world.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { ravine } from './run.ts';

interface Prepared {
  readonly config: string;
  readonly path: string;
  readonly room: RoomId;
  readonly said: readonly EventId[];
}

/** The data of a server with a room in which something was said, which nobody has open. */
async function prepare(): Promise<Prepared> {
  const world = new World();
  const a = world.server('a.example');
  const alice = a.user('alice');
  const room = await a.rooms.create(alice, { name: 'A\u001b[2Jroom' });
  const said: EventId[] = [];
  for (let n = 0; n < 6; n++) {
    said.push(await a.say(alice, room, `${n}`));
    if (n === 2) await a.rooms.setState(room, alice, 'm.room.topic', '', { topic: 'set' });
  }
  const [{ file }] = (await a.database.all<{ file: string }>('PRAGMA database_list')) as [{ file: string }];
  const folder = temporaryFolder();
  const path = join(folder, 'ravine.db');
  const connection = new Connection(file, { readonly: true });
  connection.exec(`VACUUM INTO '${path}'`);
  connection.close();
  const config = join(folder, 'ravine.json');
  writeFileSync(config, JSON.stringify({ server_name: 'a.example', data: '.' }));
  return { config, path, room, said };
}

describe('ravine room', () => {
  it('lists and shows rooms, beside a server that runs, and lets no terminal be moved', async () => {
    const { config, path, room } = await prepare();
    const running = openSqlite({ path, durability: 'off' });
    onTestFinished(() => running.close());
    await running.all('SELECT 1');
    const listed = await ravine('room', '--config', config);
    expect(listed.stderr).toBe('');
    expect(listed.stdout).toContain(room);
    const shown = await ravine('room', 'show', room, '--config', config);
    expect(shown.stdout).toContain('1 users of 1 servers');
    expect(shown.stdout).not.toContain('\u001b');
    const json = JSON.parse((await ravine('room', 'show', room, '--json', '--config', config)).stdout);
    expect(json).toMatchObject({ room, version: '12', joined: 1, extremities: 1, events: { timeline: 14 } });
    const refused = await ravine(
      'room',
      'purge',
      room,
      '--before',
      '2000-01-01',
      '--dry-run',
      '--config',
      config,
    );
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('stop the server first') });
  });

  it('tells the state now and before an event, and the ends', async () => {
    const { config, room, said } = await prepare();
    const types = async (...args: string[]): Promise<string[]> =>
      JSON.parse((await ravine('room', 'state', room, '--json', '--config', config, ...args)).stdout).map(
        ({ type }: { type: string }) => type,
      );
    expect(await types()).toContain('m.room.topic');
    expect(await types('--at', said[1]!)).not.toContain('m.room.topic');
    const ends = await ravine('room', 'extremities', room, '--config', config);
    expect(ends.stdout).toContain(said[5]);
    const strange = await ravine('room', 'state', room, '--at', '$none', '--config', config);
    expect(strange).toMatchObject({ code: 1, stderr: expect.stringContaining('no event of that room') });
    expect((await ravine('room', 'show', '!none', '--config', config)).code).toBe(1);
  });

  it('draws the last events', async () => {
    const { config, room, said } = await prepare();
    const dot = await ravine('room', 'graph', room, '--last', '3', '--config', config);
    expect(dot.stdout).toContain(`"${said[5]}" -> "${said[4]}"`);
    expect(dot.stdout.match(/label=/g)).toHaveLength(3);
    const svg = await ravine('room', 'graph', room, '--format', 'svg', '--config', config);
    expect(svg.stdout).toMatch(/^<svg[\s\S]*<\/svg>\n$/);
  });

  it('purges, after it has told what would go', async () => {
    const { config, path, room, said } = await prepare();
    copyFileSync(path, `${path}.before`);
    const purge = (...args: string[]) =>
      ravine('room', 'purge', room, '--before', said[4]!, '--json', '--config', config, ...args);
    const would = JSON.parse((await purge('--dry-run')).stdout);
    expect(would.removed).toBeGreaterThan(2);
    expect(JSON.parse((await purge()).stdout)).toEqual(would);
    expect(JSON.parse((await purge('--shrink')).stdout).removed).toBe(0);
    const wrong = await ravine('room', 'purge', room, '--before', 'yesterday', '--config', config);
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('2030-01-31') });
  });
});

it('ravine room purge has a server that runs do it', async () => {
  const folder = temporaryFolder();
  const config = join(folder, 'ravine.json');
  const given = {
    ...{ server_name: 'a.example', data: folder, registration: 'open', log: { level: 'silent' } },
    ...{ http: { listen: [{ host: '127.0.0.1', port: 0 }] }, coap: { enabled: false } },
  } as const;
  writeFileSync(config, JSON.stringify({ server_name: 'a.example', data: folder }));
  const server = await openServer(completeConfig(given, folder));
  onTestFinished(() => server.stop());
  const { app } = server.homeserver;
  let token = '';
  const call = async (method: 'POST' | 'PUT', path: string, body: object) => {
    const headers = { authorization: `Bearer ${token}` };
    const url = `/_matrix/client/v3/${path}`;
    return (await app.inject({ method, url, payload: body, headers })).json() as Record<string, string>;
  };
  const auth = { type: 'm.login.dummy' };
  token = (await call('POST', 'register', { username: 'alice', password: 'long enough 1', auth }))
    .access_token!;
  const room = (await call('POST', 'createRoom', {})).room_id!;
  const said: string[] = [];
  for (let n = 0; n < 10; n++) {
    const path = `rooms/${encodeURIComponent(room)}/send/m.room.message/${n}`;
    said.push((await call('PUT', path, { body: `${n}` })).event_id!);
  }
  const purge = (...args: string[]) => ravine('room', 'purge', room, '--config', config, ...args);
  expect(await purge('--stop')).toMatchObject({ code: 1, stderr: expect.stringContaining('under way') });
  const done = await purge('--before', said[6]!, '--json');
  expect(done).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(done.stdout)).toMatchObject({ removed: 6 });
  const graph = await ravine('room', 'graph', room, '--config', config);
  expect(said.map((id) => graph.stdout.includes(`"${id}" [label`))).toEqual(said.map((_, n) => n >= 6));
  expect((await call('PUT', `rooms/${encodeURIComponent(room)}/send/x/1`, {})).event_id).toBeDefined();
  const shrink = await purge('--before', said[6]!, '--shrink');
  expect(shrink).toMatchObject({ code: 1, stderr: expect.stringContaining('stop the server first') });
});

describe('the picture of a graph', () => {
  const event = (id: string, prev: string[], more: Partial<GraphEvent> = {}): GraphEvent => ({
    ...{
      id: id as EventId,
      type: 'm.room.message',
      stateKey: null,
      sender: '@a:b',
      depth: 1,
      status: 'timeline',
    },
    ...{ isExtremity: false, prev: prev as EventId[] },
    ...more,
  });

  it('escapes what others wrote', () => {
    const strange = event('$1', [], { type: '"]; evil [label="<script>&\u0001' });
    expect(dotOf([strange])).toContain('\\"]; evil [label=\\"');
    const svg = svgOf([strange]);
    expect(svg).not.toContain('<script>');
    expect(svg).not.toContain('\u0001');
    expect(svg).toContain('&lt;script>&amp;');
  });

  it('gives branches lanes of their own, and rings to the ends', () => {
    const svg = svgOf([
      event('$d', ['$b', '$c'], { isExtremity: true }),
      event('$c', ['$a'], { status: 'rejected' }),
      event('$b', ['$a']),
      event('$a', ['$unknown']),
    ]);
    const centres = [...svg.matchAll(/cx="(\d+)" cy="(\d+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
    expect(centres).toHaveLength(4);
    expect(centres[1]![0]).not.toBe(centres[2]![0]);
    expect(svg.match(/stroke-width="2"/g)).toHaveLength(1);
    expect(svg.match(/stroke-dasharray/g)).toHaveLength(1);
  });
});
