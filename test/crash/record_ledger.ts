import { equal } from '../../src/base/bytes.ts';
import { expandNumber } from '../../src/pipe/packet_number.ts';
import { type ConnectionId, decodeRecord } from '../../src/pipe/record.ts';

/** Numbers that may be missing between two records: sealed, and dropped before they got to the network. */
const MAX_GAP = 64;

interface Direction {
  highest: number;
  readonly records: Map<number, Uint8Array>;
}

/**
 * Looks at the datagrams between two servers, in the order in which they were sent, and keeps a list of all packet
 * numbers: a number that comes twice with different bytes is a nonce under which two texts were sealed. Numbers have to
 * differ even where the salts do.
 */
export class RecordLedger {
  readonly #directions = new Map<string, Direction>();
  readonly counts = { records: 0, salted: 0, handshake: 0, hints: 0 };
  /** What was against the rules. */
  readonly problems: string[] = [];

  /** @param sender names who has sent it */
  see(sender: string, bytes: Uint8Array): void {
    const decoded = decodeRecord(bytes);
    if (!decoded.ok) {
      this.problems.push(`${sender} sends what is no record: ${decoded.problem}`);
      return;
    }
    const record = decoded.value;
    if (record.kind === 'hint') this.counts.hints++;
    else if (record.kind !== 'data' && record.kind !== 'control') this.counts.handshake++;
    if (record.kind !== 'data' && record.kind !== 'control') return;
    this.counts.records++;
    const { salt, truncated, numberLength } = record.clear;
    if (salt !== undefined) this.counts.salted++;
    const direction = this.#direction(sender, record.destination);
    const number = expandNumber(truncated, numberLength, direction.highest);
    const known = direction.records.get(number);
    const name = `${sender} sends number ${number} to connection ${record.destination}`;
    if (known !== undefined && !equal(known, bytes)) this.problems.push(`${name} twice`);
    // What was cut to a byte would be completed to a number that is far too high, were it far too low.
    if (salt === undefined && number > direction.highest + MAX_GAP)
      this.problems.push(`${name} after ${direction.highest}`);
    direction.records.set(number, bytes.slice());
    direction.highest = Math.max(direction.highest, number);
  }

  #direction(sender: string, destination: ConnectionId): Direction {
    const name = `${sender} ${destination}`;
    const direction = this.#directions.get(name) ?? { highest: -1, records: new Map() };
    this.#directions.set(name, direction);
    return direction;
  }
}
