import { equal, hex } from '../../src/base/bytes.ts';
import { expandNumber } from '../../src/pipe/packet_number.ts';
import { type ConnectionId, decodeRecord } from '../../src/pipe/record.ts';

/** Numbers that may be missing between two records: sealed, and dropped before they got to the network. */
const MAX_GAP = 64;

interface Direction {
  highest: number;
  records: Map<number, Uint8Array>;
  /** Messages of handshakes that had been seen when its session was taken for a new one. */
  handshakes: number;
  /** Under which records were sealed, in hexadecimal. */
  readonly salts: Set<string>;
  /** Its sender goes on from an older disk: numbers may come again under a salt that was not there before. */
  wentBack: boolean;
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
    if (salt === undefined && truncated < MAX_GAP && direction.handshakes < this.counts.handshake)
      this.#begin(direction);
    if (salt !== undefined) this.#salted(direction, hex(salt));
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

  /** From now on `sender` goes on from an older disk. */
  goesBack(sender: string): void {
    for (const [name, direction] of this.#directions)
      if (name.startsWith(`${sender} `)) direction.wentBack = true;
  }

  #salted(direction: Direction, salt: string): void {
    if (direction.wentBack && !direction.salts.has(salt)) this.#begin(direction);
    direction.salts.add(salt);
  }

  /** What comes has other keys, though the connection id is the same. */
  #begin(direction: Direction): void {
    direction.highest = -1;
    direction.records = new Map();
    direction.handshakes = this.counts.handshake;
    direction.wentBack = false;
  }

  #direction(sender: string, destination: ConnectionId): Direction {
    const name = `${sender} ${destination}`;
    const direction = this.#directions.get(name) ?? {
      ...{ highest: -1, records: new Map(), handshakes: this.counts.handshake },
      ...{ salts: new Set<string>(), wentBack: false },
    };
    this.#directions.set(name, direction);
    return direction;
  }
}
