import { Command } from 'commander';
import { systemClock } from '../base/time.ts';
import {
  findReport,
  listReports,
  readReport,
  readReportsUpTo,
  type StoredReport,
} from '../storage/reports.ts';
import { eventById } from '../storage/sync.ts';
import { integer } from './arguments.ts';
import { dataCommandsWithJson, withServerData } from './data.ts';
import { jsonTime, printable, printJson, textFields, textTable, textTime } from './output.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

/** Reports that are listed at once. */
const MAX_LISTED = 1_000;
/** Characters of a reason in the table, and of an event that is shown. */
const MAX_REASON_LENGTH = 60;
const MAX_EVENT_LENGTH = 4_000;

const EXAMPLES = `
Users report events, rooms and other users to the server that they are on; nobody else is told. What was marked as read is
listed no more, but with --all. Of one user the last 500 reports are kept. All of it works on a server that is stopped and on
one that runs.

Examples:
  ravine reports                     what nobody has read yet, the newest first
  ravine reports list --all --json
  ravine reports show 17             with the event that it is about
  ravine reports read 17             it is not listed any more
  ravine reports read 17 --up-to     nor is what came before it`;

export function reportsCommand(): Command {
  const command = new Command('reports')
    .description('What users have reported: events, rooms and users.')
    .addHelpText('after', EXAMPLES);
  const add = dataCommandsWithJson(command);
  add('list', 'those that have not been read, in a table', true)
    .option('--all', 'those that have been, too')
    .action(list);
  add('show', 'one, with the event that it is about').argument('<id>', 'its number', ID).action(show);
  add('read', 'mark one as read')
    .argument('<id>', 'its number', ID)
    .option('--up-to', 'and all that came before it')
    .action(read);
  return command;
}

const ID = integer(1, Number.MAX_SAFE_INTEGER);

async function list(options: Options & { readonly all?: true }): Promise<void> {
  const reports = await withServerData(options.config, ({ database }) =>
    listReports(database, options.all === true, MAX_LISTED),
  );
  if (options.json) return printJson(reports.map(toJson));
  if (reports.length === 0)
    return console.log(options.all ? 'Nothing has been reported.' : 'There is nothing that was not read.');
  const rows = reports.map((report) =>
    [
      String(report.id),
      textTime(report.received),
      report.reporter,
      aboutOf(report),
      report.reason.length > MAX_REASON_LENGTH
        ? `${report.reason.slice(0, MAX_REASON_LENGTH)}...`
        : report.reason,
    ].map(printable),
  );
  console.log(textTable([['ID', 'RECEIVED (UTC)', 'BY', 'ABOUT', 'REASON'], ...rows]));
}

async function show(id: number, options: Options): Promise<void> {
  const { report, event } = await withServerData(options.config, async ({ database }) => {
    const found = await findReport(database, id);
    if (found === undefined) throw unknownReport(id);
    const row = found.eventId === null ? undefined : await eventById(database, found.eventId);
    return { report: found, event: row };
  });
  if (options.json)
    return printJson({ ...toJson(report), event: event === undefined ? null : JSON.parse(event.json) });
  const fields: [string, string][] = [
    ['id', String(report.id)],
    ['received', `${textTime(report.received)} UTC`],
    ['read', report.read === null ? 'not yet' : `${textTime(report.read)} UTC`],
    ['by', report.reporter],
    ['about', `the ${report.kind} ${aboutOf(report)}`],
    ...(report.kind === 'event' ? [['room', report.room ?? '-'] as [string, string]] : []),
    ['reason', report.reason],
    ...(event === undefined ? [] : [['event', event.json.slice(0, MAX_EVENT_LENGTH)] as [string, string]]),
  ];
  console.log(textFields(fields.map(([label, value]) => [label, printable(value)])));
}

async function read(id: number, options: Options & { readonly upTo?: true }): Promise<void> {
  const marked = await withServerData(options.config, ({ database }) =>
    database.transaction(async (tx) => {
      if ((await findReport(tx, id)) === undefined) throw unknownReport(id);
      const now = systemClock.wall();
      if (options.upTo) return readReportsUpTo(tx, id, now);
      await readReport(tx, id, now);
      return 1;
    }),
  );
  if (options.json) return printJson({ read: marked });
  console.log(marked === 1 ? 'It is marked as read.' : `${marked} are marked as read.`);
}

const aboutOf = ({ kind, room, eventId, userId }: StoredReport): string =>
  ({ event: eventId, room, user: userId })[kind] ?? '-';

const toJson = ({ id, kind, reporter, room, eventId, userId, reason, received, read: at }: StoredReport) => ({
  ...{ id, kind, reporter, room_id: room, event_id: eventId, user_id: userId, reason },
  received: jsonTime(received),
  read: at === null ? null : jsonTime(at),
});

const unknownReport = (id: number): Error =>
  new Error(`There is no report ${id}. "ravine reports list --all" has those that there are.`);
