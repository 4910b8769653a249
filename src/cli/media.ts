import { Command, InvalidArgumentError } from 'commander';
import { type Millis, systemClock } from '../base/time.ts';
import { parseServerName, parseUserId, type ServerName, type UserId } from '../matrix/ids.ts';
import {
  deleteMedia,
  endQuarantine,
  findMedia,
  listMedia,
  type MediaFilter,
  type MediaKind,
  type MediaName,
  type MediaRow,
  mediaTotals,
  quarantine,
} from '../storage/media.ts';
import { integer } from './arguments.ts';
import { dataCommandsWithJson, withServerData } from './data.ts';
import { jsonTime, printJson, textTable, textTime } from './output.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

interface FilterOptions extends Options {
  readonly kind?: MediaKind;
  readonly user?: UserId;
  readonly server?: ServerName;
  readonly unused?: number;
  readonly quarantined?: true;
  readonly limit?: number;
  readonly dryRun?: true;
}

const DAY_MS: Millis = 24 * 60 * 60_000;
const MAX_DAYS = 36_500;
const LISTED = 50;
const MAX_LISTED = 10_000;
/** Files that one transaction takes away. */
const A_STEP = 100;
const KINDS: readonly MediaKind[] = ['upload', 'remote', 'preview'];

const EXAMPLES = `
Files that users have uploaded ("upload"), copies of other servers' ("remote"), and images of previewed pages ("preview"). A
file is named by its mxc:// URI. What is purged is gone at once for everybody who asks for it, and from the disk within a
minute of a server that runs, or at its next start; a copy of another server's is fetched again when somebody asks for it. What is
quarantined stays on the disk and is given to nobody, under whatever name the same content has or will have. All of it works on
a server that is stopped and on one that runs.

Examples:
  ravine media                                         how much there is, and the newest files
  ravine media list --user @alice:example.org          what one user has uploaded
  ravine media list --kind remote --unused 30          copies that nobody has asked for in 30 days
  ravine media purge --kind remote --unused 30 --dry-run   what would go
  ravine media purge --kind remote --unused 30         take them away
  ravine media purge mxc://example.org/AbCd            take one file away
  ravine media quarantine mxc://other.example/AbCd     give it to nobody
  ravine media release mxc://other.example/AbCd        give it to everybody again`;

export function mediaCommand(): Command {
  const command = new Command('media')
    .description('Files: what there is, taking them away, and keeping them from everybody.')
    .addHelpText('after', EXAMPLES);
  const add = dataCommandsWithJson(command);
  filtered(add('list', 'how much there is, and the newest files', true))
    .option('--quarantined', 'only what is kept from everybody')
    .option('--limit <n>', 'how many files', integer(1, MAX_LISTED))
    .action(list);
  filtered(add('purge [uri]', 'take one file away, or all that the options name'))
    .option('--dry-run', 'say what would go, and do nothing')
    .action(purge);
  add('quarantine <uri>', 'keep it from everybody').action((uri: string, options: Options) =>
    setQuarantine(uri, options, true),
  );
  add('release <uri>', 'give it to everybody again').action((uri: string, options: Options) =>
    setQuarantine(uri, options, false),
  );
  return command;
}

const filtered = (command: Command): Command =>
  command
    .option('--kind <kind>', 'upload, remote or preview', kindOf)
    .option('--user <id>', 'uploaded by that user', userOf)
    .option('--server <name>', 'originally of that server', serverOf)
    .option('--unused <days>', 'not asked for in so many days', integer(0, MAX_DAYS));

function kindOf(text: string): MediaKind {
  const kind = KINDS.find((one) => one === text);
  if (kind === undefined) throw new InvalidArgumentError(`It is one of ${KINDS.join(', ')}.`);
  return kind;
}

function userOf(text: string): UserId {
  const user = parseUserId(text);
  if (!user.ok) throw new InvalidArgumentError(`${user.problem}.`);
  return user.value;
}

function serverOf(text: string): ServerName {
  const server = parseServerName(text);
  if (!server.ok) throw new InvalidArgumentError(`${server.problem}.`);
  return server.value;
}

function nameIn(uri: string): MediaName {
  const [, server = '', mediaId = ''] = /^mxc:\/\/([^/]+)\/([A-Za-z0-9_-]+)$/.exec(uri) ?? [];
  const name = parseServerName(server);
  if (!name.ok) throw new Error('That is not a URI such as mxc://example.org/AbCd.');
  return { server: name.value, mediaId };
}

const filterOf = ({ kind, user, server, unused, quarantined }: FilterOptions): MediaFilter => ({
  ...{ kind, server, uploader: user },
  // A use is written down to the hour.
  unusedSince: unused === undefined ? undefined : systemClock.wall() - unused * DAY_MS,
  isQuarantined: quarantined,
});

const uriOf = ({ server, mediaId }: MediaName): string => `mxc://${server}/${mediaId}`;

const toJson = (row: MediaRow) => ({
  uri: uriOf(row),
  kind: row.kind,
  uploader: row.uploader,
  bytes: row.content?.size ?? 0,
  content_type: row.content?.contentType ?? null,
  file_name: row.content?.fileName ?? null,
  sha256: row.content?.sha256 ?? null,
  created: jsonTime(row.created),
  used: jsonTime(row.used),
  quarantined: row.isQuarantined,
});

async function list(options: FilterOptions): Promise<void> {
  const { rows, totals } = await withServerData(options.config, async ({ database }) => ({
    rows: await listMedia(database, filterOf(options), options.limit ?? LISTED),
    totals: await mediaTotals(database),
  }));
  if (options.json) return printJson({ totals: Object.fromEntries(totals), files: rows.map(toJson) });
  for (const [kind, { files, bytes }] of totals) console.log(`${kind}: ${files} files, ${sizeOf(bytes)}`);
  if (rows.length === 0) return console.log('There are no such files.');
  const table = rows.map((row) => [
    uriOf(row),
    row.isQuarantined ? `${row.kind}, quarantined` : row.kind,
    sizeOf(row.content?.size ?? 0),
    row.content?.contentType ?? '-',
    row.uploader ?? '-',
    textTime(row.created),
    textTime(row.used),
  ]);
  const heading = ['URI', 'KIND', 'SIZE', 'TYPE', 'UPLOADER', 'CREATED (UTC)', 'USED (UTC)'];
  console.log(textTable([heading, ...table]));
}

async function purge(uri: string | undefined, options: FilterOptions): Promise<void> {
  const filter = filterOf(options);
  const isFiltered = Object.values(filter).some((value) => value !== undefined);
  if ((uri === undefined) !== isFiltered)
    throw new Error('Name one file, or say by options which files: "ravine media purge --help".');
  const gone = await withServerData(options.config, async ({ database }) => {
    const wanted = uri === undefined ? undefined : await findMedia(database, nameIn(uri));
    if (uri !== undefined && wanted === undefined) throw new Error(`There is no file ${uri} here.`);
    const rows = wanted === undefined ? await listMedia(database, filter, Number.MAX_SAFE_INTEGER) : [wanted];
    for (let at = 0; at < rows.length && !options.dryRun; at += A_STEP)
      await database.transaction(async (tx) => {
        for (const row of rows.slice(at, at + A_STEP)) await deleteMedia(tx, row);
      });
    return rows;
  });
  const bytes = gone.reduce((sum, { content }) => sum + (content?.size ?? 0), 0);
  if (options.json) return printJson({ files: gone.length, bytes, done: options.dryRun !== true });
  console.log(`${gone.length} files, ${sizeOf(bytes)}: ${options.dryRun ? 'would be' : 'are'} taken away.`);
}

async function setQuarantine(uri: string, options: Options, isOn: boolean): Promise<void> {
  const sha256 = await withServerData(options.config, async ({ database }) => {
    const content = (await findMedia(database, nameIn(uri)))?.content;
    if (content === undefined)
      throw new Error(`There is no file ${uri} here. One of another server has to be fetched first.`);
    await database.transaction(async (tx) => {
      if (isOn) await quarantine(tx, content.sha256, systemClock.wall());
      else await endQuarantine(tx, content.sha256);
    });
    return content.sha256;
  });
  if (options.json) return printJson({ uri, sha256, quarantined: isOn });
  console.log(
    isOn ? `${uri} is given to nobody any more, under any name.` : `${uri} is given to everybody again.`,
  );
}

/** Bytes for people. */
function sizeOf(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
