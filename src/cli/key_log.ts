import { closeSync, openSync, writeSync } from 'node:fs';
import { fromHex, hex } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { KEY_BYTES, TAG_BYTES } from '../crypto/aead.ts';
import type { KeyLog, LoggedPeer } from '../pipe/key_log.ts';
import { type ConnectionId, decodeConnectionId, encodeConnectionId } from '../pipe/record.ts';

/*
 * The file, a line for each thing that is told:
 *
 *     record <connection id> <epoch, decimal> <key> <sender> <receiver>
 *     handshake <tag of the message> <payload>
 *
 * all in hexadecimal where nothing else is said. Sender and receiver are server names, or `device:` and a key. Lines with another first word, and empty ones, are for later versions.
 */
const RECORD = 'record';
const HANDSHAKE = 'handshake';
const COMMENT = '#';

/** It holds secrets. */
const OWNER_ONLY = 0o600;

/** Keys of later epochs than this one there are none: packet numbers have 48 bits. */
const LAST_EPOCH = 2 ** 38 - 1;
/** More keys than that of one connection id are not tried. */
const MAX_KEYS_OF_A_CONNECTION = 1_024;

/** A new file with what opens the records of a capture. Where it cannot be written the server goes on. */
export class KeyLogFile implements KeyLog {
  readonly #file: number;
  readonly #own: string;
  readonly #onEnd: (reason: string) => void;
  #ended = false;

  /**
   * @param own the name of the server whose keys they are
   * @param onEnd called once where nothing more is written
   * @throws the system's error where there is such a file already, or it cannot be made
   */
  constructor(path: string, own: string, onEnd: (reason: string) => void) {
    this.#file = openSync(path, 'wx', OWNER_ONLY);
    this.#own = own;
    this.#onEnd = onEnd;
  }

  record(connection: ConnectionId, epoch: number, key: Uint8Array, { name, sends }: LoggedPeer): void {
    const ends = sends ? `${name} ${this.#own}` : `${this.#own} ${name}`;
    this.#write(`${RECORD} ${hex(encodeConnectionId(connection))} ${epoch} ${hex(key)} ${ends}\n`);
  }

  handshake(message: Uint8Array, payload: Uint8Array): void {
    if (message.length < TAG_BYTES) return;
    this.#write(`${HANDSHAKE} ${hex(message.subarray(-TAG_BYTES))} ${hex(payload)}\n`);
  }

  close(): void {
    this.#ended = true;
    closeSync(this.#file);
  }

  #write(line: string): void {
    if (this.#ended) return;
    try {
      writeSync(this.#file, line);
    } catch (error) {
      this.#ended = true;
      this.#onEnd(error instanceof Error ? error.message : String(error));
    }
  }
}

/** A key of the records that go to a connection, of one epoch. */
export interface RecordKey {
  readonly epoch: number;
  readonly key: Uint8Array;
  /** Server names, or names of devices. */
  readonly sender: string;
  readonly receiver: string;
}

/** What a key log tells. */
export class ReadKeyLog {
  readonly #records = new Map<ConnectionId, RecordKey[]>();
  readonly #payloads = new Map<string, Uint8Array>();

  record(connection: ConnectionId, one: RecordKey): void {
    const keys = this.#records.get(connection) ?? [];
    const isKnown = keys.some(({ epoch, key }) => epoch === one.epoch && hex(key) === hex(one.key));
    if (isKnown || keys.length >= MAX_KEYS_OF_A_CONNECTION) return;
    this.#records.set(connection, [...keys, { ...one, key: one.key.slice() }]);
  }

  handshake(message: Uint8Array, payload: Uint8Array): void {
    this.#payloads.set(hex(message.subarray(-TAG_BYTES)), payload.slice());
  }

  keysOf(connection: ConnectionId): readonly RecordKey[] {
    return this.#records.get(connection) ?? [];
  }

  payloadOf(message: Uint8Array): Uint8Array | undefined {
    return message.length < TAG_BYTES ? undefined : this.#payloads.get(hex(message.subarray(-TAG_BYTES)));
  }
}

/** The problem says which line it is, and not what is in it. */
export function readKeyLog(text: string): Result<ReadKeyLog> {
  const log = new ReadKeyLog();
  for (const [i, line] of text.split('\n').entries()) {
    const [word = '', ...fields] = line.trim().split(/\s+/);
    if (word === '' || word.startsWith(COMMENT)) continue;
    const isRead =
      word === RECORD ? readRecord(log, fields) : word !== HANDSHAKE || readHandshake(log, fields);
    if (!isRead) return bad(`line ${i + 1} is not of a key log`);
  }
  return ok(log);
}

function readRecord(log: ReadKeyLog, fields: readonly string[]): boolean {
  const [id = '', epoch = '', digits = '', sender, receiver] = fields;
  const idBytes = fromHex(id);
  const connection = idBytes && decodeConnectionId(idBytes, 0);
  const key = fromHex(digits);
  const isWhole = connection !== undefined && key?.length === KEY_BYTES && /^\d{1,12}$/.test(epoch);
  if (!isWhole || Number(epoch) > LAST_EPOCH || sender === undefined || receiver === undefined) return false;
  log.record(connection, { epoch: Number(epoch), key, sender, receiver });
  return true;
}

function readHandshake(log: ReadKeyLog, [tag = '', payload = '']: readonly string[]): boolean {
  const [tagBytes, payloadBytes] = [fromHex(tag), fromHex(payload)];
  if (tagBytes?.length !== TAG_BYTES || payloadBytes === undefined) return false;
  log.handshake(tagBytes, payloadBytes);
  return true;
}
