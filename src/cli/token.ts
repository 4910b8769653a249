import { Command, InvalidArgumentError } from 'commander';
import { base64url, hex } from '../base/bytes.ts';
import { systemRandom } from '../base/random.ts';
import { type Millis, systemClock } from '../base/time.ts';
import { hashOf } from '../homeserver/secrets.ts';
import {
  deleteRegistrationToken,
  insertRegistrationToken,
  listRegistrationTokens,
  type RegistrationTokenRow,
} from '../storage/registration_tokens.ts';
import { integer } from './arguments.ts';
import { dataCommandsWithJson, withServerData } from './data.ts';
import { jsonTime, printJson, textFields, textTable, textTime } from './output.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

const TOKEN_BYTES = 15;
/** Digits of its hash that a token is named by. */
const ID_DIGITS = 12;
const MAX_USES = 1_000_000;
const MINUTE_MS: Millis = 60_000;
const UNITS: Readonly<Record<string, Millis>> = {
  m: MINUTE_MS,
  h: 60 * MINUTE_MS,
  d: 24 * 60 * MINUTE_MS,
  w: 7 * 24 * 60 * MINUTE_MS,
};

const EXAMPLES = `
With "registration: token" in the configuration whoever has a token can make an account. A token is printed once, when it is
made; what is kept is a hash of it, and the list names it by the first digits of that. All of it works on a server that is
stopped and on one that runs, which goes by it at once.

Examples:
  ravine token                                 the tokens there are
  ravine token create                          for any number of accounts, for ever
  ravine token create --uses 1 --expires 7d    for one account within a week (m, h, d, w)
  ravine token create --expires 2030-01-31     until that day begins, in UTC
  ravine token revoke 5f2e91c04a77             by its id, or the token itself`;

export function tokenCommand(): Command {
  const command = new Command('token')
    .description('Registration tokens: what lets people make accounts.')
    .addHelpText('after', EXAMPLES);
  const add = dataCommandsWithJson(command);
  add('list', 'all of them, in a table', true).action(list);
  add('create', 'make one, and print it')
    .option('--uses <n>', 'how many accounts it makes', integer(1, MAX_USES))
    .option('--expires <when>', 'a time from now such as 7d, or a day such as 2030-01-31', expiry)
    .action(create);
  add('revoke <token>', 'let it make no account any more').action(revoke);
  return command;
}

/** Unix time in milliseconds. */
function expiry(text: string): Millis {
  const [, count = '', unit = ''] = /^(\d{1,5})([mhdw])$/.exec(text) ?? [];
  const now = systemClock.wall();
  if (unit !== '' && Number(count) > 0) return now + Number(count) * UNITS[unit]!;
  const day = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  if (day > now) return day;
  throw new InvalidArgumentError(
    'It takes a time from now such as 90m, 12h, 7d, 4w, or a day to come such as 2030-01-31.',
  );
}

const idOf = (hash: Uint8Array): string => hex(hash).slice(0, ID_DIGITS);

async function create(
  options: Options & { readonly uses?: number; readonly expires?: Millis },
): Promise<void> {
  const { uses = null, expires = null } = options;
  const token = base64url(systemRandom.bytes(TOKEN_BYTES));
  const row = { hash: hashOf(token), usesLeft: uses, expires };
  const mode = await withServerData(options.config, async ({ database, config }) => {
    await database.transaction((tx) => insertRegistrationToken(tx, row, systemClock.wall()));
    return config.registration.mode;
  });
  if (options.json) return printJson({ token, ...toJson(row) });
  console.log(
    textFields([
      ['token', `${token}  (shown once)`],
      ['id', idOf(row.hash)],
      ['accounts', uses === null ? 'any number' : String(uses)],
      ['expires', expires === null ? 'never' : `${textTime(expires)} UTC`],
    ]),
  );
  if (mode !== 'token')
    console.log(`The configuration says "registration: ${mode}": nobody is asked for a token.`);
}

const toJson = ({ hash, usesLeft, expires }: RegistrationTokenRow) => ({
  id: idOf(hash),
  uses_left: usesLeft,
  expires: expires === null ? null : jsonTime(expires),
});

async function list(options: Options): Promise<void> {
  const tokens = await withServerData(options.config, ({ database }) => listRegistrationTokens(database));
  const now = systemClock.wall();
  const isValid = ({ usesLeft, expires }: RegistrationTokenRow): boolean =>
    usesLeft !== 0 && (expires === null || expires > now);
  if (options.json)
    return printJson(
      tokens.map((token) => ({ ...toJson(token), created: jsonTime(token.created), valid: isValid(token) })),
    );
  if (tokens.length === 0) return console.log('There is no token: "ravine token create" makes one.');
  const rows = tokens.map((token) => [
    idOf(token.hash),
    isValid(token) ? 'valid' : token.usesLeft === 0 ? 'used up' : 'expired',
    token.usesLeft === null ? 'any number' : String(token.usesLeft),
    token.expires === null ? 'never' : textTime(token.expires),
    textTime(token.created),
  ]);
  console.log(textTable([['ID', 'STATE', 'ACCOUNTS LEFT', 'EXPIRES (UTC)', 'CREATED (UTC)'], ...rows]));
}

async function revoke(given: string, options: Options): Promise<void> {
  const id = await withServerData(options.config, async ({ database }) => {
    const whole = hex(hashOf(given));
    const named = (await listRegistrationTokens(database)).filter(
      ({ hash }) =>
        hex(hash) === whole || (given.length >= ID_DIGITS && hex(hash).startsWith(given.toLowerCase())),
    );
    const [found] = named;
    if (found === undefined) throw new Error('There is no such token. "ravine token" has the ids of all.');
    await database.transaction((tx) => deleteRegistrationToken(tx, found.hash));
    return idOf(found.hash);
  });
  if (options.json) return printJson({ revoked: id });
  console.log(`The token ${id} makes no account any more. Accounts that were made with it stay.`);
}
