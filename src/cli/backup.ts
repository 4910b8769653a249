import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { backupDatabase } from '../storage/backup.ts';
import { IN_CLEAR } from '../storage/sealing.ts';
import { withServerData } from './data.ts';
import { printJson, textFields } from './output.ts';

interface Options {
  readonly config?: string;
  readonly json?: true;
}

const HELP = `
FILE is a copy of the whole database as it is at one instant: accounts, rooms, events, what waits to be sent, and the server's own
signing key, without which nobody can be this server again. It is made beside a server that runs, checked, and
readable by its owner only. Whoever has it can be the server, unless its keys are sealed ("ravine keys --help"): then he reads
what was written, and no server starts on it without the seal key, which is not in it. The keys of sessions in pipes are
left out: each peer costs a handshake.

To go back to it: stop the server, move ravine.db, ravine.db-wal and ravine.db-shm out of its data folder, copy FILE there as
ravine.db (cp -p), start. Never start it beside the server that it was copied from.

Exit status: 0 where the copy is made and good, 1 where not; then there is none.

Examples:
  ravine backup /mnt/backup/ravine-monday.db
  ravine backup --config /etc/ravine/ravine.yaml "/mnt/backup/ravine-$(date +%F).db"
  ravine backup --json copy.db`;

export function backupCommand(): Command {
  return new Command('backup')
    .description('Copies the database of a server that is stopped or runs, without the keys of its sessions.')
    .argument('<file>', 'the copy; it must not exist')
    .option('-c, --config <file>', 'configuration in YAML, as for "ravine serve"')
    .option('--json', 'print JSON')
    .addHelpText('after', HELP)
    .action(backup);
}

async function backup(file: string, { config, json }: Options): Promise<void> {
  await withServerData(config, async ({ serverName, path, sealing, database }) => {
    const kept = (await database.get<{ sessions: number; keys: number }>(
      `SELECT (SELECT count(*) FROM pipe_sessions) AS sessions,
         (SELECT count(*) FROM one_time_keys WHERE key IS NOT NULL) AS keys`,
    ))!;
    const { rows } = backupDatabase(path, file, showProgress);
    const sealed = sealing !== IN_CLEAR;
    const target = resolve(file);
    const bytes = statSync(target).size;
    const total = [...rows.values()].reduce((sum, count) => sum + count, 0);
    if (json) {
      return printJson({
        ...{ file: target, name: serverName, bytes, sealed },
        tables: Object.fromEntries(rows),
        left_out: { pipe_sessions: kept.sessions, one_time_keys: kept.keys },
      });
    }
    const count = (table: string): number => rows.get(table) ?? 0;
    console.log(
      textFields([
        ['backup', `${target}, ${bytes} bytes, checked`],
        ['server', serverName],
        [
          'in it',
          `${count('users')} accounts, ${count('rooms')} rooms, ${count('events')} events, ${count('outbox')} to be sent; ${total} rows in all`,
        ],
        [
          'own keys',
          sealed
            ? 'sealed: keep the seal key as well, and elsewhere'
            : 'IN CLEAR: whoever has this file can be this server',
        ],
        [
          'left out',
          `${kept.sessions} sessions of pipes, ${kept.keys} one-time keys; configuration, certificates and seal key`,
        ],
      ]),
    );
  });
}

/** On standard error, and only where somebody may be looking: what is printed is the result. */
function showProgress(done: number, all: number): void {
  if (!process.stderr.isTTY) return;
  const percent = all === 0 ? 100 : Math.floor((100 * done) / all);
  process.stderr.write(`\r${percent} %  ${done} of ${all} rows${done === all && done > 0 ? '\n' : ''}`);
}
