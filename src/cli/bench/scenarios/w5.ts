import { base64 } from '../../../base/bytes.ts';
import { seededRandom } from '../../../base/random.ts';
import { pipeClient, plainClient } from '../clients.ts';
import type { Scenario } from '../scenario.ts';
import { clientSends, HELLO, httpsSend, onlyOne, type Sent } from './hello.ts';

// The specification's (Olm repository, docs/megolm.md, "Message format"): version; index and ciphertext, each with a tag,
// the length of the latter in two bytes; MAC; signature. AES-CBC pads to blocks.
const MEGOLM_OVERHEAD_BYTES = 1 + 2 + 3 + 8 + 64;
const AES_BLOCK_BYTES = 16;
const KEY_BYTES = 32;

/** What is encrypted: the event's type and content, and the room. */
const PLAINTEXT_BYTES = JSON.stringify({
  type: 'm.room.message',
  content: { msgtype: 'm.text', body: HELLO },
  room_id: `!${'x'.repeat(43)}`,
}).length;
const CIPHERTEXT_BYTES =
  MEGOLM_OVERHEAD_BYTES + Math.ceil((PLAINTEXT_BYTES + 1) / AES_BLOCK_BYTES) * AES_BLOCK_BYTES;

const BUDGET = 68 + CIPHERTEXT_BYTES;
const FIRST_USE = 33;
const RESPONSE = 70;

/** A client sends an encrypted message: to the server it is bytes that cannot be made shorter. */
export const w5: Scenario = async ({ https }) => {
  // Ciphertext looks like dice to everybody else.
  const random = seededRandom(5);
  const session = base64(random.bytes(KEY_BYTES));
  const encrypted = (): Sent => ({
    type: 'm.room.encrypted',
    content: {
      algorithm: 'm.megolm.v1.aes-sha2',
      ciphertext: base64(random.bytes(CIPHERTEXT_BYTES)),
      session_id: session,
    },
  });
  const [first, second] = await clientSends(pipeClient, [encrypted(), encrypted()]);
  const note = `a ciphertext of ${CIPHERTEXT_BYTES} bytes`;
  return [
    {
      id: 'W5',
      name: `client sends "${HELLO}" encrypted by Megolm, session known`,
      budget: { bytes: { request: BUDGET, response: RESPONSE } },
      bytes: second!,
      plain: onlyOne(await clientSends(plainClient, [encrypted()])),
      ...(https && { https: await httpsSend(encrypted()) }),
      note,
    },
    {
      id: 'W5b',
      name: 'the same, first use of the Megolm session',
      budget: { bytes: { request: BUDGET + FIRST_USE, response: RESPONSE } },
      bytes: first!,
      note,
    },
  ];
};
