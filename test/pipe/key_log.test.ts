import { expect, it } from 'vitest';
import { concat, utf8 } from '../../src/base/bytes.ts';
import { openRecord } from '../../src/cli/decode/sealed_parts.ts';
import { ReadKeyLog } from '../../src/cli/key_log.ts';
import { EPOCH_RECORDS, FIRST_SALT, phaseOf, ReceiveKeys, SendKeys } from '../../src/pipe/key_schedule.ts';
import { truncateNumber } from '../../src/pipe/packet_number.ts';
import { type ConnectionId, decodeRecord, transportHeader } from '../../src/pipe/record.ts';

const CONNECTION = 7 as ConnectionId;
const CHAIN = { epoch: 0, secret: new Uint8Array(32).fill(1) };
const NEW_SALT = new Uint8Array(8).fill(5);

const log = (): { readonly read: ReadKeyLog; readonly onKey: (epoch: number, key: Uint8Array) => void } => {
  const read = new ReadKeyLog();
  const onKey = (epoch: number, key: Uint8Array): void =>
    read.record(CONNECTION, { epoch, key, sender: 'a.example', receiver: 'b.example' });
  return { read, onKey };
};

const headerOf = (number: number) =>
  transportHeader('data', CONNECTION, {
    phase: phaseOf(number),
    isResend: false,
    salt: undefined,
    truncated: truncateNumber(number, 2),
    numberLength: 2,
  });

/** The plaintext of a record, opened with nothing but a key log. */
function opened(datagram: Uint8Array, keys: ReadKeyLog): string | undefined {
  const record = decodeRecord(datagram);
  if (!record.ok || !('sealed' in record.value)) throw new Error('a record of data was made');
  const found = openRecord(record.value, keys);
  return found && `${found.number} ${new TextDecoder().decode(found.plaintext)}`;
}

it.each(["the sender's", "the receiver's"])(
  'each record of several epochs and salts is opened by what is told of %s keys',
  (whose) => {
    const [sent, received] = [log(), log()];
    const sending = new SendKeys(CHAIN, FIRST_SALT, FIRST_SALT, sent.onKey);
    const receiving = new ReceiveKeys(CHAIN, [FIRST_SALT], FIRST_SALT, received.onKey);
    const restarted = new SendKeys(CHAIN, NEW_SALT, FIRST_SALT, sent.onKey);
    const { read } = whose.startsWith('the s') ? sent : received;
    const numbers = [0, 1, EPOCH_RECORDS - 1, EPOCH_RECORDS, 3 * EPOCH_RECORDS + 7, 5 * EPOCH_RECORDS];
    for (const number of numbers) {
      const isNew = number >= 5 * EPOCH_RECORDS;
      const header = headerOf(number);
      const body = (isNew ? restarted : sending).seal(number, header, utf8(`number ${number}`));
      const salt = isNew ? NEW_SALT : FIRST_SALT;
      receiving.open(number, phaseOf(number), salt, header, body)?.advance();
      expect(opened(concat(header, body), read)).toBe(`${number} number ${number}`);
    }
  },
);

it('tells nothing of a key that only a forgery has asked for', () => {
  const { read, onKey } = log();
  const receiving = new ReceiveKeys(CHAIN, [FIRST_SALT], FIRST_SALT, onKey);
  const number = 2 * EPOCH_RECORDS;
  expect(receiving.open(number, phaseOf(number), FIRST_SALT, headerOf(number), new Uint8Array(40))).toBe(
    undefined,
  );
  expect(read.keysOf(CONNECTION).map(({ epoch }) => epoch)).toEqual([0]);
});
