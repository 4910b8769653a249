/**
 * Client-server API, "Authentication types": what `auth` holds in a request with user-interactive authentication. Clients
 * write null before they have been asked for anything.
 */
export const AUTH_DATA = {
  type: ['object', 'null'],
  properties: {
    type: { type: 'string' },
    session: { type: 'string', maxLength: 255 },
    token: { type: 'string' },
    password: { type: 'string' },
    identifier: {
      type: 'object',
      required: ['type'],
      properties: { type: { type: 'string' }, user: { type: 'string' } },
    },
  },
} as const;

/** What a client says of the device that it logs in. */
export const DEVICE_PROPERTIES = {
  device_id: { type: 'string' },
  initial_device_display_name: { type: 'string' },
  refresh_token: { type: 'boolean' },
} as const;
