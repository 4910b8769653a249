import { expect } from 'vitest';

/** A log for services that have nothing to warn of: a warning fails the test. */
export const noWarnings = {
  warn(fields: object, message: string): void {
    expect.fail(`${message}: ${JSON.stringify(fields)}`);
  },
};
