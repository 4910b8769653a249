import { expect } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import type { Answer, User } from '../coverage/doors.ts';

export const esc = encodeURIComponent;

/** What an answer comes to: its status and errcode. */
export const failure = ({ status, body }: Answer): unknown[] => [status, body.errcode];

/** Makes a room. @returns its id */
export async function newRoom(user: User, request: JsonObject = {}): Promise<string> {
  const { status, body } = await user.ask('POST', '/createRoom', request);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.room_id as string;
}

/** Sends a text. @returns the event's id */
export async function say(user: User, room: string, text: string): Promise<string> {
  const content = { msgtype: 'm.text', body: text };
  const { status, body } = await user.ask(
    'PUT',
    `/rooms/${esc(room)}/send/m.room.message/${esc(text)}`,
    content,
  );
  expect(status, JSON.stringify(body)).toBe(200);
  return body.event_id as string;
}

/** The content of a state event; undefined where there is none. */
export async function stateOf(
  user: User,
  room: string,
  type: string,
  key = '',
): Promise<JsonObject | undefined> {
  const { status, body } = await user.ask('GET', `/rooms/${esc(room)}/state/${type}/${esc(key)}`);
  return status === 200 ? body : undefined;
}

/** The types of a room's events, oldest first. */
export async function typesIn(user: User, room: string): Promise<string[]> {
  const { body } = await user.ask('GET', `/rooms/${esc(room)}/messages?dir=f&limit=100`);
  return (body.chunk as JsonObject[]).map(({ type }) => type as string);
}

/** The texts of a room's messages, in the order of an answer's list. */
export const textsIn = (events: unknown): unknown[] =>
  (events as { content: JsonObject }[]).flatMap(({ content }) => content.body ?? []);
