import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { HandleReader, HandleWriter, type MessageWriter } from '../../src/compact/handles.ts';
import { writeInnerPdu } from '../../src/compact/pdu/compact.ts';
import { readInnerPdu, understandPdu } from '../../src/compact/pdu/restore.ts';
import { CompactReader } from '../../src/compact/value_reader.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { BOB, PduRoom, pick, ROOM_VERSIONS, randomPdu, randomRoom, textOf } from './pdu_rooms.ts';

const servers = ['a.example', 'b.example'];

describe('events with handles', () => {
  /** Two ends of a session; each message is one event. */
  class Session {
    readonly writer = new HandleWriter();
    readonly reader = new HandleReader();
    number = 0;
    latest: MessageWriter | undefined;

    /** The other side has read the newest message. */
    acknowledged(): void {
      this.writer.over(this.latest!, 'read', 0);
    }

    write(pdu: JsonObject, room: PduRoom): Uint8Array {
      this.number++;
      const handles = this.writer.message(1, 0);
      this.latest = handles;
      const writer = new CompactWriter({ servers, handles });
      writeInnerPdu(writer, pdu, { view: room.view(), isLast: true });
      return writer.done();
    }

    read(bytes: Uint8Array, room: PduRoom, number = this.number): string {
      const handles = this.reader.message({ generation: 1, number });
      const reader = new CompactReader(bytes, 0, { servers, handles });
      const read = readInnerPdu(reader, room.version, true);
      const back = read.ok ? understandPdu(read.value, room.view()) : read;
      if (!back.ok) return back.problem.kind;
      return textOf(back.value.pdu);
    }
  }

  test('come back in every room version, whatever they are, and handles outlive those that go whole', () => {
    const random = seededRandom(1);
    for (const version of ROOM_VERSIONS) {
      const session = new Session();
      const room = randomRoom(version, random);
      for (let left = 40; left > 0; left--) {
        const pdu = randomPdu(room);
        expect(session.read(session.write(pdu, room), room)).toBe(textOf(pdu));
        if (pick(random, [true, false])) session.acknowledged();
      }
    }
  });

  test('name a user by one byte once the other side has acknowledged the name', () => {
    const session = new Session();
    const room = new PduRoom(roomVersion('12')!, seededRandom(2));
    const say = (): JsonObject =>
      room.make({ type: 'm.room.message', sender: BOB, content: { body: '', msgtype: 'm.text' } });
    const lengths = [say(), say()].map((pdu) => {
      const bytes = session.write(pdu, room);
      expect(session.read(bytes, room)).toBe(textOf(pdu));
      session.acknowledged();
      return bytes.length - 5 - 64;
    });
    expect(lengths[0]).toBeGreaterThan(5);
    expect(lengths[1]).toBe(1);
  });
});
