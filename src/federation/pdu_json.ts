import type { JsonObject } from '../matrix/json.ts';
import type { Pdu } from '../matrix/pdu.ts';

/** A PDU as it goes over the wire: without `unsigned`, which is each server's own. */
export function pduJson(pdu: Pdu): JsonObject {
  const { unsigned: _unsigned, ...signed } = pdu;
  return signed as unknown as JsonObject;
}
