/** Identifiers of the Matrix specification, appendices, "Identifier Grammar". Branded: only a parser makes one. */
export type ServerName = string & { readonly __brand: 'ServerName' };
export type UserId = string & { readonly __brand: 'UserId' };
export type RoomId = string & { readonly __brand: 'RoomId' };
export type EventId = string & { readonly __brand: 'EventId' };
export type RoomAlias = string & { readonly __brand: 'RoomAlias' };
export type DeviceId = string & { readonly __brand: 'DeviceId' };
export type KeyId = string & { readonly __brand: 'KeyId' };
