import { parseRoomId, type RoomId, type UserId } from '../../matrix/ids.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import { userOf } from './parts.ts';

// Server-server API, "Typing Notifications".

export const TYPING = 'm.typing';

export interface TypingChange {
  readonly room: RoomId;
  readonly user: UserId;
  readonly isTyping: boolean;
}

export const typingEdu = ({ room, user, isTyping }: TypingChange): JsonObject => ({
  edu_type: TYPING,
  content: { room_id: room, user_id: user, typing: isTyping },
});

/** What another server tells of a user of its; undefined where it is malformed. */
export function typingIn(origin: string, content: JsonObject): TypingChange | undefined {
  const roomId = own(content, 'room_id');
  const room = typeof roomId === 'string' ? parseRoomId(roomId) : undefined;
  const user = userOf(origin, own(content, 'user_id'));
  const isTyping = own(content, 'typing');
  if (room?.ok !== true || user === undefined || typeof isTyping !== 'boolean') return undefined;
  return { room: room.value, user, isTyping };
}
