import { fromBase64 } from '../base/bytes.ts';
import { verify } from '../crypto/ed25519.ts';
import { type AuthState, type AuthVerdict, allow, reject } from './auth_verdict.ts';
import { canonicalBytes } from './canonical_json.ts';
import { numbersOf } from './hashes.ts';
import { parseUserId, serverOf, type UserId } from './ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from './json.ts';
import { type Event, type Pdu, prevEvents } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';

// Ours: a hostile third-party invite could hold hundreds of thousands of pairs of key and signature.
const MAX_INVITE_VERIFICATIONS = 256;

type MemberPdu = Pdu & { readonly state_key: string };

/** Rule 5: m.room.member. */
export function authoriseMember(pdu: Pdu, state: AuthState, version: RoomVersion): AuthVerdict {
  if (!isMember(pdu)) return reject('5.1', 'no state_key or no membership');
  if (version.restrictedJoins && Object.hasOwn(pdu.content, 'join_authorised_via_users_server')) {
    if (!isSignedByAuthoriser(pdu)) {
      return reject('5.2.1', 'not signed by the server of join_authorised_via_users_server');
    }
  }
  switch (own(pdu.content, 'membership')) {
    case 'join':
      return authoriseJoin(pdu, state, version);
    case 'invite':
      return Object.hasOwn(pdu.content, 'third_party_invite')
        ? authoriseThirdPartyInvite(pdu, state, version)
        : authoriseInvite(pdu, state);
    case 'leave':
      return authoriseLeave(pdu, state, version);
    case 'ban':
      return authoriseBan(pdu, state);
    case 'knock':
      if (version.knocking) return authoriseKnock(pdu, state, version);
  }
  return reject('5.8', 'the membership is unknown');
}

const isMember = (pdu: Pdu): pdu is MemberPdu =>
  pdu.state_key !== undefined && Object.hasOwn(pdu.content, 'membership');

/** Whether the signature is there; that it is valid was established when the event came in (`requiredSigners`). */
function isSignedByAuthoriser(pdu: Pdu): boolean {
  const authoriser = own(pdu.content, 'join_authorised_via_users_server');
  const user = typeof authoriser === 'string' ? parseUserId(authoriser) : undefined;
  return user?.ok === true && Object.hasOwn(pdu.signatures, serverOf(user.value));
}

function authoriseJoin(pdu: MemberPdu, state: AuthState, version: RoomVersion): AuthVerdict {
  const { create } = state;
  const prevs = prevEvents(pdu);
  if (prevs.length === 1 && prevs[0] === create.id && pdu.state_key === founderOf(create, version)) {
    return allow; // 5.3.1
  }
  if (pdu.sender !== pdu.state_key) return reject('5.3.2', 'nobody can join for another user');
  const membership = state.membership(pdu.state_key);
  if (membership === 'ban') return reject('5.3.3', 'the user is banned');
  const isInvited = membership === 'invite' || membership === 'join';
  switch (joinRuleIn(state, version)) {
    case 'invite':
    case 'knock':
      if (isInvited) return allow; // 5.3.4
      break;
    case 'restricted':
    case 'knock_restricted':
      if (isInvited) return allow; // 5.3.5.1
      if (!isAuthorisedJoin(pdu, state)) {
        return reject('5.3.5.2', 'join_authorised_via_users_server is not a joined user who may invite');
      }
      return allow; // 5.3.5.3
    case 'public':
      return allow; // 5.3.6
  }
  return reject('5.3.7', 'the join rule does not let the user in');
}

/** Whose join may follow on the create event: its `creator`, from version 11 on its sender. */
const founderOf = (create: Event, version: RoomVersion) =>
  version.creators === 'content' ? own(create.pdu.content, 'creator') : create.pdu.sender;

/** The join rule, or undefined where the room version does not know it. */
function joinRuleIn(state: AuthState, version: RoomVersion): string | undefined {
  const rule = state.joinRule();
  const isKnown =
    (rule !== 'knock' || version.knocking) &&
    (rule !== 'restricted' || version.restrictedJoins) &&
    (rule !== 'knock_restricted' || version.knockRestricted);
  return isKnown ? rule : undefined;
}

function isAuthorisedJoin(pdu: Pdu, state: AuthState): boolean {
  const authoriser = own(pdu.content, 'join_authorised_via_users_server');
  return (
    typeof authoriser === 'string' &&
    state.membership(authoriser) === 'join' &&
    state.levels.user(authoriser as UserId) >= state.levels.invite
  );
}

function authoriseThirdPartyInvite(pdu: MemberPdu, state: AuthState, version: RoomVersion): AuthVerdict {
  if (state.membership(pdu.state_key) === 'ban') return reject('5.4.1.1', 'the invited user is banned');
  const invite = own(pdu.content, 'third_party_invite');
  const signed = isJsonObject(invite) ? own(invite, 'signed') : undefined;
  if (!isJsonObject(signed)) return reject('5.4.1.2', 'third_party_invite has nothing signed');
  const [mxid, token] = [own(signed, 'mxid'), own(signed, 'token')];
  if (typeof mxid !== 'string' || typeof token !== 'string')
    return reject('5.4.1.3', 'signed has no mxid or no token');
  if (mxid !== pdu.state_key) return reject('5.4.1.4', 'mxid is not the invited user');
  const issued = state.thirdPartyInvite(token);
  if (issued === undefined) return reject('5.4.1.5', 'no m.room.third_party_invite has that token');
  if (issued.pdu.sender !== pdu.sender)
    return reject('5.4.1.6', 'the sender did not issue the third-party invite');
  if (isSignedByAnyKey(signed, issued, version)) return allow; // 5.4.1.7
  return reject('5.4.1.8', 'no public key of the third-party invite signed it');
}

/** Whether any signature in `signed` is by a key of the m.room.third_party_invite event; under which names is all one. */
function isSignedByAnyKey(signed: JsonObject, issued: Event, version: RoomVersion): boolean {
  const { signatures, unsigned: _unsigned, ...covered } = signed;
  const message = canonicalBytes(covered, numbersOf(version));
  let left = MAX_INVITE_VERIFICATIONS;
  for (const signature of signaturesIn(signatures)) {
    for (const publicKey of publicKeysIn(issued.pdu.content)) {
      if (left-- === 0) return false;
      if (verify(publicKey, message, signature)) return true;
    }
  }
  return false;
}

function* signaturesIn(signatures: JsonValue | undefined): Generator<Uint8Array> {
  for (const ofServer of isJsonObject(signatures) ? Object.values(signatures) : []) {
    for (const [keyId, text] of isJsonObject(ofServer) ? Object.entries(ofServer) : []) {
      const bytes = keyId.startsWith('ed25519:') && typeof text === 'string' ? fromBase64(text) : undefined;
      if (bytes !== undefined) yield bytes;
    }
  }
}

function* publicKeysIn(content: JsonObject): Generator<Uint8Array> {
  const listed = own(content, 'public_keys');
  const entries = Array.isArray(listed) ? listed.filter(isJsonObject) : [];
  // 5.4.1.7.1 and 5.4.1.7.2 have the same key under the same name.
  for (const holder of [content, ...entries]) {
    const text = own(holder, 'public_key');
    const bytes = typeof text === 'string' ? fromBase64(text) : undefined;
    if (bytes !== undefined) yield bytes;
  }
}

function authoriseInvite(pdu: MemberPdu, state: AuthState): AuthVerdict {
  if (state.membership(pdu.sender) !== 'join') return reject('5.4.2', 'the sender is not joined');
  const membership = state.membership(pdu.state_key);
  if (membership === 'join' || membership === 'ban')
    return reject('5.4.3', 'the invited user is joined or banned');
  if (state.levels.user(pdu.sender) >= state.levels.invite) return allow; // 5.4.4
  return reject('5.4.5', 'the sender may not invite');
}

function authoriseLeave(pdu: MemberPdu, state: AuthState, version: RoomVersion): AuthVerdict {
  const { levels } = state;
  const membership = state.membership(pdu.state_key);
  if (pdu.sender === pdu.state_key) {
    return membership === 'invite' || membership === 'join' || (membership === 'knock' && version.knocking)
      ? allow
      : reject('5.5.1', 'the user is not in the room');
  }
  if (state.membership(pdu.sender) !== 'join') return reject('5.5.2', 'the sender is not joined');
  const senderLevel = levels.user(pdu.sender);
  if (membership === 'ban' && senderLevel < levels.ban)
    return reject('5.5.3', 'the sender may not lift a ban');
  if (senderLevel >= levels.kick && levels.user(pdu.state_key as UserId) < senderLevel) return allow; // 5.5.4
  return reject('5.5.5', 'the sender may not kick this user');
}

function authoriseBan(pdu: MemberPdu, state: AuthState): AuthVerdict {
  const { levels } = state;
  if (state.membership(pdu.sender) !== 'join') return reject('5.6.1', 'the sender is not joined');
  const senderLevel = levels.user(pdu.sender);
  if (senderLevel >= levels.ban && levels.user(pdu.state_key as UserId) < senderLevel) return allow; // 5.6.2
  return reject('5.6.3', 'the sender may not ban this user');
}

function authoriseKnock(pdu: MemberPdu, state: AuthState, version: RoomVersion): AuthVerdict {
  const joinRule = joinRuleIn(state, version);
  if (joinRule !== 'knock' && joinRule !== 'knock_restricted')
    return reject('5.7.1', 'the join rule has no knocking');
  if (pdu.sender !== pdu.state_key) return reject('5.7.2', 'nobody can knock for another user');
  const membership = state.membership(pdu.sender);
  if (membership !== 'ban' && membership !== 'invite' && membership !== 'join') return allow; // 5.7.3
  return reject('5.7.4', 'the user is banned, invited or joined');
}
