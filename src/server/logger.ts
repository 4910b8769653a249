import { type DestinationStream, type Logger, pino } from 'pino';

/** Keys whose values never reach a log, wherever they stand. */
const SECRETS = [
  'authorization',
  'password',
  'access_token',
  'token',
  'secret',
  'refresh_token',
  'req.headers.authorization',
];

/** The process's structured log: one JSON object a line, secrets cut out. */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    redact: {
      paths: [...SECRETS, ...SECRETS.filter((key) => !key.includes('.')).map((key) => `*.${key}`)],
      remove: true,
    },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
