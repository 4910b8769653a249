import { describe, expect, it } from 'vitest';
import { rowsJson, rowsText } from '../../../src/cli/bench/report.ts';
import { isKept, percentile, type Row, spreadOf } from '../../../src/cli/bench/scenario.ts';
import { TcpTraffic } from '../../../src/cli/bench/tcp_relay.ts';
import { ravine } from '../run.ts';

const row = (more: Partial<Row>): Row => ({
  id: 'W1',
  name: 'a message',
  budget: { bytes: { request: 74, response: 70 } },
  bytes: { request: 74, response: 70 },
  ...more,
});

describe('a budget', () => {
  it('is kept where each direction is', () => {
    expect(isKept(row({}))).toBe(true);
    expect(isKept(row({ bytes: { request: 73, response: 71 } }))).toBe(false);
    expect(isKept(row({ bytes: { request: 75, response: 60 } }))).toBe(false);
  });

  it('in all is that of both directions', () => {
    const budget = { bytes: { total: 144 } };
    expect(isKept(row({ budget }))).toBe(true);
    expect(isKept(row({ budget, bytes: { request: 100, response: 45 } }))).toBe(false);
  });

  it('is not kept by what cannot be done yet', () => {
    const { bytes: _, ...unmeasured } = row({});
    expect(isKept({ ...unmeasured, notYet: 'it is missing' })).toBe(false);
    expect(isKept(row({ notYet: 'half of it is missing' }))).toBe(false);
    expect(isKept(unmeasured)).toBe(false);
  });

  it('of a ratio needs HTTPS to be measured', () => {
    const budget = { ratio: 8, ratioPerConnection: 25 };
    const https = { kept: 144 * 8, perConnection: 144 * 25 };
    expect(isKept(row({ budget, https }))).toBe(true);
    expect(isKept(row({ budget, https: { ...https, kept: https.kept - 1 } }))).toBe(false);
    expect(isKept(row({ budget, https: { ...https, perConnection: https.perConnection - 1 } }))).toBe(false);
    expect(isKept(row({ budget }))).toBe(false);
  });
});

describe('a report', () => {
  const rows = [
    row({ https: { kept: 288, perConnection: 1440 } }),
    { id: 'W2', name: 'another', budget: { bytes: { total: 5 } }, notYet: 'it is missing' },
  ];

  it('in JSON has for each row what was measured, or null', () => {
    expect(rowsJson(rows)).toMatchObject([
      {
        id: 'W1',
        name: 'a message',
        bytes: { request: 74, response: 70 },
        budget: { request: 74, response: 70 },
        ok: true,
        baseline_https_json: 288,
        ratio: 2,
      },
      { id: 'W2', bytes: null, budget: { total: 5 }, ok: false, baseline_https_json: null, ratio: null },
    ]);
  });

  it('in text says what is missing', () => {
    const text = rowsText(rows, 1000);
    expect(text).toContain('1 of 2 are in their budgets');
    expect(text).toContain('W2: not yet: it is missing');
  });
});

describe('what each layer saves', () => {
  const steps = [
    { name: 'raw', bytes: { request: 150, response: 100 } },
    { name: 'flate', bytes: { request: 120, response: 99 } },
    { name: 'forms', bytes: { request: 74, response: 70 } },
  ] as const;

  it('is told in JSON, and what Deflate alone comes to', () => {
    expect(rowsJson([row({ steps })])).toMatchObject([
      {
        flate_only: { request: 120, response: 99 },
        layers: [
          { name: 'raw', bytes: 250, saved: 0 },
          { name: 'flate', bytes: 219, saved: 31 },
          { name: 'forms', bytes: 144, saved: 75 },
        ],
      },
    ]);
  });

  it('is told in text from one to the next that was measured', () => {
    const text = rowsText([row({ steps, https: { kept: 500, perConnection: 900 } })], 1000);
    expect(text).toMatch(/W1 +500 +- +250 \(-250\) +219 \(-31\) +- +- +144 \(-75\)/);
  });
});

describe('percentiles', () => {
  it('are values that occurred', () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
    expect([percentile(hundred, 0.5), percentile(hundred, 0.95), percentile([7], 0.5)]).toEqual([50, 95, 7]);
  });

  it('are of each direction by itself', () => {
    const all = [1, 2, 3].map((n) => ({ request: n, response: 10 - n }));
    expect(spreadOf(all)).toEqual({
      texts: 3,
      median: { request: 2, response: 8 },
      p95: { request: 3, response: 9 },
    });
  });
});

/*
 *   request 100 ──>              one segment: 100 + 66
 *           <── answer 3,000     three segments, one acknowledgement on the way: 3,000 + 3 x 66 + 66
 *               ack ──>          66
 */
describe('TLS over TCP on the wire', () => {
  it('has the headers of the fewest segments, and an acknowledgement for every two and at the end', () => {
    const traffic = new TcpTraffic();
    const connection = {};
    traffic.crossed(connection, false, 60);
    traffic.crossed(connection, false, 40);
    traffic.crossed(connection, true, 1448);
    traffic.crossed(connection, true, 1552);
    expect(traffic.take()).toBe(100 + 66 + 3000 + 3 * 66 + 66 + 66);
    expect(traffic.take()).toBe(0);
  });

  it('opens with three segments, and closes with four', () => {
    const traffic = new TcpTraffic();
    traffic.opened();
    expect(traffic.take()).toBe(2 * 74 + 5 * 66);
  });

  it('keeps connections apart', () => {
    const traffic = new TcpTraffic();
    for (const connection of [{}, {}]) traffic.crossed(connection, false, 10);
    expect(traffic.take()).toBe(2 * 76);
  });
});

describe('the command', () => {
  it('measures what is asked for, and with --check exits with 1 where a budget is not kept', async () => {
    // A ratio to HTTPS that was not measured is not kept.
    const quick = ['--no-https', '--no-layers', '--json', '--check'];
    const { code, stdout, stderr } = await ravine('bench', 'wire', 'w10', ...quick);
    expect([code, stderr]).toEqual([1, '']);
    const rows = JSON.parse(stdout) as { readonly id: string; readonly ok: boolean }[];
    expect(rows.map(({ id }) => id)).toContain('W10');
    expect(rows.find(({ id }) => id === 'W10')).toMatchObject({
      bytes: expect.anything(),
      ok: false,
      ratio: null,
    });
  });

  it('refuses a scenario that it does not have', async () => {
    const { code, stderr } = await ravine('bench', 'wire', 'W11');
    expect(code).toBe(1);
    expect(stderr).toContain('It is one of W1, W2');
  });
});
