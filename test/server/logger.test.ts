import { describe, expect, it } from 'vitest';
import { completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { serverLog } from '../../src/server/logger.ts';

/** Writes a few lines of different kinds; returns them as text. */
function linesOf(config: PartialConfig): string[] {
  const lines: string[] = [];
  const log = serverLog(completeConfig(config, '/'), { write: (line: string) => lines.push(line.trim()) });
  log.info('a line');
  log.child({ reqId: 1 }).warn({ route: '/sync' }, 'a line of a request');
  log.error({ mode: 'authenticated-only', peer: 'a.example' }, 'a line of the pipe');
  return lines;
}

describe("a server's log", () => {
  it('says in every line, once, that everybody can read what its pipes say, where that is so', () => {
    const pipe = { mode: 'authenticated-only', station: 'N0CALL' } as const;
    const lines = linesOf({ coap: { pipe } });
    expect(lines).toHaveLength(3);
    for (const line of lines) expect(line.split('"mode":"authenticated-only"')).toHaveLength(2);
    expect(linesOf({}).slice(0, 2).join('')).not.toContain('mode');
  });
});
