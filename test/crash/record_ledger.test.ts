import { describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { truncateNumber } from '../../src/pipe/packet_number.ts';
import { type ConnectionId, transportHeader } from '../../src/pipe/record.ts';
import { RecordLedger } from './record_ledger.ts';

const record = (number: number, text: number, salt?: number, length: 1 | 2 = 1): Uint8Array => {
  const numberLength = salt === undefined ? length : 4;
  const header = transportHeader('data', 5 as ConnectionId, {
    phase: 0,
    isResend: false,
    salt: salt === undefined ? undefined : new Uint8Array(8).fill(salt),
    truncated: truncateNumber(number, numberLength),
    numberLength,
  });
  return concat(header, new Uint8Array(20).fill(text));
};

describe('the ledger of records', () => {
  it('has no objection to numbers that grow, to a jump behind a salt and to copies of a record', () => {
    const ledger = new RecordLedger();
    for (let number = 0; number < 600; number++) ledger.see('alpha', record(number, number));
    ledger.see('alpha', record(768, 1, 7));
    ledger.see('alpha', record(768, 1, 7));
    ledger.see('alpha', record(769, 2));
    ledger.see('bravo', record(0, 3));
    expect(ledger.problems).toEqual([]);
    expect(ledger.counts).toEqual({
      records: 604,
      salted: 2,
      handshake: 0,
      openings: 0,
      sessions: 0,
      hints: 0,
    });
  });

  it('finds a number that comes twice, under another salt too', () => {
    const ledger = new RecordLedger();
    for (let number = 0; number < 300; number++) ledger.see('alpha', record(number, 1));
    ledger.see('alpha', record(299, 2));
    ledger.see('alpha', record(10, 2, 7));
    expect(ledger.problems).toEqual([
      'alpha sends number 299 to connection 5 twice',
      'alpha sends number 10 to connection 5 twice',
    ]);
  });

  it('finds a sender that has started again at a lower number without a salt', () => {
    const ledger = new RecordLedger();
    for (let number = 0; number < 300; number++) ledger.see('alpha', record(number, 1));
    ledger.see('alpha', record(0, 2));
    expect(ledger.problems).toEqual(['alpha sends number 256 to connection 5 twice']);
    ledger.see('alpha', record(140, 2));
    expect(ledger.problems).toHaveLength(2);
  });

  it('lets a sender with an older disk repeat numbers under a new salt, and under no other', () => {
    const ledger = new RecordLedger();
    for (let number = 0; number < 300; number++) ledger.see('alpha', record(number, 1));
    ledger.see('alpha', record(300, 1, 7));
    ledger.goesBack('alpha');
    ledger.see('alpha', record(300, 2, 7));
    expect(ledger.problems).toEqual(['alpha sends number 300 to connection 5 twice']);
    ledger.see('alpha', record(290, 3, 8));
    ledger.see('alpha', record(291, 3, 8));
    expect(ledger.problems).toHaveLength(1);
    ledger.see('alpha', record(290, 4, 9));
    expect(ledger.problems).toHaveLength(2);
  });

  it('takes low numbers after a handshake for a new session, and finds what comes twice in it', () => {
    const ledger = new RecordLedger();
    for (let number = 0; number < 40; number++) ledger.see('alpha', record(number, 1));
    // XX3 to connection 5.
    ledger.see('alpha', concat(Uint8Array.of(0xb0, 5), new Uint8Array(100)));
    expect(ledger.counts.handshake).toBe(1);
    ledger.see('alpha', record(0, 2));
    ledger.see('alpha', record(1, 2));
    expect(ledger.problems).toEqual([]);
    ledger.see('alpha', record(1, 3));
    expect(ledger.problems).toHaveLength(1);
  });

  it('sees afterwards that low numbers behind a handshake were the ends of high ones', () => {
    const ledger = new RecordLedger();
    for (let number = 0; number < 1_074; number++) ledger.see('alpha', record(number, 1));
    ledger.see('alpha', concat(Uint8Array.of(0xb0, 5), new Uint8Array(100)));
    // The last byte of 1,074 is 50.
    ledger.see('alpha', record(1_074, 1));
    ledger.see('alpha', record(1_075, 1, undefined, 2));
    expect(ledger.problems).toEqual([]);
    ledger.see('alpha', record(1_074, 2));
    expect(ledger.problems).toEqual(['alpha sends number 1074 to connection 5 twice']);
  });
});
