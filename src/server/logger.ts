import { type DestinationStream, type Logger, pino } from 'pino';
import type { Config } from './config.ts';

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

/**
 * The log of a server. Where everybody can read what its pipes say, each line says so, whatever it is about: whoever
 * looks into it should not have to know the configuration.
 */
export function serverLog({ log, coap }: Config, destination?: DestinationStream): Logger {
  const { mode } = coap.pipe;
  return createLogger(log.level, destination, mode === 'encrypted' ? {} : { mode });
}

/**
 * The process's structured log: one JSON object a line, secrets cut out.
 * @param marks what each line has, unless it says something else under the same key
 */
export function createLogger(
  level: string,
  destination?: DestinationStream,
  marks: Readonly<Record<string, string>> = {},
): Logger {
  const options = {
    level,
    base: null,
    mixin: () => ({ ...marks }),
    redact: {
      paths: [...SECRETS, ...SECRETS.filter((key) => !key.includes('.')).map((key) => `*.${key}`)],
      remove: true,
    },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}
