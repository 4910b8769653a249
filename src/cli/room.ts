import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { systemClock } from '../base/time.ts';
import type { EventId, RoomId } from '../matrix/ids.ts';
import type { Pdu } from '../matrix/pdu.ts';
import { readConfig } from '../server/config.ts';
import type { Reader } from '../storage/database.ts';
import { eventsById } from '../storage/events.ts';
import { checkSchema } from '../storage/migrate.ts';
import { InUseError, type Purged, type PurgePoint, purgeRoom } from '../storage/purge.ts';
import { askForPurge, endPurge, purgeOf } from '../storage/purges.ts';
import { lastOfGraph, roomList, roomOverview } from '../storage/room_overview.ts';
import { findRoom, forwardExtremities } from '../storage/rooms.ts';
import { openReadOnly } from '../storage/sqlite.ts';
import { stateGroupState } from '../storage/sync.ts';
import { integer } from './arguments.ts';
import { dataCommands, withServerData } from './data.ts';
import { printable, printJson, textFields, textTable } from './output.ts';
import { dotOf, svgOf } from './room_graph.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

/** Between two looks at how far a purge is. */
const PROGRESS_MS = 500;
/** Events in a picture where nothing is said, and at most. */
const DEFAULT_LAST = 50;
const MAX_LAST = 5_000;
/** How much of an event's content a table shows, in characters. */
const MAX_CONTENT = 60;

const EXAMPLES = `
All of these only read, but for "purge". All of them also work beside a server that runs.

Room and event ids begin with signs that a shell takes for its own: put them between single quotes.

Examples:
  ravine room                                        all rooms
  ravine room show '!room'                           what is stored of one
  ravine room state '!room'                          its state now
  ravine room state '!room' --at '$event'            and as it was before that event
  ravine room extremities '!room'                    the ends of its graph
  ravine room graph '!room' --last 30 | dot -Tpng > room.png
  ravine room graph '!room' --format svg > room.svg
  ravine room purge '!room' --before 2030-01-31 --dry-run
  ravine room purge '!room' --before '$event' --shrink`;

const ABOUT_PURGE = `
What was delivered before the point leaves the database: the event with that id and what came after it stay, or what
came after the first event of that day or later (by what the senders' clocks said, in UTC). The state stays as it is,
and with it the events that it is made of and that authorise them, but clients do not see these as history any more. Other
servers that ask for what has gone are answered with what is there. It cannot be undone: "ravine backup" before.

A server that runs is asked to do it: bit by bit, beside everything else. This command waits, and tells how far it is;
it may be interrupted, and the server goes on, also after its next start. "--stop" ends it: what has gone is gone, and the
rest stays. "--dry-run" and "--shrink" are for a server that is stopped.`;

export function roomCommand(): Command {
  const command = new Command('room')
    .description('Rooms as they are stored: state, graph, history; and purging history.')
    .addHelpText('after', EXAMPLES);
  const add = dataCommands(command);
  const json = '--json';
  add('list', 'all rooms', true).option(json, 'print JSON').action(list);
  add('show <room>', 'what is stored of a room').option(json, 'print JSON').action(show);
  add('state <room>', 'the state of a room')
    .option('--at <event>', 'as it was before this event')
    .option(json, 'print JSON')
    .action(state);
  add('extremities <room>', "the forward extremities: what the room's next event follows")
    .option(json, 'print JSON')
    .action(extremities);
  add('graph <room>', 'the last events and what each follows, as a picture')
    .option('--last <n>', 'how many events', integer(1, MAX_LAST), DEFAULT_LAST)
    .addOption(new Option('--format <form>', 'for Graphviz, or ready').choices(['dot', 'svg']).default('dot'))
    .action(graph);
  add('purge <room>', "take a room's history before a point out of the database")
    .option('--before <point>', 'an event id, or a day such as 2030-01-31')
    .option('--stop', 'end the purge that a server that runs is doing')
    .option('--dry-run', 'tell what would go, and change nothing')
    .option('--shrink', 'make the file smaller as well, which rewrites it')
    .option(json, 'print JSON')
    .addHelpText('after', ABOUT_PURGE)
    .action(purge);
  return command;
}

/** The database that a configuration names. @throws where there is none, or not one of this version */
function databaseOf(config: string | undefined): string {
  const { data } = readConfig(config);
  const path = join(data, 'ravine.db');
  if (!existsSync(path))
    throw new Error(`There is no database in ${data} yet: the first "ravine serve" makes it.`);
  checkSchema(path);
  return path;
}

async function reading<T>({ config }: Options, read: (db: Reader) => Promise<T>): Promise<T> {
  const database = openReadOnly(databaseOf(config));
  try {
    return await read(database);
  } finally {
    database.close();
  }
}

const unknownRoom = (room: string): Error => new Error(`There is no room ${room} here.`);

async function list(options: Options): Promise<void> {
  const rooms = await reading(options, roomList);
  if (options.json) return printJson(rooms);
  if (rooms.length === 0) return console.log('No room is known here.');
  const rows = rooms.map(({ room, version, joined, events }) => [room, version, `${joined}`, `${events}`]);
  console.log(textTable([['room', 'version', 'joined', 'events'], ...rows]));
}

async function show(room: string, options: Options): Promise<void> {
  const found = await reading(options, (db) => roomOverview(db, room as RoomId));
  if (found === undefined) throw unknownRoom(room);
  if (options.json) return printJson(found);
  const events = Object.entries(found.events).map(([status, n]) => `${n} ${status.replace('_', '-')}`);
  console.log(
    textFields([
      ['room', found.room],
      ['version', found.version],
      ['name', found.name === null ? '(none)' : printable(found.name)],
      ['joined', `${found.joined} users of ${found.servers} servers`],
      ['events', events.join('\n')],
      ['state', `${found.stateEntries} entries now`],
      ['history of it', `${found.stateGroups} states in ${found.stateBytes} bytes`],
      ['ends', `${found.extremities}, greatest depth ${found.greatestDepth}`],
    ]),
  );
}

async function state(room: string, options: Options & { readonly at?: string }): Promise<void> {
  const entries = await reading(options, async (db) => {
    const found = await findRoom(db, room as RoomId);
    if (found === undefined) throw unknownRoom(room);
    return stateGroupState(db, await groupAt(db, room, found.currentGroup, options.at), true);
  });
  if (options.json)
    return printJson(
      entries.map(({ event_id: id, json }) => {
        const { type, state_key: key, sender, content } = JSON.parse(json) as Pdu;
        return { event_id: id, type, state_key: key, sender, content };
      }),
    );
  const rows = entries.map(({ event_id: id, type, state_key: key, json }) => {
    const { content } = JSON.parse(json) as Pdu;
    return [type, key!, id, JSON.stringify(content).slice(0, MAX_CONTENT)].map(printable);
  });
  console.log(textTable([['type', 'key', 'event', 'content'], ...rows]));
}

async function groupAt(
  db: Reader,
  room: string,
  current: number | null,
  at: string | undefined,
): Promise<number> {
  if (at === undefined) {
    if (current === null) throw new Error('The state of that room is not known here.');
    return current;
  }
  const [event] = await eventsById(db, [at as EventId]);
  if (event === undefined || event.event.room !== room) throw new Error(`${at} is no event of that room.`);
  if (event.stateBefore === null) throw new Error(`The state before ${at} is not known here.`);
  return event.stateBefore;
}

async function extremities(room: string, options: Options): Promise<void> {
  const ends = await reading(options, async (db) => {
    const found = await findRoom(db, room as RoomId);
    if (found === undefined) throw unknownRoom(room);
    return forwardExtremities(db, found.row);
  });
  if (options.json) return printJson(ends.map(({ id, depth, sender }) => ({ event_id: id, depth, sender })));
  const rows = ends.map(({ id, depth, sender }) => [id, `${depth}`, printable(sender)]);
  console.log(textTable([['event', 'depth', 'sender'], ...rows]));
}

async function graph(
  room: string,
  options: Options & { readonly last: number; readonly format: 'dot' | 'svg' },
): Promise<void> {
  const events = await reading(options, (db) => lastOfGraph(db, room as RoomId, options.last));
  if (events.length === 0) throw unknownRoom(room);
  process.stdout.write(options.format === 'dot' ? dotOf(events) : svgOf(events));
}

async function purge(
  room: string,
  options: Options & {
    readonly before?: string;
    readonly stop?: true;
    readonly dryRun?: true;
    readonly shrink?: true;
  },
): Promise<void> {
  if (options.stop === true) return stopPurge(room as RoomId, options);
  if (options.before === undefined) throw new Error('--before says from where on the history stays.');
  const { dryRun = false, shrink = false } = options;
  const before = pointOf(options.before);
  let purged: Purged;
  try {
    purged = purgeRoom(databaseOf(options.config), room as RoomId, before, { dryRun, shrink });
  } catch (error) {
    if (!(error instanceof InUseError) || dryRun || shrink) throw error;
    return purgeByServer(room as RoomId, before, options);
  }
  if (options.json) return printJson(purged);
  console.log(
    textFields([
      [dryRun ? 'would leave' : 'have left', `${purged.removed} events, ${purged.groups} states`],
      ['are kept for the state', `${purged.kept} events`],
      ['history from there on', `${purged.left} events`],
    ]),
  );
}

/** Asks a server that runs, and waits until it is done. */
async function purgeByServer(room: RoomId, before: PurgePoint, options: Options): Promise<void> {
  await withServerData(options.config, async ({ database }) => {
    await database.transaction((tx) => askForPurge(tx, room, before));
    let told = '';
    for (;;) {
      await new Promise<void>((resolve) => void systemClock.after(PROGRESS_MS, resolve));
      const purge = await purgeOf(database, room);
      if (purge === undefined) throw new Error('The purge was ended before it was done.');
      const { stage, removed, groups } = purge;
      if (stage === 'done') {
        if (options.json) return printJson({ removed, groups });
        return console.log(textFields([['have left', `${removed} events, ${groups} states`]]));
      }
      const line = `${stage}: ${removed} events and ${groups} states have left`;
      if (!options.json && line !== told) process.stderr.write(`${line}\n`);
      told = line;
    }
  });
}

async function stopPurge(room: RoomId, options: Options): Promise<void> {
  const stopped = await withServerData(options.config, ({ database }) =>
    database.transaction((tx) => endPurge(tx, room)),
  );
  if (!stopped) throw new Error('No purge of that room is under way.');
  if (options.json) return printJson({ stopped });
  console.log('The purge ends here.');
}

function pointOf(text: string): PurgePoint {
  if (text.startsWith('$')) return { event: text as EventId };
  const sentFrom = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  if (Number.isNaN(sentFrom))
    throw new Error(`--before takes an event id or a day such as 2030-01-31, not ${text}.`);
  return { sentFrom };
}
