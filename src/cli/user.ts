import { Command } from 'commander';
import { base64url } from '../base/bytes.ts';
import { systemRandom } from '../base/random.ts';
import { systemClock } from '../base/time.ts';
import { Work } from '../base/work.ts';
import { DurableEdus } from '../federation/edus/durable.ts';
import { deactivateAccount } from '../homeserver/deactivation.ts';
import { deleteAllDevices } from '../homeserver/device_data.ts';
import { DeviceLists } from '../homeserver/keys/device_lists.ts';
import { hashNew, Passwords } from '../homeserver/passwords.ts';
import { existingUserId, newUserId } from '../homeserver/usernames.ts';
import type { UserId } from '../matrix/ids.ts';
import { type AccountOverview, accountList } from '../storage/account_overview.ts';
import {
  type AccountFlag,
  findAccount,
  insertAccount,
  setAccountFlag,
  setPasswordHash,
} from '../storage/accounts.ts';
import type { Transaction } from '../storage/database.ts';
import { deleteShortTokens } from '../storage/short_tokens.ts';
import { dataCommandsWithJson, type ServerData, withServerData } from './data.ts';
import { jsonTime, printJson, textFields, textTable, textTime } from './output.ts';
import { readPassword } from './password_input.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

interface NewPassword extends Options {
  readonly generate?: true;
}

/** Of one that is made here: 120 bits. */
const PASSWORD_BYTES = 15;

const EXAMPLES = `
NAME is a user id of this server, or the part of it before the colon. All of it works on a server that is stopped and on one
that runs, which goes by it from the next request on.

A password is asked for at the terminal, or is the first line of standard input; there is no option for it, since everybody
on a machine can read the commands that run there. --generate makes one and prints it.

A locked user can do nothing but log out; a suspended one can read, leave rooms and take back what was sent. A
deactivated account never comes back, and nobody gets its name: its devices, tokens and settings are deleted, and a server
that runs leaves its rooms within a minute or so, one that is stopped after its next start.

Exit status: 0 where it was done, 1 where not.

Examples:
  ravine user                                    all accounts
  ravine user list --config /etc/ravine/ravine.yaml --json
  ravine user add alice                          asks for a password
  ravine user add alice --generate               makes one and prints it
  ravine user add bot --admin < password.txt
  ravine user password alice                     a new password; all devices are logged out
  ravine user password alice --keep-devices
  ravine user lock alice                         and "unlock"
  ravine user suspend alice                      and "unsuspend"
  ravine user admin alice                        may use what is for administrators; --revoke: no more
  ravine user deactivate alice --erase           for ever`;

export function userCommand(): Command {
  const command = new Command('user')
    .description('The accounts of this server: who there is, new ones, passwords, and what each may do.')
    .addHelpText('after', EXAMPLES);
  const add = dataCommandsWithJson(command);
  const generate = ['--generate', 'make a password, and print it'] as const;
  add('list', 'all accounts, in a table', true).action(list);
  add('add <name>', 'make an account')
    .option(...generate)
    .option('--admin', 'it may use what is for administrators')
    .action(addUser);
  add('password <name>', 'set a password')
    .option(...generate)
    .option('--keep-devices', 'log no device out')
    .action(setPassword);
  add('lock <name>', 'let the account do nothing but log out').action(flag('locked', true));
  add('unlock <name>', 'undo that').action(flag('locked', false));
  add('suspend <name>', 'let the account read, but not write').action(flag('suspended', true));
  add('unsuspend <name>', 'undo that').action(flag('suspended', false));
  add('admin <name>', 'let the account use what is for administrators')
    .option('--revoke', 'undo that')
    .action((name: string, options: Options & { readonly revoke?: true }) =>
      flag('admin', options.revoke !== true)(name, options),
    );
  add('deactivate <name>', 'end the account, for ever')
    .option('--erase', 'show what it wrote to nobody who joins a room later, and delete its profile')
    .action(deactivate);
  return command;
}

async function list(options: Options): Promise<void> {
  const accounts = await withServerData(options.config, ({ database }) => accountList(database));
  if (options.json) return printJson(accounts.map(toJson));
  if (accounts.length === 0) return console.log('There is no account yet: "ravine user add" makes one.');
  const heading = ['USER', 'STANDING', 'DEVICES', 'CREATED (UTC)', 'LAST SEEN (UTC)'];
  const rows = accounts.map(({ user, admin, standing, devices, created, lastSeen }) => [
    user,
    admin ? `${standing}, administrator` : standing,
    String(devices),
    textTime(created),
    lastSeen === null ? '-' : textTime(lastSeen),
  ]);
  console.log(textTable([heading, ...rows]));
}

const toJson = (account: AccountOverview) => ({
  user_id: account.user,
  displayname: account.name,
  standing: account.standing,
  admin: account.admin,
  has_password: account.hasPassword,
  devices: account.devices,
  created: jsonTime(account.created),
  last_seen: account.lastSeen === null ? null : jsonTime(account.lastSeen),
});

async function addUser(name: string, options: NewPassword & { readonly admin?: true }): Promise<void> {
  const { config, admin = false } = options;
  await withServerData(config, async ({ database, serverName }) => {
    const user = newUserId(name.startsWith('@') ? localpartOf(name, serverName) : name, serverName);
    const taken = new Error(`${user} is there already, or was.`);
    if ((await findAccount(database, user)) !== undefined) throw taken;
    const { password, generated } = await choose(user, options);
    const passwordHash = await hashed(password);
    const isNew = await database.transaction((tx) =>
      insertAccount(tx, { user, passwordHash, admin }, systemClock.wall()),
    );
    if (!isNew) throw taken;
    done(options, { user_id: user, admin, ...generated }, [
      ['account', admin ? `${user}, administrator` : user],
      ...shown(generated),
    ]);
  });
}

/** What stands before the colon of a user id of this server. @throws where it is another server's */
function localpartOf(user: string, server: string): string {
  if (!user.endsWith(`:${server}`)) throw new Error(`${user} is no user of ${server}.`);
  return user.slice(1, -server.length - 1);
}

async function setPassword(
  name: string,
  options: NewPassword & { readonly keepDevices?: true },
): Promise<void> {
  await withAccount(name, options, async (data, user) => {
    const { password, generated } = await choose(user, options);
    const hash = await hashed(password);
    const keeps = options.keepDevices === true;
    await data.database.transaction(async (tx) => {
      tx.erasesSecrets();
      await active(tx, user);
      await setPasswordHash(tx, user, hash);
      await deleteShortTokens(tx, user);
      if (!keeps) await deleteAllDevices(tx, user, deviceLists(data));
    });
    done(options, { user_id: user, devices_logged_out: !keeps, ...generated }, [
      ['new password of', user],
      ...shown(generated),
      ['devices', keeps ? 'stay logged in' : 'are logged out'],
    ]);
  });
}

const FLAG_TEXT: Readonly<Record<AccountFlag, readonly [set: string, unset: string]>> = {
  locked: ['is locked', 'is not locked'],
  suspended: ['is suspended', 'is not suspended'],
  admin: ['is an administrator', 'is no administrator'],
};

const flag =
  (which: AccountFlag, value: boolean) =>
  (name: string, options: Options): Promise<void> =>
    withAccount(name, options, async ({ database }, user) => {
      await database.transaction(async (tx) => {
        await active(tx, user);
        await setAccountFlag(tx, user, which, value);
      });
      if (options.json) return printJson({ user_id: user, [which]: value });
      console.log(`${user} ${FLAG_TEXT[which][value ? 0 : 1]}.`);
    });

async function deactivate(name: string, options: Options & { readonly erase?: true }): Promise<void> {
  const { erase = false } = options;
  await withAccount(name, options, async (data, user) => {
    await data.database.transaction(async (tx) => {
      await active(tx, user);
      await deactivateAccount(tx, user, { erase, now: systemClock.wall(), lists: deviceLists(data) });
    });
    if (options.json) return printJson({ user_id: user, deactivated: true, erased: erase });
    console.log(`${user} is deactivated for ever${erase ? ', and what it wrote is erased' : ''}.`);
    console.log('A server that runs leaves its rooms within a minute or so.');
  });
}

/** Notes what clients and other servers are to be told of; the server that runs tells it. */
const deviceLists = ({ serverName }: ServerData): DeviceLists => {
  const wakesNobody = (): void => undefined;
  const outbox = { serverName, clock: systemClock, urgent: wakesNobody, later: wakesNobody };
  return new DeviceLists({ outbox: new DurableEdus(outbox) });
};

/** Opens the data for something about an account of this server. @throws where there is no such account */
const withAccount = (
  name: string,
  { config }: Options,
  use: (data: ServerData, user: UserId) => Promise<void>,
): Promise<void> =>
  withServerData(config, async (data) => {
    const user = existingUserId(name, data.serverName);
    if (user === undefined) throw new Error(`${name} is no user of ${data.serverName}.`);
    await active(data.database, user);
    return use(data, user);
  });

/** @throws where there is no such account, or it is deactivated */
async function active(db: Pick<Transaction, 'get' | 'all'>, user: UserId): Promise<void> {
  const account = await findAccount(db, user);
  if (account === undefined) throw new Error(`There is no ${user} here. "ravine user" has all accounts.`);
  if (account.deactivated !== null) throw new Error(`${user} is deactivated, for ever.`);
}

/** The password to be set, and what is to be printed of it. */
async function choose(
  user: UserId,
  { generate }: NewPassword,
): Promise<{ readonly password: string; readonly generated: { readonly password?: string } }> {
  if (generate !== true) return { password: await readPassword(user), generated: {} };
  const password = base64url(systemRandom.bytes(PASSWORD_BYTES));
  return { password, generated: { password } };
}

const hashed = (password: string): Promise<string> =>
  hashNew(new Passwords({ random: systemRandom, work: new Work() }), password);

const shown = ({ password }: { readonly password?: string }): [string, string][] =>
  password === undefined ? [] : [['password', `${password}  (shown once)`]];

function done({ json }: Options, value: object, fields: readonly (readonly [string, string])[]): void {
  if (json) printJson(value);
  else console.log(textFields(fields));
}
