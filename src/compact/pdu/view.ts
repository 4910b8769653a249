import type { Result } from '../../base/result.ts';
import type { Millis } from '../../base/time.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import type { StateKey } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { HandleProblem } from '../context.ts';

/** An event that both sides have. */
export interface KnownEvent {
  readonly id: string;
  readonly depth: number;
  /** `origin_server_ts`, Unix time. */
  readonly originServerTs: Millis;
  /** 32 bytes. Needed in room versions 1 and 2 only, where a reference to an event has its hash beside its id. */
  readonly referenceHash?: Uint8Array;
}

/**
 * What both sides know of one room: for the writer what it believes that the reader has, for the reader what it has.
 * Where the two differ, the check of the event's id fails and the event is asked for whole: a wrong belief costs a
 * round trip, never an event.
 */
export interface PduView {
  readonly version: RoomVersion;
  /** The room's id, which stands in front of the event. */
  readonly room: string;
  /** The forward extremities that both sides have, in any order. */
  extremities(): readonly KnownEvent[];
  /** An event of the room that both sides have: the extremities at least, and in versions 1 and 2 the state. */
  event(id: string): KnownEvent | undefined;
  /**
   * The ids of the events that hold `places` in the state that both sides have, that after the extremities, in the order
   * of `places`, without the places that are empty.
   */
  state(places: readonly StateKey[]): readonly string[];
  /** The id of the key with which a server signs: that of the last of its events that both sides have. */
  usualKey(server: string): string | undefined;
  /** Whether the event is signed with its sender's server's usual key; left out where keys are not known. */
  isSigned?(pdu: JsonObject): boolean;
  /** The same of a short signature: the whole one, if the event is signed with one that begins so (`matrix/short_signature.ts`). */
  completeSignature?(pdu: JsonObject, short: Uint8Array): Uint8Array | undefined;
  /** Who is most likely to have sent the next event in this direction: the sender of the last one. */
  readonly usualSender: string | undefined;
  /** A time that both sides have, from which `origin_server_ts` counts where no previous event is known. 0 will do. */
  readonly referenceTs: Millis;
}

/** Ours: views by which an event is tried to be read, where a reader cannot know which of its own events the writer had. */
export const MAX_VIEWS = 8;

/** What a name stands for. Equal names of different kinds are different names. */
export type NameKind = 'user' | 'server' | 'type' | 'state_key' | 'event' | 'key';

/**
 * Writes names as handles, enumerations or text. What is written delimits itself. What is written is sent,
 * in the same order.
 */
export interface NameWriter {
  write(kind: NameKind, name: string): Uint8Array;
}

/** Why a name or a content could not be read: its bytes are wrong, or a handle in it cannot be understood here. */
export type NameProblem = { readonly kind: 'malformed' } | HandleProblem;

/** Reads what the peer's NameWriter wrote. */
export interface NameReader {
  /** The name that starts at `at`, and where it ends. */
  read(
    kind: NameKind,
    bytes: Uint8Array,
    at: number,
  ): Result<{ readonly name: string; readonly end: number }, NameProblem>;
}

/** How contents become bytes: CBOR, dictionaries, compression. What is written need not delimit itself. */
export interface ContentWriter {
  writeText(text: string): Uint8Array;
  writeJson(value: JsonValue): Uint8Array;
}

/** Reads what the peer's ContentWriter wrote; it bounds what comes out. */
export interface ContentReader {
  readText(bytes: Uint8Array): Result<string, NameProblem>;
  readJson(bytes: Uint8Array): Result<JsonValue, NameProblem>;
}

/** Everything that the writer of an event goes by. */
export interface PduWriting {
  readonly view: PduView;
  readonly names: NameWriter;
  readonly contents: ContentWriter;
}

/** Everything that the reader of an event goes by. */
export interface PduReading {
  readonly view: PduView;
  readonly names: NameReader;
  readonly contents: ContentReader;
}

/** What a reader answers. */
export type PduProblem =
  /** No writer writes these bytes. */
  | { readonly kind: 'malformed'; readonly reason: string }
  /** The two views differ: the event has to be asked for whole. */
  | { readonly kind: 'send whole'; readonly reason: WholeReason };

/**
 * What the reader lacks or has differently: a previous event, an event of the state, the key of a server, the
 * usual sender, a name; or all is there and makes another event than was sent.
 */
export type WholeReason = 'event' | 'state' | 'key' | 'sender' | 'name' | 'check';

/** What a reader answers where a name or a content could not be read. */
export function problemOfName(problem: NameProblem): PduProblem {
  if (problem.kind === 'unknown handle') return { kind: 'send whole', reason: 'name' };
  return { kind: 'malformed', reason: 'a name or a content cannot be read' };
}
