// Numbers with their units, times in UTC.

/** Of the text of the page, px, where it is not enlarged for a screen of very many pixels. */
export const TEXT_PX = 15;

/** A length that was drawn for text of that size, as it grows with the text. */
export function inRem(px: number): string {
  return `${px / TEXT_PX}rem`;
}

export function formatTime(seconds: number, withDate = false): string {
  const text = new Date(seconds * 1000).toISOString();
  return withDate ? `${text.slice(0, 10)} ${text.slice(11, 19)}` : text.slice(11, 19);
}

/** Seconds since 1970 of a time as REST has it. */
export function secondsOf(time: string): number {
  return Date.parse(time) / 1000;
}

export function formatAge(seconds: number): string {
  // It grows while it is looked at: below a second, its digits would only flicker.
  if (seconds < 1) return "< 1 s";
  return seconds < 90 ? `${Math.floor(seconds)} s` : formatDuration(seconds);
}

export function formatDuration(seconds: number): string {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 570) return `${(seconds / 60).toFixed(1)} min`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129_600) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86_400).toFixed(1)} d`;
}

const PREFIXES = ["B", "kB", "MB", "GB", "TB"];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < PREFIXES.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toPrecision(3)} ${PREFIXES[unit]}`;
}

export function formatCount(count: number): string {
  return count.toLocaleString("en-GB").replaceAll(",", "\u202f");
}

export function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}
