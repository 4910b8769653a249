import { concat, utf8 } from '../base/bytes.ts';
import { suite } from '../noise/suite.ts';

// docs/protocol.md, "Handshake".
const NAME = utf8('ravine pipe');
const NO_OFFER_REFUSED = Uint8Array.of(0);

export const SUITE = suite('ChaChaPoly', 'SHA256');

/** What both sides of a handshake hash before its first message. `header` is the clear start of XX1. */
export const prologue = (header: Uint8Array): Uint8Array => concat(NAME, header, NO_OFFER_REFUSED);
