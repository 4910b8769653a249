/** What one check has come to. */
export interface Finding {
  /** What was looked at, in a word or two. */
  readonly check: string;
  readonly state: 'ok' | 'warning' | 'error';
  /** What was found. */
  readonly says: string;
  /** What to do about it. */
  readonly todo?: string;
}

export const fine = (check: string, says: string): Finding => ({ check, state: 'ok', says });

export const warning = (check: string, says: string, todo: string): Finding => ({
  ...{ check, state: 'warning', says, todo },
});

export const error = (check: string, says: string, todo: string): Finding => ({
  ...{ check, state: 'error', says, todo },
});

/** The sentence of whatever was thrown. */
export const messageOf = (thrown: unknown): string =>
  thrown instanceof Error ? thrown.message : String(thrown);
