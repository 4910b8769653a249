import type { JsonValue } from '../matrix/json.ts';

/** What the preset dictionaries are made of (`dictionary.ts`). Ids that are released depend on it: it stays as it is. */

/** A time of the present decade in milliseconds: the upper half of its eight bytes hardly changes. */
const TIME_MS = 0x19c_0000_0000;

/** Words of the specification that occur one at a time. */
export const WORDS: readonly string[] = `
  m.room.server_acl m.room.pinned_events m.room.tombstone m.room.third_party_invite m.space.child
  m.space.parent m.policy.rule.user m.policy.rule.room m.policy.rule.server m.sticker m.call.invite
  m.call.candidates m.call.answer m.call.hangup m.tag m.direct m.fully_read m.key.verification.request
  m.key.verification.start m.key.verification.accept m.key.verification.key m.key.verification.mac
  m.key.verification.done m.key.verification.cancel m.cross_signing.master m.cross_signing.self_signing
  m.secret.request m.secret.send m.dummy m.room_key m.room_key_request m.forwarded_room_key
  m.room_key.withheld m.signing_key_update m.ignored_user_list m.push_rules m.identity_server m.widget
  m.poll.start m.poll.response master_keys self_signing_keys user_signing_keys master_key self_signing_key
  cross_signing one_time_keys one_time_key_counts fallback_keys device_display_name stream_id deleted
  signed_curve25519 curve25519 keys usage algorithms devices unsigned prev_id failures server_keys
  verify_keys old_verify_keys valid_until_ts minimum_valid_until_ts expired_ts room_version room_versions
  knock_room_state invite_room_state third_party_invite signed mxid members_omitted servers_in_room
  pdu_ids auth_chain auth_chain_ids auth_event_ids latest_events earliest_events min_depth limit chunk
  next_batch prev_batch total_room_count_estimate children_state inaccessible_children num_joined_members
  world_readable guest_can_join suggested_only join_authorised_via_users_server allow m.room_membership
  restricted knock_restricted private predecessor replacement_room additional_creators m.federate via
  order suggested canonical m.in_reply_to m.thread m.annotation m.replace m.reference rel_type
  is_falling_back key m.new_content m.mentions user_ids room formatted_body format org.matrix.custom.html
  geo_uri m.image m.file m.audio m.video m.location m.notice m.emote filename info mimetype image/jpeg
  image/png thumbnail_url thumbnail_info size duration url file hashes mxc:// flow flows stages session
  completed params auth identifier m.id.user m.login.password m.login.dummy m.login.registration_token
  m.login.token access_token refresh_token expires_in_ms home_server well_known user_id device_id is_guest
  logout_devices inhibit_login capabilities m.change_password m.room_versions available default stable
  versions unstable_features enabled account_data presence to_device device_lists changed left rooms
  invite knock timeline ephemeral summary m.heroes m.joined_member_count m.invited_member_count
  unread_notifications highlight_count notification_count limited events state_after transaction_id age
  redacts last_active_ago currently_active status_msg online offline unavailable push m.push soft_logout
  retry_after_ms room_in_use joined start end state name topic aliases
`
  .trim()
  .split(/\s+/);

export const ERRORS: readonly string[] = `
  M_UNRECOGNIZED M_MISSING_PARAM M_INVALID_PARAM M_TOO_LARGE M_EXCLUSIVE M_GUEST_ACCESS_FORBIDDEN
  M_RESOURCE_LIMIT_EXCEEDED M_UNSUPPORTED_ROOM_VERSION M_INCOMPATIBLE_ROOM_VERSION
  M_UNABLE_TO_AUTHORISE_JOIN M_UNABLE_TO_GRANT_JOIN M_USER_IN_USE M_INVALID_USERNAME M_ROOM_IN_USE
  M_BAD_STATE M_CANNOT_LEAVE_SERVER_NOTICE_ROOM M_UNAUTHORIZED M_NOT_JSON M_BAD_JSON M_UNKNOWN_TOKEN
  M_MISSING_TOKEN M_NOT_FOUND M_UNKNOWN
`
  .trim()
  .split(/\s+/);

/** Paths as a request's target begins or goes on. */
export const PATHS: readonly string[] = `
  /_matrix/key/v2/server /_matrix/key/v2/query /_matrix/federation/v1/version
  /_matrix/federation/v1/openid/userinfo /_matrix/federation/v1/publicRooms
  /_matrix/federation/v1/hierarchy/ /_matrix/federation/v1/timestamp_to_event/
  /_matrix/federation/v1/media/download/ /_matrix/federation/v1/media/thumbnail/ /_matrix/media/v3/
  /_matrix/client/versions /_matrix/client/v3/login /_matrix/client/v3/register
  /_matrix/client/v3/sync?since= /_matrix/client/v3/keys/upload /_matrix/client/v3/keys/query
  /_matrix/client/v3/keys/claim /_matrix/client/v3/sendToDevice/ /_matrix/client/v3/profile/
  /_matrix/client/v3/createRoom /_matrix/client/v3/join/ /_matrix/client/v3/user/
  /_matrix/client/v3/rooms/ /send/m.room.message/ /messages?dir=b&limit= /receipt/m.read/ /typing/
  /members /state/ /_matrix/federation/v1/exchange_third_party_invite/ /_matrix/federation/v1/make_knock/
  /_matrix/federation/v1/send_knock/ /_matrix/federation/v1/make_leave/ /_matrix/federation/v2/send_leave/
  /_matrix/federation/v1/event_auth/ /_matrix/federation/v1/query/directory?room_alias=%23
  /_matrix/federation/v1/query/profile?user_id=%40 &field=displayname
  /_matrix/federation/v1/user/keys/query /_matrix/federation/v1/user/keys/claim
  /_matrix/federation/v1/user/devices/%40 /_matrix/federation/v1/state_ids/!
  /_matrix/federation/v1/state/! ?event_id=%24 /_matrix/federation/v1/event/%24
  /_matrix/federation/v1/get_missing_events/! /_matrix/federation/v1/backfill/! ?v=%24 &limit=
  /_matrix/federation/v2/invite/! /_matrix/federation/v2/send_join/! ?omit_members=false
  /_matrix/federation/v1/make_join/! ?ver=12 &ver=11 /%40 /%24 /$ /@ /_matrix/federation/v1/send/
`
  .trim()
  .split(/\s+/);

/**
 * Parts of messages. A PDU's keys come in the order of canonical JSON, which is how servers keep events.
 * @param hash what stands for a hash in base64, also behind the sigils of ids
 * @param signature what stands for a signature in base64
 */
export function shapesWith(hash: string, signature: string): readonly JsonValue[] {
  const eventId = `$${hash}`;
  const roomId = `!${hash}`;
  const signatures: JsonValue = { 'example.org': { 'ed25519:1': signature } };
  return [
    { errcode: 'M_LIMIT_EXCEEDED', error: 'Too many requests', retry_after_ms: 2000 },
    { errcode: 'M_FORBIDDEN', error: 'You are not ' },
    {
      edu_type: 'm.presence',
      content: {
        push: [{ user_id: `@`, presence: 'online', last_active_ago: 5000, currently_active: true }],
      },
    },
    {
      edu_type: 'm.device_list_update',
      content: {
        user_id: '@',
        device_id: 'DEVICE',
        stream_id: 6,
        prev_id: [5],
        deleted: false,
        device_display_name: 'Element',
        keys: {
          algorithms: ['m.olm.v1.curve25519-aes-sha2', 'm.megolm.v1.aes-sha2'],
          device_id: '',
          keys: { 'curve25519:': hash, 'ed25519:': hash },
          signatures: { '@': { 'ed25519:': signature } },
          user_id: '@',
        },
      },
    },
    {
      edu_type: 'm.direct_to_device',
      content: {
        sender: '@',
        type: 'm.room.encrypted',
        message_id: '',
        messages: {
          '@': {
            '': {
              algorithm: 'm.olm.v1.curve25519-aes-sha2',
              sender_key: hash,
              ciphertext: { [hash]: { type: 0, body: '' } },
            },
          },
        },
      },
    },
    { edu_type: 'm.typing', content: { room_id: roomId, user_id: '@', typing: true } },
    {
      edu_type: 'm.receipt',
      content: {
        [roomId]: { 'm.read': { '@': { event_ids: [eventId], data: { ts: TIME_MS, thread_id: 'main' } } } },
      },
    },
    {
      server_name: 'example.org',
      valid_until_ts: TIME_MS,
      verify_keys: { 'ed25519:1': { key: hash } },
      old_verify_keys: {},
      signatures: signatures,
    },
    { prev_content: { membership: 'invite' }, replaces_state: eventId, age_ts: TIME_MS, age: 1000 },
    { auth_events: [eventId], content: { guest_access: 'can_join' }, type: 'm.room.guest_access' },
    { content: { avatar_url: 'mxc://', url: 'mxc://' }, type: 'm.room.avatar' },
    { content: { alias: '#', alt_aliases: [] }, type: 'm.room.canonical_alias' },
    {
      content: { topic: '', 'm.topic': { 'm.text': [{ body: '', mimetype: 'text/plain' }] } },
      type: 'm.room.topic',
    },
    { content: { name: 'Room' }, type: 'm.room.name' },
    {
      content: {
        algorithm: 'm.megolm.v1.aes-sha2',
        rotation_period_ms: 604800000,
        rotation_period_msgs: 100,
      },
      type: 'm.room.encryption',
    },
    { content: { redacts: eventId, reason: '' }, type: 'm.room.redaction' },
    {
      content: { 'm.relates_to': { event_id: eventId, key: '👍', rel_type: 'm.annotation' } },
      type: 'm.reaction',
    },
    { content: { history_visibility: 'shared' }, type: 'm.room.history_visibility' },
    { content: { history_visibility: 'invited' } },
    { content: { join_rule: 'invite' } },
    { content: { join_rule: 'public' }, type: 'm.room.join_rules' },
    {
      content: {
        ban: 50,
        events: {
          'm.room.avatar': 50,
          'm.room.canonical_alias': 50,
          'm.room.encryption': 100,
          'm.room.history_visibility': 100,
          'm.room.name': 50,
          'm.room.power_levels': 100,
          'm.room.server_acl': 100,
          'm.room.tombstone': 150,
          'm.room.topic': 50,
        },
        events_default: 0,
        historical: 100,
        invite: 0,
        kick: 50,
        notifications: { room: 50 },
        redact: 50,
        state_default: 50,
        users: {},
        users_default: 0,
      },
      type: 'm.room.power_levels',
    },
    {
      content: {
        creator: '@',
        'm.federate': true,
        predecessor: { event_id: eventId, room_id: roomId },
        room_version: '11',
      },
      type: 'm.room.create',
    },
    {
      content: { room_version: '12' },
      depth: 1,
      hashes: { sha256: hash },
      state_key: '',
      type: 'm.room.create',
    },
    { content: { displayname: '', membership: 'leave', reason: '' } },
    { content: { displayname: '', is_direct: true, membership: 'invite' } },
    { room_version: '12', event: { room_id: roomId, sender: '@', state_key: '@' } },
    {
      event: {},
      members_omitted: false,
      origin: 'example.org',
      servers_in_room: ['example.org'],
      state: [],
      auth_chain: [],
    },
    { origin: 'example.org', origin_server_ts: TIME_MS, pdus: [], edus: [] },
    {
      algorithm: 'm.megolm.v1.aes-sha2',
      ciphertext: 'AwgA',
      device_id: '',
      sender_key: hash,
      session_id: hash,
    },
    {
      'm.mentions': {},
      'm.relates_to': { 'm.in_reply_to': { event_id: eventId } },
      body: '',
      format: 'org.matrix.custom.html',
      formatted_body: '',
      msgtype: 'm.text',
    },
    {
      auth_events: [eventId, eventId, eventId, eventId],
      content: {},
      depth: 20,
      hashes: { sha256: hash },
      origin_server_ts: TIME_MS,
      prev_events: [eventId, eventId],
      room_id: roomId,
      sender: '@',
      signatures: signatures,
      state_key: '',
      type: 'm.room.power_levels',
      unsigned: { age: 1000 },
    },
    {
      auth_events: [eventId, eventId, eventId],
      content: { avatar_url: 'mxc://', displayname: '', membership: 'join' },
      depth: 20,
      hashes: { sha256: hash },
      origin_server_ts: TIME_MS,
      prev_events: [eventId],
      room_id: roomId,
      sender: '@',
      signatures: signatures,
      state_key: '@',
      type: 'm.room.member',
    },
    { pdus: { [eventId]: { error: '' } } },
    { pdus: { [eventId]: {} } },
    {
      edus: [],
      origin: 'example.org',
      origin_server_ts: TIME_MS,
      pdus: [
        {
          auth_events: [eventId, eventId],
          content: { body: '', msgtype: 'm.text' },
          depth: 300,
          hashes: { sha256: hash },
          origin_server_ts: TIME_MS,
          prev_events: [eventId],
          room_id: roomId,
          sender: '@',
          signatures: signatures,
          type: 'm.room.message',
        },
      ],
    },
  ];
}

/** The default push rules, which every first sync carries (client-server API, "Predefined Rules"), and what they are about. */
export const RULES: readonly string[] = `
  .m.rule.master .m.rule.suppress_notices .m.rule.invite_for_me .m.rule.member_event .m.rule.is_user_mention
  .m.rule.is_room_mention .m.rule.tombstone .m.rule.reaction .m.rule.room.server_acl .m.rule.suppress_edits .m.rule.call
  .m.rule.encrypted_room_one_to_one .m.rule.room_one_to_one .m.rule.message .m.rule.encrypted .m.rule.contains_display_name
  .m.rule.contains_user_name .m.rule.roomnotif content.m\\.mentions.user_ids content.m\\.mentions.room
  content.m\\.relates_to.rel_type m.voip_params <mx-reply> <blockquote> </blockquote> </mx-reply> <p> </p> <br/> <strong> </strong>
  <em> </em> <code> </code> <pre> </pre> <ul> <li> </li> </ul> https://matrix.to/#/ .example.org
`
  .trim()
  .split(/\s+/);

/** Sentences and beginnings of sentences that servers answer with, or clients write. */
export const SENTENCES: readonly string[] = [
  '<a href="https://matrix.to/#/',
  'Unknown access token',
  'Missing access token',
  'You are not a member of the room',
  'Unknown event',
  'No such method',
  'The request is too large',
  'Too many requests',
  'Not found',
  'Hello, how are you? ',
  'I am on my way, ',
  'Thank you, see you tomorrow. ',
  'What is the weather like? ',
];
