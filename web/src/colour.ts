// Colours as a style sheet has them: a build writes #ffffff as #fff.

/** Red, green and blue of `#rgb` or `#rrggbb`, each below 256. */
export function parts(colour: string): [number, number, number] {
  const long = colour.length === 4 ? colour.replace(/[0-9a-f]/gi, '$&$&') : colour
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => parseInt(long.slice(at, at + 2), 16))
  return [red, green, blue]
}

const known = new Map<string, string>()

/** A colour, four fifths of the way to the background, as #rrggbb. */
export function faded(colour: string, back: string): string {
  const name = colour + back
  const there = known.get(name)
  if (there !== undefined) return there
  const behind = parts(back)
  const mixed = parts(colour).map((value, at) => Math.round((value + 4 * (behind[at] ?? 0)) / 5))
  const made = `#${mixed.map((value) => value.toString(16).padStart(2, '0')).join('')}`
  known.set(name, made)
  return made
}
