// What time it is, by the collector's clock: a browser's own may be wrong, and
// what is asked and what is said of ages is about the collector's.

/** Milliseconds by which this browser's clock is ahead. */
let ahead = 0

/** An answer of this moment has just come. */
export function heard(generated: string): void {
  const then = Date.parse(generated)
  if (!Number.isNaN(then)) ahead = Date.now() - then
}

export function now(): number {
  return Date.now() - ahead
}
