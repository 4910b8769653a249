import { equal, hex } from '../../src/base/bytes.ts';
import { expandNumber, type NumberLength } from '../../src/pipe/packet_number.ts';
import { type ConnectionId, decodeRecord } from '../../src/pipe/record.ts';

/** Numbers that may be missing between two records: sealed, and dropped before they got to the network. */
const MAX_GAP = 64;

/** A record's number as it is written, and its bytes. */
interface Numbered {
  readonly truncated: number;
  readonly numberLength: NumberLength;
  readonly salt: Uint8Array | undefined;
  readonly bytes: Uint8Array;
}

interface Direction {
  highest: number;
  records: Map<number, Uint8Array>;
  /** Messages behind which a session may begin that had been seen when its session was taken for a new one. */
  sessions: number;
  /** Under which records were sealed, in hexadecimal. */
  readonly salts: Set<string>;
  /** Its sender goes on from an older disk: numbers may come again under a salt that was not there before. */
  wentBack: boolean;
  /** As it was before low numbers were taken for a new session, and what has come since: it may be the old one that goes on. */
  before: (Pick<Direction, 'highest' | 'records'> & { readonly since: Numbered[] }) | undefined;
}

/**
 * Looks at the datagrams between two servers, in the order in which they were sent, and keeps a list of all packet
 * numbers: a number that comes twice with different bytes is a nonce under which two texts were sealed. Numbers have to
 * differ even where the salts do.
 */
export class RecordLedger {
  readonly #directions = new Map<string, Direction>();
  /**
   * Of `handshake`, `openings` are first messages, and behind those in `sessions` a session may begin. An XX2 that answers what
   * somebody sends again is neither.
   */
  readonly counts = { records: 0, salted: 0, handshake: 0, openings: 0, sessions: 0, hints: 0 };
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
    if (record.kind === 'XX1' || record.kind === 'IK1') this.counts.openings++;
    if (record.kind === 'XX3' || record.kind === 'IK1' || record.kind === 'IK2') this.counts.sessions++;
    if (record.kind !== 'data' && record.kind !== 'control') return;
    this.counts.records++;
    const { salt, truncated, numberLength } = record.clear;
    if (salt !== undefined) this.counts.salted++;
    const direction = this.#direction(sender, record.destination);
    if (salt === undefined && truncated < MAX_GAP && direction.sessions < this.counts.sessions) {
      const { highest, records: known } = direction;
      this.#begin(direction);
      direction.before = { highest, records: known, since: [] };
    }
    if (salt !== undefined) this.#salted(direction, hex(salt));
    const numbered = { truncated, numberLength, salt, bytes: bytes.slice() };
    const name = `to connection ${record.destination}`;
    const { before } = direction;
    if (before !== undefined && this.#isTooFar(direction, numbered)) {
      direction.highest = before.highest;
      direction.records = before.records;
      direction.before = undefined;
      for (const earlier of before.since) this.#enter(sender, name, direction, earlier);
    }
    this.#enter(sender, name, direction, numbered);
    direction.before?.since.push(numbered);
  }

  #isTooFar({ highest }: Direction, { truncated, numberLength, salt }: Numbered): boolean {
    return salt === undefined && expandNumber(truncated, numberLength, highest) > highest + MAX_GAP;
  }

  #enter(sender: string, to: string, direction: Direction, numbered: Numbered): void {
    const { truncated, numberLength, bytes } = numbered;
    const number = expandNumber(truncated, numberLength, direction.highest);
    const known = direction.records.get(number);
    const name = `${sender} sends number ${number} ${to}`;
    if (known !== undefined && !equal(known, bytes)) this.problems.push(`${name} twice`);
    // What was cut to a byte would be completed to a number that is far too high, were it far too low.
    if (this.#isTooFar(direction, numbered)) this.problems.push(`${name} after ${direction.highest}`);
    direction.records.set(number, bytes);
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
    direction.sessions = this.counts.sessions;
    direction.wentBack = false;
    direction.before = undefined;
  }

  #direction(sender: string, destination: ConnectionId): Direction {
    const name = `${sender} ${destination}`;
    const direction = this.#directions.get(name) ?? {
      ...{ highest: -1, records: new Map(), sessions: this.counts.sessions },
      ...{ salts: new Set<string>(), wentBack: false, before: undefined },
    };
    this.#directions.set(name, direction);
    return direction;
  }
}
