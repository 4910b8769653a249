import { basename } from 'node:path';
import type { Link } from '../../src/link/link.ts';
import type { Database, Transaction } from '../../src/storage/database.ts';

/*
 * Where a process may die, named so that a reader finds the place:
 *
 *   before BEGIN <file> <function>     somebody asks for a transaction; nothing of it is done
 *   before COMMIT <file> <function>    its body has run; what it wrote is not committed
 *   after COMMIT <file> <function>     it is on the disk; neither its effects have run nor its caller been told
 *   before send <label>                a datagram is handed to the link
 *   after send <label>                 it has been given to the system
 */

/** Told at each boundary. Where that is the one to die at, it does not return. */
export interface Witness {
  reach(boundary: string): void;
  /** The same where time may pass: a disk that is slow, while everything else goes on. */
  wait(boundary: string): Promise<void>;
}

/** A database that tells of its boundaries. */
export function watchedDatabase(database: Database, witness: Witness): Database {
  return {
    get: (sql, ...params) => database.get(sql, ...params),
    all: (sql, ...params) => database.all(sql, ...params),
    close: () => database.close(),
    async transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T> {
      const who = caller();
      await witness.wait(`before BEGIN ${who}`);
      return database.transaction(async (tx) => {
        // The first of the effects.
        tx.afterCommit(() => witness.reach(`after COMMIT ${who}`));
        const value = await body(tx);
        await witness.wait(`before COMMIT ${who}`);
        return value;
      });
    },
  };
}

/** A link that tells of its boundaries. */
export function watchedLink(link: Link, { reach }: Witness): Link {
  return {
    profile: link.profile,
    onReceive: (receive) => link.onReceive(receive),
    close: () => link.close(),
    send(to, bytes, label = 'datagram') {
      const kinds = kindsOf(label);
      for (const kind of kinds) reach(`before send ${kind}`);
      link.send(to, bytes, label);
      // Node hands it to the system later in this turn.
      setImmediate(() => {
        for (const kind of kinds) reach(`after send ${kind}`);
      });
    },
  };
}

/**
 * What a datagram carries, without what depends on the moment: which block of a body, which copy of which message, and what
 * else waited with it and went in the same record.
 */
function kindsOf(label: string): readonly string[] {
  const [, messages] = /^data (.*)$/.exec(label) ?? [];
  if (messages === undefined) return [label];
  const kinds = messages
    .split(' + ')
    .map((message) =>
      / copy \d+$/.test(message) ? 'data copy' : `data ${message.replace(/(block\d) [\d/]+/g, '$1')}`,
    );
  return [...new Set(kinds)];
}

const FRAME =
  /^ *at (?:async )?(?:(\S+)(?: \[as \S+\])? \()?(?:file:\/\/)?(\/\S+?\/src\/\S+?)\.ts:\d+:\d+\)?$/;

/** The file and the function that ask for a transaction. */
function caller(): string {
  for (const line of (new Error().stack ?? '').split('\n')) {
    const [, where, file] = FRAME.exec(line) ?? [];
    if (file === undefined) continue;
    const name = where?.split('.').at(-1)?.replace('#', '') ?? '';
    return `${basename(file)} ${name}`.replace(/ (?:<anonymous>)?$/, '');
  }
  return 'somebody';
}
