/**
 * Words of the specification that compact values (`value.ts`) name by numbers: version 1. Both ends must have the same
 * tables: what is released stays as it is, and a test holds its SHA-256. A change is a new dictionary id.
 */

/** Keys 1 to 104: MSC3079, "Appendix A", version 1, in its order. */
const MSC3079_KEYS: readonly string[] = words(`
  event_id type content state_key room_id sender user_id origin_server_ts unsigned prev_content state timeline events
  limited prev_batch transaction_id age redacted_because next_batch presence avatar_url account_data rooms join
  membership displayname body msgtype format formatted_body ephemeral invite_state leave third_party_invite is_direct
  hashes signatures depth prev_events prev_state auth_events origin creator join_rule history_visibility ban
  events_default kick redact state_default users users_default reason visibility room_alias_name name topic invite
  invite_3pid room_version creation_content initial_state preset servers identifier user medium address password token
  device_id initial_device_display_name access_token home_server well_known base_url device_lists to_device peek
  last_seen_ip display_name typing last_seen_ts algorithm sender_key session_id ciphertext one_time_keys timeout
  recent_rooms chunk m.fully_read device_keys failures device_display_name prev_sender replaces_state changed
  unstable_features versions devices errcode error room_alias
`);

/**
 * Codes 0 and -1 to -24, one byte each, as 1 to 23 are: what occurs most often and has a longer code above, or none.
 * Written in place of the longer code; both are read.
 */
const SHORT_KEYS: readonly string[] = words(`
  msgtype body membership displayname sha256 hashes signatures depth prev_events auth_events m.relates_to rel_type
  m.in_reply_to key algorithm ciphertext session_id device_id sender_key m.mentions url join ts errcode error
`);

/** Codes from 105 on: two bytes up to 255, three above. */
const MORE_KEYS: readonly string[] = words(`
  pdus edus edu_type info user_ids event_ids data thread_id start end limit keys device_one_time_keys_count
  device_unused_fallback_key_types summary m.heroes m.joined_member_count m.invited_member_count unread_notifications
  unread_thread_notifications notification_count highlight_count knock knock_state state_after last_active_ago
  currently_active status_msg mimetype size w h thumbnail_url thumbnail_info thumbnail_file file filename duration
  iv v alg k key_ops kty ext geo_uri m.new_content is_falling_back room via order suggested alias alt_aliases aliases
  redacts m.topic m.text guest_access allow room_ids predecessor replacement_room m.federate
  additional_creators historical notifications rotation_period_ms rotation_period_msgs pinned deny allow_ip_literals
  event room_id_or_alias state_events auth_chain auth_chain_ids pdu_ids members_omitted servers_in_room
  earliest_events latest_events min_depth server_name verify_keys old_verify_keys valid_until_ts expired_ts
  minimum_valid_until_ts server_keys criteria signed mxid display_name_changed public_key public_keys key_validity_url
  knock_room_state invite_room_state room_versions join_authorised_via_users_server third_party_signed
  stream_id prev_id deleted messages message_id recipient recipient_keys sender_device transaction device
  fallback_keys fallback user_signing_keys self_signing_keys master_keys user_signing_key self_signing_key master_key
  usage algorithms one_time_key_counts room_key session_key forwarding_curve25519_key_chain
  sender_claimed_ed25519_key from_device method methods commitment mac hash key_agreement_protocol
  message_authentication_code short_authentication_string code request_id requesting_device_id action
  retry_after_ms soft_logout flows stages session params completed auth next_link submit_url client_secret sid
  expires_in_ms refresh_token identity_server m.homeserver m.identity_server server is_guest logout_devices
  inhibit_login capabilities enabled default available m.room_versions m.change_password m.set_displayname
  m.set_avatar_url m.3pid_changes m.get_login_token m.profile_fields username uris ttl turnServers
  content_uri unused_expires_at upload_name content_disposition
  filter_id event_fields event_format lazy_load_members include_redundant_members not_types not_senders not_rooms
  types senders contains_url unread_thread_notifications_only include_leave
  total_room_count_estimate num_joined_members world_readable guest_can_join canonical_alias room_type
  children_state inaccessible_children max_depth suggested_only generic_search_term include_all_networks
  third_party_instance_id since server_room next_token search_term results limited_results joined
  override underride global rule_id actions conditions pattern kind is sound value set_tweak
  pushers app_id app_display_name app_device_name pushkey profile_tag lang append
  count next_key rooms_state highlight profile read m.read m.read.private m.hidden
  etag version auth_data first_message_index forwarded_count is_verified session_data sessions
  call_id party_id sdp offer answer candidates sdpMid sdpMLineIndex candidate lifetime invitee selected_party_id
  tags tag m.favourite m.lowpriority m.server_notice ignored_users ringing
  score current_session original_events events_before events_after entity recommendation
  state_key_ts aggregations current bundled latest_event current_user_participated
  thread_roots support_page contacts role email_address matrix_id issuer authorization_endpoint
  m.poll m.poll.response m.location m.asset m.caption m.file m.image m.audio m.video org.matrix.msc1767.text
  is_animated timestamp sender_claimed_keys sender_device_keys new_version search_categories room_events order_by
  groupings group_by highlights result locked suspended last_seen ip user_agent connections m.upload.size
  sdp_stream_metadata purpose audio_muted video_muted fields instances network_id network regexp user_fields
  location_fields room_types filter accepted canonical id valid unread current_version
`);

/** The 20 texts of one byte. */
const SHORT_TEXTS: readonly string[] = words(`
  m.text m.room.message m.room.member join m.room.encrypted m.megolm.v1.aes-sha2 m.room.power_levels m.reaction
  m.annotation m.read m.receipt m.typing m.room.create m.thread main leave invite m.room.redaction online
  m.olm.v1.curve25519-aes-sha2
`);

/** Texts of two bytes, at most 224: values, and keys that name events. */
const MORE_TEXTS: readonly string[] = words(`
  m.room.join_rules m.room.history_visibility m.room.guest_access m.room.name m.room.topic m.room.avatar
  m.room.canonical_alias m.room.aliases m.room.encryption m.room.server_acl m.room.tombstone m.room.pinned_events
  m.room.third_party_invite m.room.policy m.space.child m.space.parent m.policy.rule.user m.policy.rule.room
  m.policy.rule.server m.sticker m.call.invite m.call.candidates m.call.answer m.call.hangup m.call.reject
  m.call.select_answer m.call.negotiate m.call.member m.poll.start m.poll.response m.poll.end m.beacon m.beacon_info
  m.location m.notice m.emote m.image m.file m.audio m.video m.server_notice m.key.verification.request
  m.key.verification.start m.key.verification.ready m.key.verification.accept m.key.verification.key
  m.key.verification.mac m.key.verification.done m.key.verification.cancel m.presence m.device_list_update
  m.direct_to_device m.signing_key_update m.fully_read m.tag m.direct m.push_rules m.ignored_user_list
  m.identity_server m.widgets m.dummy m.room_key m.room_key_request m.forwarded_room_key m.room_key.withheld
  m.secret.request m.secret.send m.secret_storage.default_key m.cross_signing.master m.cross_signing.self_signing
  m.cross_signing.user_signing m.megolm_backup.v1 m.megolm_backup.v1.curve25519-aes-sha2
  m.secret_storage.v1.aes-hmac-sha2 m.secret_storage.key org.matrix.custom.html
  ban knock restricted knock_restricted public private shared invited joined world_readable can_join forbidden
  offline unavailable busy public_chat private_chat trusted_private_chat m.space m.server
  m.replace m.reference m.in_reply_to m.read.private m.room_membership m.sas.v1 m.qr_code.show.v1 m.reciprocate.v1
  ed25519 curve25519 signed_curve25519 master self_signing user_signing A256CTR AES oct encrypt decrypt
  m.login.password m.login.token m.login.dummy m.login.registration_token m.login.email.identity m.login.recaptcha
  m.login.terms m.login.sso m.login.application_service m.id.user m.id.thirdparty m.id.phone email msisdn
  image/jpeg image/png image/gif image/webp video/mp4 audio/ogg audio/mpeg application/pdf application/octet-stream
  text/plain text/html application/json
  M_FORBIDDEN M_NOT_FOUND M_UNKNOWN M_LIMIT_EXCEEDED M_UNRECOGNIZED M_UNKNOWN_TOKEN M_MISSING_TOKEN M_BAD_JSON
  M_NOT_JSON M_UNAUTHORIZED M_USER_DEACTIVATED M_USER_IN_USE M_INVALID_USERNAME M_ROOM_IN_USE M_INVALID_ROOM_STATE
  M_THREEPID_IN_USE M_THREEPID_NOT_FOUND M_THREEPID_AUTH_FAILED M_THREEPID_DENIED M_SERVER_NOT_TRUSTED
  M_UNSUPPORTED_ROOM_VERSION M_INCOMPATIBLE_ROOM_VERSION M_BAD_STATE M_GUEST_ACCESS_FORBIDDEN M_CAPTCHA_NEEDED
  M_CAPTCHA_INVALID M_MISSING_PARAM M_INVALID_PARAM M_TOO_LARGE M_EXCLUSIVE M_RESOURCE_LIMIT_EXCEEDED
  M_CANNOT_LEAVE_SERVER_NOTICE_ROOM M_WEAK_PASSWORD M_UNABLE_TO_AUTHORISE_JOIN M_UNABLE_TO_GRANT_JOIN
  M_DUPLICATE_ANNOTATION M_NOT_YET_UPLOADED M_CANNOT_OVERWRITE_MEDIA M_UNKNOWN_POS M_CONNECTION_FAILED M_URL_NOT_SET
  M_BAD_STATUS M_CONNECTION_TIMEOUT M_BAD_PAGINATION M_WRONG_ROOM_KEYS_VERSION M_USER_LOCKED M_USER_SUSPENDED
  M_INVITE_BLOCKED M_KEY_TOO_LARGE M_PROFILE_TOO_LARGE M_SESSION_NOT_VALIDATED
  dont_notify notify highlight sound event_match event_property_is event_property_contains contains_display_name
  room_member_count sender_notification_permission content.body content.msgtype override underride content room
  sender global m.rule.message m.unverified m.no_olm
`);

/** Beginnings that have something shorter behind them: a key or device, or the number of a position in a stream. */
export const PREFIXES: readonly string[] = [
  'ed25519:',
  'curve25519:',
  'signed_curve25519:',
  's1_',
  'h1_',
  'https://',
];

/** Simple values 20 to 31 have a meaning in RFC 8949, or none that is well-formed in two bytes. */
export const SHORT_TEXT_COUNT = 20;
const FIRST_LONG_TEXT = 32;
const MAX_SIMPLE = 255;
const FIRST_MORE_KEY = MSC3079_KEYS.length + 1;

/** Key of each code. */
export const KEY_OF_CODE: ReadonlyMap<number, string> = new Map([
  ...MSC3079_KEYS.map((key, i) => [i + 1, key] as const),
  ...unique(MORE_KEYS, MSC3079_KEYS).map((key, i) => [FIRST_MORE_KEY + i, key] as const),
  ...SHORT_KEYS.map((key, i) => [0 - i, key] as const),
]);

/** The shortest code of each key: those of one byte come last, so that they replace the others. */
export const CODE_OF_KEY: ReadonlyMap<string, number> = new Map(
  [...KEY_OF_CODE].map(([code, key]) => [key, code]),
);

/** Text of each simple value. */
export const TEXT_OF_SIMPLE: ReadonlyMap<number, string> = new Map([
  ...SHORT_TEXTS.map((text, i) => [i, text] as const),
  ...MORE_TEXTS.slice(0, MAX_SIMPLE + 1 - FIRST_LONG_TEXT).map(
    (text, i) => [FIRST_LONG_TEXT + i, text] as const,
  ),
]);

export const SIMPLE_OF_TEXT: ReadonlyMap<string, number> = new Map(
  [...TEXT_OF_SIMPLE].map(([simple, text]) => [text, simple]),
);

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}

function unique(some: readonly string[], others: readonly string[]): readonly string[] {
  return [...new Set(some)].filter((word) => !others.includes(word));
}
