/**
 * The requests that have a number of one byte (`routes.ts`, `target.ts`): method and template of the path, version 1. First those that a
 * client sends most often, then the operations of the Matrix specification 1.19, then what is in use besides. The place in the
 * list is the number: nothing is removed or put in between.
 */
export const OPERATIONS: readonly (readonly [base: string, operations: string])[] = [
  [
    '/_matrix/client/v3/',
    `
    PUT rooms/{roomId}/send/m.room.message/{txnId}
    PUT rooms/{roomId}/send/m.room.encrypted/{txnId}
    PUT rooms/{roomId}/send/m.reaction/{txnId}
    POST rooms/{roomId}/receipt/m.read/{eventId}
    `,
  ],
  [
    '/_matrix/client/v3/',
    `
    PUT GET user/{userId}/account_data/{type}
    PUT GET user/{userId}/rooms/{roomId}/account_data/{type}
    POST account/deactivate
    GET admin/whois/{userId}
    GET POST account/3pid
    POST account/3pid/add
    POST account/3pid/bind
    POST account/3pid/delete
    POST account/3pid/unbind
    POST account/3pid/email/requestToken
    POST account/3pid/msisdn/requestToken
    PUT directory/list/appservice/{networkId}/{roomId}
    POST rooms/{roomId}/ban
    POST rooms/{roomId}/unban
    GET capabilities
    POST createRoom
    POST keys/device_signing/upload
    POST keys/signatures/upload
    GET devices
    GET PUT DELETE devices/{deviceId}
    POST delete_devices
    PUT GET DELETE directory/room/{roomAlias}
    GET rooms/{roomId}/aliases
    GET rooms/{roomId}/context/{eventId}
    POST user/{userId}/filter
    GET user/{userId}/filter/{filterId}
    POST rooms/{roomId}/invite
    POST rooms/{roomId}/join
    POST join/{roomIdOrAlias}
    POST GET room_keys/version
    GET PUT DELETE room_keys/version/{version}
    PUT GET DELETE room_keys/keys/{roomId}/{sessionId}
    PUT GET DELETE room_keys/keys/{roomId}
    PUT GET DELETE room_keys/keys
    POST keys/upload
    POST keys/query
    POST keys/claim
    GET keys/changes
    POST rooms/{roomId}/kick
    POST knock/{roomIdOrAlias}
    POST rooms/{roomId}/leave
    POST rooms/{roomId}/forget
    GET joined_rooms
    GET PUT directory/list/room/{roomId}
    GET POST publicRooms
    GET POST login
    POST logout
    POST logout/all
    GET rooms/{roomId}/messages
    GET notifications
    GET events
    GET initialSync
    GET events/{eventId}
    POST user/{userId}/openid/request_token
    POST account/password
    POST account/password/email/requestToken
    POST account/password/msisdn/requestToken
    PUT GET presence/{userId}/status
    PUT GET DELETE profile/{userId}/{keyName}
    GET profile/{userId}
    GET pushers
    POST pushers/set
    GET pushrules/
    GET pushrules/global/
    GET DELETE PUT pushrules/global/{kind}/{ruleId}
    GET PUT pushrules/global/{kind}/{ruleId}/enabled
    GET PUT pushrules/global/{kind}/{ruleId}/actions
    POST rooms/{roomId}/read_markers
    POST rooms/{roomId}/receipt/{receiptType}/{eventId}
    PUT rooms/{roomId}/redact/{eventId}/{txnId}
    POST refresh
    POST register
    POST register/email/requestToken
    POST register/msisdn/requestToken
    GET register/available
    POST rooms/{roomId}/report
    POST rooms/{roomId}/report/{eventId}
    POST users/{userId}/report
    GET rooms/{roomId}/initialSync
    PUT rooms/{roomId}/send/{eventType}/{txnId}
    PUT GET rooms/{roomId}/state/{eventType}/{stateKey}
    POST rooms/{roomId}/upgrade
    GET rooms/{roomId}/event/{eventId}
    GET rooms/{roomId}/state
    GET rooms/{roomId}/members
    GET rooms/{roomId}/joined_members
    POST search
    GET login/sso/redirect
    GET login/sso/redirect/{idpId}
    GET sync
    GET user/{userId}/rooms/{roomId}/tags
    PUT DELETE user/{userId}/rooms/{roomId}/tags/{tag}
    GET thirdparty/protocols
    GET thirdparty/protocol/{protocol}
    GET thirdparty/location/{protocol}
    GET thirdparty/user/{protocol}
    GET thirdparty/location
    GET thirdparty/user
    PUT sendToDevice/{eventType}/{txnId}
    PUT rooms/{roomId}/typing/{userId}
    POST user_directory/search
    GET voip/turnServer
    GET account/whoami
    `,
  ],
  [
    '/_matrix/client/v1/',
    `
    GET PUT admin/suspend/{userId}
    GET PUT admin/lock/{userId}
    POST appservice/{appserviceId}/ping
    GET media/download/{serverName}/{mediaId}
    GET media/download/{serverName}/{mediaId}/{fileName}
    GET media/thumbnail/{serverName}/{mediaId}
    GET media/preview_url
    GET media/config
    POST login/get_token
    GET mutual_rooms
    GET auth_metadata
    GET register/m.login.registration_token/validity
    GET rooms/{roomId}/relations/{eventId}
    GET rooms/{roomId}/relations/{eventId}/{relType}
    GET rooms/{roomId}/relations/{eventId}/{relType}/{eventType}
    GET rooms/{roomId}/timestamp_to_event
    GET room_summary/{roomIdOrAlias}
    GET rooms/{roomId}/hierarchy
    GET rooms/{roomId}/threads
    `,
  ],
  [
    '/_matrix/media/v3/',
    `
    POST upload
    PUT upload/{serverName}/{mediaId}
    GET download/{serverName}/{mediaId}
    GET download/{serverName}/{mediaId}/{fileName}
    GET thumbnail/{serverName}/{mediaId}
    GET preview_url
    GET config
    `,
  ],
  [
    '/_matrix/media/v1/',
    `
    POST create
    `,
  ],
  [
    '/',
    `
    GET .well-known/matrix/policy_server
    GET .well-known/matrix/support
    GET _matrix/client/versions
    GET .well-known/matrix/client
    GET .well-known/matrix/server
    `,
  ],
  [
    '/_matrix/federation/v1/',
    `
    GET backfill/{roomId}
    POST get_missing_events/{roomId}
    GET media/download/{mediaId}
    GET media/thumbnail/{mediaId}
    GET event_auth/{roomId}/{eventId}
    GET state/{roomId}
    GET state_ids/{roomId}
    GET event/{eventId}
    GET timestamp_to_event/{roomId}
    PUT invite/{roomId}/{eventId}
    GET make_join/{roomId}/{userId}
    GET make_knock/{roomId}/{userId}
    PUT send_knock/{roomId}/{eventId}
    GET make_leave/{roomId}/{userId}
    GET openid/userinfo
    GET POST publicRooms
    GET query/{queryType}
    GET query/directory
    GET query/profile
    GET hierarchy/{roomId}
    PUT exchange_third_party_invite/{roomId}
    PUT 3pid/onbind
    PUT send/{txnId}
    GET user/devices/{userId}
    POST user/keys/claim
    POST user/keys/query
    GET version
    `,
  ],
  [
    '/_matrix/federation/v2/',
    `
    PUT invite/{roomId}/{eventId}
    PUT send_join/{roomId}/{eventId}
    PUT send_leave/{roomId}/{eventId}
    `,
  ],
  [
    '/_matrix/key/v2/',
    `
    GET query/{serverName}
    POST query
    GET server
    `,
  ],
  [
    '/_matrix/policy/v1/',
    `
    POST sign
    `,
  ],
  [
    '/_matrix/app/v1/',
    `
    POST ping
    GET thirdparty/protocol/{protocol}
    GET thirdparty/user/{protocol}
    GET thirdparty/location/{protocol}
    GET thirdparty/location
    GET thirdparty/user
    GET rooms/{roomAlias}
    GET users/{userId}
    PUT transactions/{txnId}
    `,
  ],
  [
    '/_matrix/client/v3/',
    `
    GET PUT rooms/{roomId}/state/{eventType}
    GET pushrules
    GET pushrules/global
    POST keys/upload/{deviceId}
    PATCH profile/{userId}
    `,
  ],
  [
    '/_matrix/client/unstable/',
    `
    POST org.matrix.simplified_msc3575/sync
    GET org.matrix.msc4140/delayed_events
    `,
  ],
  [
    '/_matrix/key/v2/',
    `
    GET server/{keyId}
    `,
  ],
];
