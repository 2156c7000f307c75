// How names, ages and numbers are written.

import type { Count } from './types.ts'

// Characters that show nothing of their own or change what others show: those
// of `is_hidden` in src/view/escape.rs.
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff]|[\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu

/** A name with what is hidden in it made visible, as the command line does. */
export function visible(name: string): string {
  return name.replace(HIDDEN, (hidden) => {
    const code = hidden.codePointAt(0) ?? 0
    if (hidden === '\n') return '\\n'
    if (hidden === '\r') return '\\r'
    if (hidden === '\t') return '\\t'
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`
  })
}

/** At most so many letters, the middle left out. */
export function short(text: string, letters: number): string {
  // No text has more letters than units.
  if (text.length <= letters) return text
  const all = Array.from(text)
  if (all.length <= letters) return text
  const half = Math.floor((letters - 1) / 2)
  return `${all.slice(0, letters - 1 - half).join('')}…${all.slice(all.length - half).join('')}`
}

export function number(count: Count | undefined): number | undefined {
  return count === undefined ? undefined : Number(count)
}

/** `12s`, `5m`, `3h`, `9d`, as `age` in src/view/label.rs. */
export function age(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  if (seconds < 120) return `${seconds}s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`
  return `${Math.floor(seconds / 86_400)}d`
}

/** `1.2 MB`, powers of 1000. */
export function bytes(count: number): string {
  let scaled = count
  for (const unit of ['B', 'kB', 'MB', 'GB', 'TB', 'PB']) {
    if (scaled < 999.95 || unit === 'PB') return unit === 'B' ? `${scaled} B` : `${scaled.toFixed(1)} ${unit}`
    scaled /= 1000
  }
  return ''
}

/** Microseconds as `80 µs`, `1.2 ms`. */
export function rtt(us: number): string {
  return us < 1000 ? `${us} µs` : `${(us / 1000).toFixed(1)} ms`
}

const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

/** A moment as this reader's clock has it. */
export function moment(time: number | string): string {
  return MOMENT.format(new Date(time))
}

/** `10.0.0.1:80`, `[fd00::1]:80`. */
export function end(address: string, port: number | undefined): string {
  const bare = address.includes(':') ? `[${address}]` : address
  return port === undefined ? address : `${bare}:${port}`
}
