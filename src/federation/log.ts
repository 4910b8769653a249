/** The part of a logger that federation uses; pino's fits. Fields never hold secrets, tokens or contents of events. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}
