import type { Millis } from '../../src/base/time.ts';
import type { Log } from '../../src/federation/log.ts';
import {
  type FederationCall,
  FederationError,
  type FederationTransport,
} from '../../src/federation/transport.ts';
import type { EventId, KeyId, ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { depthOf, type Event } from '../../src/matrix/pdu.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { type SigningKey, signEvent, signingKey } from '../../src/matrix/signing.ts';

export const A = 'a.example' as ServerName;
export const B = 'b.example' as ServerName;
export const C = 'c.example' as ServerName;
export const V12 = roomVersion('12')!;
export const HOUR: Millis = 60 * 60 * 1000;
export const DAY: Millis = 24 * HOUR;

/** A key that is the same in each run. */
export const testKey = (seed: number, id = 'ed25519:1'): SigningKey =>
  signingKey(id as KeyId, new Uint8Array(32).fill(seed));

export interface LogLine {
  readonly level: 'debug' | 'info' | 'warn';
  readonly fields: object;
  readonly message: string;
}

/** A log that keeps its lines. */
export function recordingLog(): Log & { readonly lines: LogLine[] } {
  const lines: LogLine[] = [];
  const at = (level: LogLine['level']) => (fields: object, message: string) =>
    void lines.push({ level, fields, message });
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn') };
}

/** A transport that answers from a function and keeps the calls. */
export class ScriptedTransport implements FederationTransport {
  readonly calls: { readonly destination: ServerName; readonly call: FederationCall }[] = [];
  answer: (destination: ServerName, call: FederationCall) => JsonValue | Promise<JsonValue>;

  constructor(answer: ScriptedTransport['answer'] = unreachable) {
    this.answer = answer;
  }

  async request(destination: ServerName, call: FederationCall): Promise<{ status: number; body: JsonValue }> {
    this.calls.push({ destination, call });
    return { status: 200, body: await this.answer(destination, call) };
  }
}

export function unreachable(destination: ServerName): never {
  throw new FederationError('unreachable', `${destination} is not there`);
}

/** Builds signed events of one room, as the server of their sender would. */
export class EventFactory {
  readonly create: Event;
  readonly #keys: ReadonlyMap<ServerName, SigningKey>;
  #ts = 1_000;

  constructor(keys: ReadonlyMap<ServerName, SigningKey>, creator: UserId, startAt: Millis = 1_000) {
    this.#keys = keys;
    this.#ts = startAt;
    this.create = this.event(creator, 'm.room.create', {
      content: { room_version: '12' },
      stateKey: '',
      isCreate: true,
    });
  }

  event(
    sender: UserId,
    type: string,
    options: {
      readonly content?: JsonObject;
      readonly stateKey?: string;
      readonly prev?: readonly Event[];
      readonly unknownPrev?: readonly EventId[];
      readonly auth?: readonly Event[];
      readonly isCreate?: boolean;
      readonly at?: Millis;
    } = {},
  ): Event {
    const server = sender.slice(sender.indexOf(':') + 1) as ServerName;
    const prev = options.prev ?? [];
    return signEvent(
      {
        type,
        sender,
        ...(options.isCreate !== true && { room_id: this.create.room }),
        ...(options.stateKey !== undefined && { state_key: options.stateKey }),
        content: options.content ?? { body: 'hello' },
        origin_server_ts: options.at ?? this.#ts++,
        depth: 1 + Math.max(0, ...prev.map(({ pdu }) => depthOf(pdu))),
        prev_events: [...prev.map(({ id }) => id), ...(options.unknownPrev ?? [])],
        auth_events: (options.auth ?? []).map(({ id }) => id) as EventId[],
      },
      V12,
      server,
      this.#keys.get(server)!,
    );
  }
}
