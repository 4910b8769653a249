import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { compactPdu } from '../../src/compact/pdu/compact.ts';
import { PduHistory } from '../../src/compact/pdu/history.ts';
import { literalContents, literalNames } from '../../src/compact/pdu/literal.ts';
import { restorePdu } from '../../src/compact/pdu/restore.ts';
import { ROOM_VERSIONS, randomRoom, randomSaid, textOf } from './pdu_rooms.ts';

const codecs = { names: literalNames, contents: literalContents };

test.each(ROOM_VERSIONS.map((version) => [version.id, version] as const))(
  'a list of events of room version %s is read by what stands in front of each',
  (_, version) => {
    const room = randomRoom(version, seededRandom(7));
    for (let left = 6; left > 0; left--) room.add(room.make(randomSaid(room.random)));
    const [writes, reads] = [new PduHistory(room), new PduHistory(room)];
    let [compact, json] = [0, 0];
    for (const { pdu } of room.events.values()) {
      const { bytes } = compactPdu(pdu, { view: writes, ...codecs });
      const back = restorePdu(bytes, { view: reads, ...codecs });
      expect(back.ok && textOf(back.value.pdu)).toBe(textOf(pdu));
      writes.add(pdu);
      if (back.ok) reads.add(back.value.pdu);
      compact += bytes.length;
      json += textOf(pdu).length;
    }
    expect(compact).toBeLessThan(json / 2.5);
  },
);
