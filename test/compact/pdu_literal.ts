import { createHash } from 'node:crypto';
import { decodeJson } from '../../src/compact/cbor.ts';
import { authPlaces } from '../../src/compact/pdu/rules.ts';
import type { PduView } from '../../src/compact/pdu/view.ts';
import { canonicalText, compareCodePoints } from '../../src/matrix/canonical_json.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { redact } from '../../src/matrix/redaction.ts';

/**
 * Reads an event as docs/protocol.md describes it, from literal names and contents: one field after the other, as
 * slowly and obviously as possible. Throws at whatever is not as it should be; 'whole' where the event has to be asked for.
 */
export function restoreLiterally(bytes: Uint8Array, view: PduView): JsonObject | 'whole' {
  if (bytes[0] === 0xff) return (decodeJson(bytes.subarray(1)) as { value: JsonObject }).value;
  if (bytes[0] === 0xfe) return JSON.parse(Buffer.from(bytes.subarray(1)).toString()) as JsonObject;
  const old = Number(view.version.id) <= 2;
  let at = 0;
  const take = (count: number): Buffer => {
    if (at + count > bytes.length) throw new Error('truncated');
    at += count;
    return Buffer.from(bytes.subarray(at - count, at));
  };
  const number = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = take(1)[0]!;
      value += BigInt(byte % 128) << shift;
      if (byte < 128) return value;
    }
  };
  const name = (isEvent = false): string => {
    const count = Number(number());
    if (count > 0) return take(count - 1).toString();
    if (!isEvent) throw new Error('no name');
    return `$${take(32).toString('base64url')}`;
  };
  const pair = (id: string): JsonValue => {
    const hash = view.event(id)?.referenceHash;
    if (hash === undefined) throw new Error('unknown event');
    return [id, { sha256: Buffer.from(hash).toString('base64').replace(/=/g, '') }];
  };
  const element = (id: string): JsonValue => (old ? pair(id) : id);
  const idOfElement = (one: JsonValue): string =>
    old ? ((one as JsonValue[])[0] as string) : (one as string);
  const other = (): JsonValue => {
    if (!old) return name(true);
    if (take(1)[0] === 0) return pair(name(true));
    return (decodeJson(take(Number(number()))) as { value: JsonValue }).value;
  };

  const header = take(1)[0]!;
  const has = (bit: number): boolean => ((header >> bit) & 1) === 1;
  const extension = has(6) ? take(1)[0]! : 0;
  const extended = (bit: number): boolean => ((extension >> bit) & 1) === 1;
  const check = take(2);
  const time = extended(3) ? number() : BigInt((header % 16) * 65_536) + BigInt(take(2).readUInt16BE());
  const sender = has(4) ? view.usualSender! : name();
  const type = has(5) ? 'm.room.message' : name();
  const keyForm = (extension >> 4) % 4;
  const stateKey = [undefined, '', sender, keyForm === 3 ? name() : ''][keyForm];

  const list = (): ((candidates: JsonValue[]) => JsonValue[]) => {
    const head = number();
    const others: JsonValue[] = [];
    if (head % 2n === 1n) for (let left = number(); left > 0n; left--) others.push(other());
    const taken = [...(head >> 2n).toString(2)]
      .reverse()
      .flatMap((bit, index) => (bit === '1' ? [index] : []));
    const order = (head >> 1n) % 2n === 1n ? [...take(taken.length + others.length)] : undefined;
    return (candidates) => {
      if (taken.some((index) => index >= candidates.length)) throw new Error('no such candidate');
      const items = [...taken.map((index) => candidates[index]!), ...others];
      return order === undefined ? items : order.map((place) => items[place]!);
    };
  };
  const prevList = extended(0) ? list() : (all: JsonValue[]) => all;
  const authList = extended(1) ? list() : (all: JsonValue[]) => all;
  const toldDepth = extended(2) ? Number(number()) : undefined;

  const server = sender.slice(sender.indexOf(':') + 1);
  const signatures: Record<string, Record<string, string>> = {};
  const sign = (by: string, key: string): void => {
    signatures[by] = { ...signatures[by], [key]: take(64).toString('base64').replace(/=/g, '') };
  };
  if (has(7)) sign(server, view.usualKey(server)!);
  if (extended(6)) {
    for (let left = number(); left > 0n; left--) {
      const head = take(1)[0]!;
      const by = head % 2 === 1 ? server : name();
      sign(by, head >= 2 ? view.usualKey(by)! : name());
    }
  }
  const tail = bytes.subarray(at);
  let content: JsonValue = { msgtype: 'm.text', body: Buffer.from(tail).toString() };
  let extra: JsonObject = {};
  if (!has(5)) content = (decodeJson(tail) as { value: JsonValue }).value;
  if (extended(7)) [content, extra] = content as [JsonObject, JsonObject];

  const extremities = [...view.extremities()].sort(
    (a, b) => b.depth - a.depth || compareCodePoints(a.id, b.id),
  );
  const prev = prevList(extremities.slice(0, 24).map(({ id }) => element(id)));
  const prevIds = prev.map(idOfElement);
  const subject = { type, sender, stateKey, content: content as JsonObject };
  const selected = view.state(authPlaces(subject, view.version)).map(element);
  const auth = authList(type === 'm.room.create' ? [] : selected);
  const depth = toldDepth ?? Math.max(0, ...prevIds.map((id) => view.event(id)!.depth)) + 1;
  const first = prevIds[0] === undefined ? undefined : view.event(prevIds[0]);
  let ts: number;
  if (!extended(3)) ts = first!.originServerTs - 65_536 + Number(time);
  else {
    const folded = time >> 1n;
    const difference = folded % 2n === 0n ? folded / 2n : -(folded + 1n) / 2n;
    ts = Number(BigInt(time % 2n === 1n ? view.referenceTs : first!.originServerTs) + difference);
  }

  const event: JsonObject = { type, sender, content, depth, origin_server_ts: ts };
  Object.assign(event, { prev_events: prev, auth_events: auth });
  if (stateKey !== undefined) event.state_key = stateKey;
  if (type !== 'm.room.create' || view.version.id !== '12') event.room_id = view.room;
  for (const [key, value] of Object.entries(extra)) event[key] = value;
  const hashed = ({ signatures: _s, unsigned: _u, ...rest }: JsonObject): Buffer =>
    createHash('sha256').update(canonicalText(rest)).digest();
  const { hashes, ...unhashed } = event;
  const contentHash = hashed(unhashed);
  const computed = contentHash.toString('base64').replace(/=/g, '');
  if (hashes === undefined) event.hashes = { sha256: computed };
  event.signatures ??= signatures;
  const expected = hashed(redact(event as unknown as Pdu, view.version) as unknown as JsonObject).subarray(
    0,
    2,
  );
  if ((event.hashes as JsonObject).sha256 !== computed) {
    for (const index of [0, 1]) expected[index]! ^= contentHash[index]!;
  }
  return expected.equals(check) ? event : 'whole';
}
