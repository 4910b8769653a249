import Connection from 'better-sqlite3';

/** How long another process that has just ended may take to let go of the file. */
const BUSY_TIMEOUT_MS = 500;

/**
 * Does something with a database file that nobody else has open: a server that runs would go on with what it has in
 * memory.
 * @throws what `inUse` makes of a sentence, where somebody else has the file open; then nothing is done
 */
export function alone<T>(
  path: string,
  inUse: (sentence: string) => Error,
  change: (connection: Connection.Database) => T,
): T {
  const connection = new Connection(path, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    connection.pragma('locking_mode = EXCLUSIVE');
    try {
      connection.exec('BEGIN EXCLUSIVE; COMMIT');
    } catch (error) {
      if (!(error instanceof Connection.SqliteError && error.code.startsWith('SQLITE_BUSY'))) throw error;
      throw inUse('The database is in use: stop the server first.');
    }
    connection.pragma('synchronous = FULL');
    connection.pragma('secure_delete = ON');
    return change(connection);
  } finally {
    connection.close();
  }
}
