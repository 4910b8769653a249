/** Types that are shown in place (client-server API, "Serving inline content"). */
const INLINE_TYPES: ReadonlySet<string> = new Set(
  `text/css text/plain text/csv application/json application/ld+json image/jpeg image/gif image/png image/apng image/webp
   image/avif video/mp4 video/webm video/ogg video/quicktime audio/mp4 audio/webm audio/aac audio/mpeg audio/ogg audio/wave
   audio/wav audio/x-wav audio/x-pn-wav audio/flac audio/x-flac`.split(/\s+/),
);

/** A media type without its parameters, in lower case. */
export const essence = (contentType: string): string => contentType.split(';', 1)[0]!.trim().toLowerCase();

/** The header Content-Disposition of a file (RFC 6266). */
export function contentDisposition(contentType: string, fileName: string | null): string {
  const type = INLINE_TYPES.has(essence(contentType)) ? 'inline' : 'attachment';
  if (fileName === null) return type;
  if (/^[\x20-\x7e]*$/.test(fileName))
    return `${type}; filename="${fileName.replaceAll(/["\\]/g, (character) => `\\${character}`)}"`;
  return `${type}; filename*=utf-8''${encodeExtended(fileName)}`;
}

/** RFC 8187, section 3.2.1: what `encodeURIComponent` leaves and no attribute may have is escaped as well. */
const encodeExtended = (text: string): string =>
  encodeURIComponent(text).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** The file's name in such a header of somebody else's; null where there is none that can be read. */
export function fileNameIn(disposition: string | null): string | null {
  if (disposition === null) return null;
  const extended = /;\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)/i.exec(disposition)?.[1];
  if (extended !== undefined) {
    try {
      return decodeURIComponent(extended);
    } catch {
      // Then the plain one counts.
    }
  }
  const [, quoted, token] = /;\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))/i.exec(disposition) ?? [];
  return quoted?.replaceAll(/\\(.)/g, '$1') ?? token ?? null;
}
