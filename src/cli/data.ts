import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { systemRandom } from '../base/random.ts';
import { parseServerName, type ServerName } from '../matrix/ids.ts';
import { type Config, readConfig } from '../server/config.ts';
import { sealingOf, sealKeyOf } from '../server/sealing.ts';
import { checkSchema } from '../storage/migrate.ts';
import { writtenFact } from '../storage/own_keys.ts';
import type { Sealing } from '../storage/sealing.ts';
import { openSqlite, type SqliteDatabase } from '../storage/sqlite.ts';

/** The data of a server, which may be running. */
export interface ServerData {
  readonly config: Config;
  readonly serverName: ServerName;
  /** The file that `database` is. */
  readonly path: string;
  readonly database: SqliteDatabase;
  /** How secrets are kept; where a key is missing, an error tells so once one is asked for. */
  readonly sealing: Sealing;
}

/**
 * Opens the database that a configuration names for as long as `use` takes. It is neither made nor changed in its form,
 * and what is written waits its turn beside a server that runs.
 * @param file the configuration; undefined: the defaults
 * @throws where there is no database of that server yet, or not one of this version
 */
export async function withServerData<T>(
  file: string | undefined,
  use: (data: ServerData) => Promise<T>,
): Promise<T> {
  const config = readConfig(file);
  const path = join(config.data, 'ravine.db');
  if (!existsSync(path))
    throw new Error(`There is no database in ${config.data} yet: the first "ravine serve" makes it.`);
  checkSchema(path);
  const sealing = sealingOf(path, sealKeyOf(process.env), systemRandom);
  const database = openSqlite({ path, durability: 'full' });
  try {
    const name = parseServerName(config.server_name);
    if (!name.ok) throw new Error(`server_name: ${name.problem}`);
    const written = await writtenFact(database, 'server_name');
    if (written === undefined) throw new Error('The server has not been started yet: "ravine serve" does.');
    if (written !== name.value)
      throw new Error(`The data in ${config.data} belongs to the server ${written}, not to ${name.value}.`);
    return await use({ config, serverName: name.value, path, database, sealing });
  } finally {
    await database.close();
  }
}

/**
 * Adds commands about a server's data below `command`.
 * @returns a function that adds one, with the option of a configuration; `isDefault`: it is what is done where none is named
 */
export const dataCommands =
  (command: Command) =>
  (usage: string, description: string, isDefault = false): Command =>
    command
      .command(usage, { isDefault })
      .description(description)
      .option('-c, --config <file>', 'configuration in YAML, as for "ravine serve"');

/** The same where all of them print JSON, too. */
export const dataCommandsWithJson = (command: Command): ReturnType<typeof dataCommands> => {
  const add = dataCommands(command);
  return (...what) => add(...what).option('--json', 'print JSON');
};
