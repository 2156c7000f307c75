// The language of the filter: words that must all hold of an edge.
//
//   nginx                 somewhere in the names of either end
//   host:web*             the whole of a field; * stands for anything
//   port:5432,6379        one of several
//   port:1024-65535       from, to
//   failed:>10            more than; also >=, <, <=
//   address:10.0.0.0/24   in a network
//   from:curl to:nginx    the active end, the passive end
//   -process:ssh          not
//   "a b"                 with spaces

import { bytesOf, countedOf, type Edge, type EdgeState, isLater, type Model, type Node, openOf } from './model.ts'
import { number } from './text.ts'

/** One word of a filter. */
interface Term {
  not: boolean
  holds: (edge: Edge, model: Model) => boolean
}

export type Filter = { terms: Term[] } | { error: string }

type Values = (edge: Edge, ends: Node[], model: Model) => (string | number | undefined)[]

interface Field {
  about: string
  values: Values
  /** All that it can be. */
  words?: readonly string[]
  /** It is a number, with one of these units behind it or none. */
  units?: Record<string, number>
  /** The greatest that it can be. */
  most?: number
  /** It is an address, or a network. */
  addresses?: boolean
}

const each =
  (of: (node: Node) => (string | undefined)[] | string | undefined): Values =>
  (_, ends) =>
    ends.flatMap((node) => of(node))

const counted =
  (of: (edge: Edge, model: Model) => number | undefined): Values =>
  (edge, _, model) => [of(edge, model)]

const PLAIN = {}
const BYTES = { k: 1e3, kb: 1e3, m: 1e6, mb: 1e6, g: 1e9, gb: 1e9, t: 1e12, tb: 1e12, b: 1 }
// docs/look-json.md has them.
const CONFIDENCES = [
  'confirmed',
  'both ends, at different times',
  'one end',
  'one end, no probe at the other',
  'unresolved, several hosts have the address',
  'unresolved, direction unknown',
]
const TIMES = { s: 1e3, m: 60e3, h: 3600e3, d: 86400e3 }

/** Every field, as the page explains them. */
export const FIELDS: Record<string, Field> = {
  host: { about: 'name or id of a host at either end', values: each((node) => [node.look?.host, node.look?.host_id, ...group(node, 'host')]) },
  process: {
    about: 'name of a process',
    values: each((node) => [node.look?.process?.name, ...group(node, 'process'), ...(node.group?.processes.map((one) => one.name) ?? [])]),
  },
  exe: { about: 'path of its program', values: each((node) => node.look?.process?.exe) },
  unit: { about: 'systemd unit', values: each((node) => [node.look?.process?.unit, ...group(node, 'unit')]) },
  user: { about: 'user of the process', values: each((node) => node.look?.process?.user) },
  container: { about: 'id of the container', values: each((node) => [node.look?.process?.container, ...group(node, 'container')]) },
  pod: { about: 'UID of the pod', values: each((node) => node.look?.process?.pod) },
  label: {
    about: 'name, role or group that people gave it',
    values: each((node) => [node.look?.label?.name, node.look?.label?.role, node.look?.label?.group, ...group(node, 'label')]),
  },
  scope: { about: 'network namespace', values: each((node) => node.look?.scope) },
  address: {
    about: 'address of either end, or a network',
    addresses: true,
    values: (edge, ends) => [
      edge.look?.active_address,
      edge.look?.passive_address,
      ...ends.flatMap((node) => [node.look?.address, ...group(node, 'address'), ...group(node, 'subnet')]),
    ],
  },
  port: {
    about: 'port of the passive end',
    units: PLAIN,
    most: 65535,
    values: (edge) => (edge.look === undefined ? (edge.link?.ports.map((one) => one.port) ?? []) : [edge.look.port]),
  },
  proto: {
    about: 'tcp or udp',
    words: ['tcp', 'udp'],
    values: (edge) => (edge.look === undefined ? (edge.link?.ports.map((one) => one.protocol) ?? []) : [edge.look.protocol]),
  },
  state: {
    about: 'alive, failing, ended, silent; or idle for the last two',
    words: ['alive', 'failing', 'ended', 'silent', 'idle'],
    values: (edge) => statesOf(edge),
  },
  failing: { about: 'edges that fail, of a link between groups: >0', units: PLAIN, values: counted((edge) => (edge.link === undefined ? Number(edge.state === 'failing') : number(edge.link.failing))) },
  told: { about: 'which ends told of it: active, passive, both; or one', words: ['active', 'passive', 'both', 'one'], values: (edge) => toldOf(edge) },
  confidence: { about: 'how far it can be believed, in the words of its details', words: CONFIDENCES, values: (edge) => [edge.look?.confidence] },
  rung: {
    about: 'how sockets were read: streaming, iterator, netlink, procfs',
    words: ['streaming', 'iterator', 'netlink', 'procfs'],
    values: (edge) => edge.look?.rungs ?? [],
  },
  direction: { about: 'known or unknown', words: ['known', 'unknown'], values: (edge) => [edge.directed ? 'known' : 'unknown'] },
  probe: { about: 'yes or no: a probe reports for the end', words: ['yes', 'no'], values: each((node) => (node.probe ? 'yes' : 'no')) },
  change: {
    about: 'when times are compared: new, gone, changed (fails, works, process), unknown, unsure, same',
    words: ['new', 'gone', 'changed', 'fails', 'works', 'process', 'unknown', 'unsure', 'same'],
    values: (edge) => [edge.change, ...(edge.differences ?? []).map((one) => one.change)],
  },
  open: { about: 'connections open', units: PLAIN, values: counted(openOf) },
  opened: { about: 'connections opened', units: PLAIN, values: counted((edge, model) => number(countedOf(edge, model).opened)) },
  failed: { about: 'attempts that failed', units: PLAIN, values: counted((edge, model) => number(countedOf(edge, model).failed)) },
  bytes: { about: 'bytes both ways: >10MB', units: BYTES, values: counted(bytesOf) },
  retransmits: { about: 'segments sent again', units: PLAIN, values: counted((edge, model) => number(countedOf(edge, model).retransmits)) },
  rtt: { about: 'smallest round trip: >5ms', units: { us: 1, ms: 1e3, s: 1e6 }, values: counted((edge, model) => (isLater(edge, model) ? undefined : edge.look?.rtt_us)) },
  age: { about: 'since it was last seen: >10m', units: TIMES, values: (edge, _, model) => [Math.max(0, model.until - edge.last)] },
  known: { about: 'since it was first seen: <10m', units: TIMES, values: (edge, _, model) => [model.until - edge.first] },
}

const ALIASES: Record<string, string> = { ip: 'address', protocol: 'proto', name: 'process', is: 'change' }

function group(node: Node, kind: string): (string | undefined)[] {
  return node.group?.kind === kind ? [node.group.name, node.group.value] : []
}

function statesOf(edge: Edge): string[] {
  const { link } = edge
  const states: EdgeState[] =
    link === undefined
      ? [edge.state]
      : (['alive', 'failing', 'ended', 'silent'] as const).filter((state) => Number(link[state]) > 0)
  const idle = states.some((state) => state === 'ended' || state === 'silent')
  return idle ? [...states, 'idle'] : states
}

function toldOf(edge: Edge): string[] {
  const { link } = edge
  if (link === undefined) return edge.told === 'both' ? ['both'] : [edge.told, 'one']
  const active = Number(link.told_by_active) > 0
  const passive = Number(link.told_by_passive) > 0
  return [
    ...(Number(link.told_by_both) > 0 ? ['both'] : []),
    ...(active ? ['active'] : []),
    ...(passive ? ['passive'] : []),
    ...(active || passive ? ['one'] : []),
  ]
}

/** What a bare word is looked for in. */
function wordsOf(node: Node): string {
  const { look, group } = node
  const process = look?.process
  return [
    node.title,
    node.place,
    look?.host,
    look?.host_id,
    look?.address,
    process?.name,
    process?.exe,
    process?.unit,
    process?.user,
    process?.container,
    look?.label?.name,
    look?.label?.role,
    look?.label?.group,
    group?.value,
    ...(group?.processes.map((one) => one.name) ?? []),
  ]
    .join('\n')
    .toLowerCase()
}

const texts = new WeakMap<Node, string>()

function textOf(node: Node): string {
  let text = texts.get(node)
  if (text === undefined) {
    text = wordsOf(node)
    texts.set(node, text)
  }
  return text
}

function endsOf(edge: Edge, model: Model): Node[] {
  return [edge.active, edge.passive].flatMap((place) => model.nodes[place] ?? [])
}

/** Words and quoted texts, each with where a quoted one began: `a:"b c"` is one. */
function split(text: string): string[] | null {
  const found: string[] = []
  let word = ''
  let quoted = false
  let any = false
  for (const letter of text) {
    if (letter === '"') {
      quoted = !quoted
      any = true
    } else if (/\s/.test(letter) && !quoted) {
      if (any || word !== '') found.push(word)
      word = ''
      any = false
    } else {
      word += letter
    }
  }
  if (quoted) return null
  if (any || word !== '') found.push(word)
  return found
}

/** Reads a filter. The error says what is wrong and what may stand there. */
export function parse(text: string): Filter {
  const words = split(text)
  if (words === null) return { error: 'a quotation mark has no other one' }
  const terms: Term[] = []
  for (const word of words) {
    const not = word.startsWith('-') && word.length > 1
    const bare = not ? word.slice(1) : word
    if (bare === '' || bare === '-') return { error: `${bare === '' ? '""' : bare} has nothing behind it` }
    const colon = bare.indexOf(':')
    const name = colon > 0 ? bare.slice(0, colon).toLowerCase() : ''
    // An address of IPv6 has colons, and is no field.
    const isField = /^[a-z]+$/.test(name) && !/^[0-9a-f]{1,4}:[0-9a-f:.]*$/i.test(bare)
    const term = isField ? field(name, bare.slice(colon + 1)) : anywhere(bare)
    if (typeof term === 'string') return { error: term }
    terms.push({ not, holds: term })
  }
  return { terms }
}

function anywhere(word: string): Term['holds'] {
  const low = word.toLowerCase()
  const port = /^:?[0-9]+$/.test(word) ? Number(word.replace(':', '')) : null
  return (edge, model) =>
    endsOf(edge, model).some((node) => textOf(node).includes(low)) ||
    (port !== null && (FIELDS['port']?.values(edge, [], model).includes(port) ?? false)) ||
    [edge.look?.active_address, edge.look?.passive_address].some((address) => address?.includes(low) ?? false)
}

function field(name: string, wanted: string): Term['holds'] | string {
  if (wanted === '') return `${name}: has nothing behind it`
  if (name === 'from' || name === 'to' || name === 'active' || name === 'passive') {
    const low = wanted.toLowerCase()
    const active = name === 'from' || name === 'active'
    return (edge, model) => {
      const node = model.nodes[active ? edge.active : edge.passive]
      const address = active ? edge.look?.active_address : edge.look?.passive_address
      return node !== undefined && (textOf(node).includes(low) || (address?.includes(low) ?? false))
    }
  }
  const known = FIELDS[ALIASES[name] ?? name]
  if (known === undefined) return `'${name}' is no field; there are from, to, ${Object.keys(FIELDS).join(', ')}`
  const tests: Test[] = []
  for (const one of choicesOf(wanted, known)) {
    const test = known.units !== undefined ? ofNumber(one, known, known.units) : known.addresses === true ? ofAddress(one) : ofWord(one, known)
    if (typeof test === 'string') return `${name}: ${test}`
    tests.push(test)
  }
  // A link of groups may have more ports than it lists: then it is not known
  // that it has not this one.
  const open = name === 'port' ? (edge: Edge): boolean => Number(edge.link?.ports_more ?? 0) > 0 : () => false
  return (edge, model) =>
    open(edge) ||
    known.values(edge, endsOf(edge, model), model).some((value) => value !== undefined && tests.some((test) => test(value)))
}

type Test = (value: string | number) => boolean

/** One of several; some of what a field can be has a comma in it. */
function choicesOf(wanted: string, { words }: Field): string[] {
  return words?.includes(wanted.toLowerCase()) === true ? [wanted] : wanted.split(',')
}

/** A number: `5`, `1-5`, `>5`. */
function ofNumber(wanted: string, { most }: Field, units: Record<string, number>): Test | string {
  const known = Object.keys(units)
  const wrong = (text: string): string =>
    most !== undefined ? `'${text}' is no number up to ${most}, 1-5 or >5` : `'${text}' is no number${known.length === 0 ? '' : ` of ${known.join(', ')}`}`
  const read = (text: string): number | null => {
    const found = quantity(text, units)
    return found === null || (most !== undefined && found > most) ? null : found
  }
  const sign = /^(>=|<=|>|<)(.*)$/.exec(wanted)
  if (sign !== null) {
    const limit = read(sign[2] ?? '')
    return limit === null ? wrong(sign[2] ?? '') : (value) => compareBy(sign[1] ?? '', Number(value), limit)
  }
  const range = /^([^-]+)-([^-]+)$/.exec(wanted)
  const from = read(range?.[1] ?? wanted)
  const to = range === null ? from : read(range[2] ?? '')
  if (from === null || to === null || from > to) return wrong(wanted)
  return (value) => Number(value) >= from && Number(value) <= to
}

function ofAddress(wanted: string): Test | string {
  const network = networkOf(wanted)
  if (network !== null) return (value) => network(String(value))
  // The beginning of one.
  if (/^[0-9a-f.:]*\*$/i.test(wanted)) return like(wanted)
  return `'${wanted}' is no address; say 10.0.0.1, 10.0.0.0/8, 10.0.* or fd00::/16`
}

function ofWord(wanted: string, { words }: Field): Test | string {
  if (/^[<>]/.test(wanted)) return `'${wanted}' is no name; only numbers are more or less`
  const test = like(wanted)
  return words === undefined || words.some(test) ? test : `'${wanted}' is none of ${words.join(', ')}`
}

/** The whole of it; `*` stands for anything. */
function like(wanted: string): Test {
  const low = wanted.toLowerCase()
  if (!low.includes('*')) return (value) => String(value).toLowerCase() === low
  const pattern = new RegExp(`^${low.split('*').map(literal).join('.*')}$`, 's')
  return (value) => pattern.test(String(value).toLowerCase())
}

function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&')
}

function quantity(text: string, units: Record<string, number> | undefined): number | null {
  const parts = /^([0-9]+(?:\.[0-9]+)?)([a-z]*)$/i.exec(text)
  if (parts === null) return null
  const unit = (parts[2] ?? '').toLowerCase()
  const scale = unit === '' ? 1 : units?.[unit]
  return scale === undefined ? null : Number(parts[1]) * scale
}

function compareBy(sign: string, value: number, limit: number): boolean {
  if (Number.isNaN(value)) return false
  return sign === '>' ? value > limit : sign === '>=' ? value >= limit : sign === '<' ? value < limit : value <= limit
}

/** The bits of an address, as digits; null if it is none. */
export function bitsOf(address: string): string | null {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)
  if (four !== null) {
    const parts = four.slice(1).map(Number)
    return parts.every((part) => part < 256) ? parts.map((part) => part.toString(2).padStart(8, '0')).join('') : null
  }
  if (!/^[0-9a-f:]+$/i.test(address) || !address.includes(':')) return null
  const [head, tail, more] = address.split('::')
  if (more !== undefined) return null
  const first = head === '' || head === undefined ? [] : head.split(':')
  const last = tail === undefined || tail === '' ? [] : tail.split(':')
  const missing = 8 - first.length - last.length
  if (missing < 0 || (tail === undefined && missing !== 0)) return null
  const all = [...first, ...Array.from({ length: missing }, () => '0'), ...last]
  if (!all.every((part) => /^[0-9a-f]{1,4}$/i.test(part))) return null
  return all.map((part) => parseInt(part, 16).toString(2).padStart(16, '0')).join('')
}

function networkOf(text: string): ((value: string) => boolean) | null {
  const [address, prefix] = text.split('/')
  const bits = bitsOf(address ?? '')
  if (bits === null) return null
  const length = prefix === undefined ? bits.length : /^[0-9]+$/.test(prefix) ? Number(prefix) : NaN
  if (!Number.isInteger(length) || length < 0 || length > bits.length) return null
  const wanted = bits.slice(0, length)
  return (value) => {
    // A subnet's own name has a prefix behind it.
    const other = bitsOf(value.split('/')[0] ?? '')
    return other !== null && other.length === bits.length && other.startsWith(wanted)
  }
}

/** The edges, by their places, of which a filter holds. */
export function apply(filter: Filter, model: Model): number[] {
  const terms = 'terms' in filter ? filter.terms : []
  const found: number[] = []
  model.edges.forEach((edge, place) => {
    if (terms.every((term) => term.holds(edge, model) !== term.not)) found.push(place)
  })
  return found
}
