import { fromBase64, fromHex, hex } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { sha256 } from '../crypto/sha256.ts';

// A fingerprint is the SHA-256 of a signing key in 64 hexadecimal digits. These are its forms for people.

const FINGERPRINT_BYTES = 32;
const GROUP_LENGTH = 4;
/** Words that are read aloud: half of the fingerprint. Finding another key with the same ones takes 2^128 attempts. */
const WORDS = 16;

/**
 * One word for each byte, in the order of the alphabet. They are for comparing two keys by voice: no two begin with the
 * same three letters, and it takes three letters at least to turn one into another. Never changed, since two versions
 * of the program have to say the same.
 */
const WORD_LIST = `
  acid adult agent alarm alpine anchor april aspen atlas attic autumn avenue badge bamboo banana barrel
  beacon berry bicycle bishop blanket blossom bonfire boulder branch bread brick bronze brush buffalo bugle cactus
  camera canyon captain carrot castle chalk chisel cinema citrus cliff clover cobalt coconut coffee collar cotton
  cousin cricket crystal cube cuckoo daisy dancer dawn delta desert diamond doctor dolphin domino dragon drum
  duck earth echo eclipse elbow empire engine envoy equator estate fabric falcon family feather flute forest
  fossil freight galaxy garlic gazelle geyser giraffe glacier goblet gorilla granite guitar harbor hazel helmet herring
  hickory hinge hollow honey horizon iceberg igloo incense indigo inkwell insect island ivory jaguar jasmine jelly
  jigsaw jockey juniper kayak kennel kettle knight koala ladder lamp lantern laptop lemon leopard lettuce library
  lilac lobster logic lynx magnet marble meadow memory mercury metal mirror mitten moose mosaic muffin museum
  myth napkin nectar nephew nickel noodle novel nugget nutmeg nylon oasis oatmeal obelisk ocean octopus office
  olive opera orbit orchid ostrich oxygen palace pasta peanut pebble pelican pencil pepper piano pigeon pirate
  plaza poppy prairie puddle pulley pumpkin pyramid quartz queen rabbit raccoon radar railway reef ribbon rodeo
  rubber saffron sandal scarf school scooter signal silver sketch sled snail soccer sofa spoon square stable
  stone studio summer sunset symbol syrup tadpole tango tavern teapot temple tennis thunder tomato topaz tornado
  travel trumpet tulip tundra turtle twelve uncle unicorn urban utensil vanilla vessel violin visitor volcano voyage
  vulture waffle walrus warrior wheat whisker window wizard wolf wrist yacht yogurt zebra zenith zigzag zinc
`
  .trim()
  .split(/\s+/);

/** The first half of a fingerprint as 16 words. */
export function fingerprintWords(fingerprint: string): readonly string[] {
  const bytes = fromHex(fingerprint) ?? new Uint8Array();
  return [...bytes.subarray(0, WORDS)].map((byte) => WORD_LIST[byte]!);
}

/** A fingerprint in groups of four digits. */
export function fingerprintGroups(fingerprint: string): string {
  return (fingerprint.match(new RegExp(`.{1,${GROUP_LENGTH}}`, 'g')) ?? []).join(' ');
}

/**
 * Reads a fingerprint as people hand it on: 64 hexadecimal digits, in groups or not; the SHA-256 in base64; or the key
 * itself, as `ed25519:` and unpadded base64.
 * @returns 64 hexadecimal digits
 */
export function parseFingerprint(text: string): Result<string> {
  const bare = text.trim();
  if (bare.startsWith('ed25519:')) {
    const key = fromBase64(bare.slice('ed25519:'.length));
    return key?.length === FINGERPRINT_BYTES ? ok(hex(sha256(key))) : bad('the key has not 32 bytes');
  }
  const digits = bare.replace(/[\s:]/g, '');
  const digest = [fromHex(digits), fromBase64(bare)].find((bytes) => bytes?.length === FINGERPRINT_BYTES);
  return digest === undefined ? bad('a fingerprint has 64 hexadecimal digits') : ok(hex(digest));
}
