// What is known of one edge, of the edges between two nodes, or of one node.

import { type Child, h } from './dom.ts'
import { seen } from './ages.ts'
import { type Edge, isLater, type Model, type Node, someFail } from './model.ts'
import type { Scene } from './scene.ts'
import type { Selector, State } from './state.ts'
import type { Count, Difference, Rise } from './types.ts'
import { bytes, end, moment, number, rtt, visible } from './text.ts'

/** A link to another view of the page; it works without a click handler, too. */
export type LinkTo = (state: Partial<State>, text: string) => HTMLElement

/** Edges that are listed of one node or between two. */
const LISTED = 30

type Fact = [string, Child]

function facts(all: (Fact | false)[]): HTMLElement {
  const known = all.filter((fact): fact is Fact => fact !== false && fact[1] !== undefined && fact[1] !== '')
  return h('dl', { class: 'facts' }, ...known.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]))
}

function count(value: Count | undefined): string | undefined {
  return value === undefined ? undefined : Number(value).toLocaleString('en')
}

function size(value: Count | undefined): string | undefined {
  const known = number(value)
  return known === undefined ? undefined : bytes(known)
}

function when(time: number, model: Model): Child {
  const later = model.past && time > model.until
  return h('span', {}, `${moment(time)} (`, later ? 'after that time' : seen(time, model), later ? ')' : model.past ? ' before that time)' : ' ago)')
}

function nodesOf(edge: Edge, model: Model): [Node | undefined, Node | undefined] {
  return [model.nodes[edge.active], model.nodes[edge.passive]]
}

const named = (node: Node | undefined): string => (node === undefined ? '' : `${node.title}, ${node.place}`)

/** The node of a key, its edge, or what runs between the two nodes of `A > B`. */
export function details(key: string, model: Model, link: LinkTo): Child[] | null {
  const edge = model.edges[model.edgeAt.get(key) ?? -1]
  if (edge?.listens !== undefined) return listenerDetails(edge, edge.listens, model, link)
  if (edge !== undefined) return edge.link === undefined ? edgeDetails(edge, model, link) : linkDetails(edge, model, link)
  const node = model.nodes[model.at.get(key) ?? -1]
  if (node !== undefined) return nodeDetails(node, model, link)
  const between = model.edges.filter((one) => `${model.nodes[one.active]?.key} > ${model.nodes[one.passive]?.key}` === key)
  return between.length === 0 ? null : bundleDetails(between, model, link)
}

function title(edge: Edge, model: Model): HTMLElement {
  const [active, passive] = nodesOf(edge, model)
  return h('h2', {}, `${active?.title ?? ''} ${edge.directed ? '→' : '↔'} ${passive?.title ?? ''}`)
}

function edgeDetails(edge: Edge, model: Model, link: LinkTo): Child[] {
  const look = edge.look
  if (look === undefined) return []
  const [active, passive] = nodesOf(edge, model)
  const failures = [
    look.refused !== undefined && Number(look.refused) > 0 && `${count(look.refused)} refused`,
    look.timed_out !== undefined && Number(look.timed_out) > 0 && `${count(look.timed_out)} timed out`,
    look.unreachable !== undefined && Number(look.unreachable) > 0 && `${count(look.unreachable)} unreachable`,
  ].filter((word) => word !== false)
  const shared = look.shared !== undefined && `numbers of ${look.shared} edges together`
  const rise = look.window
  const was = edge.was
  // Nobody keeps what these were at every moment.
  const now = isLater(edge, model) ? ', as of now' : ''
  const ever = model.windowed ? ', since its probe began' : ''
  return [
    title(edge, model),
    facts([
      ['From', named(active)],
      ['To', named(passive)],
      ['Port', `${look.protocol}/${look.port}`],
      ['Addresses', `${end(look.active_address, look.active_port)} → ${end(look.passive_address, look.port)}`],
      ['State', h('span', { class: `state ${edge.state}` }, edge.state + (edge.state === 'failing' ? ': no attempt is answered' : ''))],
      model.compared && ['Change', h('span', { class: `change ${edge.change}` }, changed(edge))],
      was !== undefined && ['Then', `${was.state}, told by ${was.told}${was.look === undefined ? '' : `, ${was.look.confidence}`}`],
      ['First seen', when(edge.first, model)],
      ['Last seen', when(edge.last, model)],
      ['Connections', `${count(look.open)} open${Number(look.connecting) > 0 ? `, ${count(look.connecting)} of them unanswered` : ''}${now}`],
      rise !== undefined && ['In this time', risen(rise)],
      model.windowed && rise === undefined && ['In this time', 'not known'],
      ['Opened', look.opened === undefined ? 'not counted' : `${count(look.opened)}${ever}${now}`],
      ['Failed', look.failed === undefined ? 'not counted' : `${count(look.failed)}${failures.length > 0 ? ` (${failures.join(', ')})` : ''}${ever}${now}`],
      ['Bytes', look.bytes_to_passive === undefined && look.bytes_to_active === undefined ? 'not counted' : `${size(look.bytes_to_passive) ?? '?'} →, ← ${size(look.bytes_to_active) ?? '?'}${ever}${now}`],
      ['RTT', look.rtt_us === undefined ? 'not known' : `${rtt(look.rtt_us)} at best${now}`],
      ['Retransmits', look.retransmits === undefined ? 'not counted' : `${count(look.retransmits)}${ever}${now}`],
      shared !== false && ['Shared', shared],
      ['Told by', look.told_by === 'both' ? 'both ends' : `the ${look.told_by} end`],
      ['Confidence', look.confidence],
      ['Read by', look.rungs.join(', ')],
      edge.look?.cycle === true && ['Cycle', 'leads back to a node that it was reached from'],
    ]),
    h('p', { class: 'links' }, active !== undefined && link({ selected: active.key }, active.title), passive !== undefined && link({ selected: passive.key }, passive.title)),
  ]
}

/** What was counted in the time that is looked at. */
function risen(rise: Rise): string {
  const all = [
    rise.opened !== undefined && `${count(rise.opened)} opened`,
    rise.failed !== undefined && `${count(rise.failed)} failed`,
    rise.bytes_to_passive !== undefined && `${size(rise.bytes_to_passive)} →`,
    rise.bytes_to_active !== undefined && `← ${size(rise.bytes_to_active)}`,
    rise.retransmits !== undefined && `${count(rise.retransmits)} retransmits`,
  ].filter((word) => word !== false)
  return `${all.join(', ')} (in whole hours)`
}

function changed(edge: Edge): string {
  const words = { same: 'none', new: 'new: not there then', gone: 'gone: there then, not now', changed: 'changed',
    unknown: 'unknown: at one time only, and nobody who could tell was heard at the other',
    unsure: 'at one time only, and no difference: it comes and goes, or goes on as another' }
  const all = edge.differences ?? []
  if (edge.link !== undefined && all.length > 0) {
    const count = (change: string): number => all.filter((one) => one.change === change).length
    const kinds = ['new', 'gone', 'fails', 'works', 'process'].filter((change) => count(change) > 0)
    return kinds.map((change) => `${count(change)} ${change}`).join(', ')
  }
  const [first] = all
  if (first?.change === 'fails') return 'fails: it was answered, and is not any more'
  if (first?.change === 'works') return 'works: it was not answered, and is now'
  if (first?.change === 'process') return `another process: it was ${first.was?.map(visible).join(', ') ?? '?'}, and is ${first.is?.map(visible).join(', ') ?? '?'}`
  return words[edge.change]
}

/** A listener that differs. */
function listenerDetails(edge: Edge, listens: Difference, model: Model, link: LinkTo): Child[] {
  const node = model.nodes[edge.passive]
  return [
    h('h2', {}, `${node?.title ?? ''} listens`),
    facts([
      ['Who', named(node)],
      ['Port', `${listens.protocol} ${end(listens.address, listens.port)}`],
      ['Change', h('span', { class: `change ${edge.change}` }, changed(edge))],
      ['First seen', when(edge.first, model)],
      ['Last seen', when(edge.last, model)],
    ]),
    h('p', { class: 'links' }, node !== undefined && link({ selected: node.key }, node.title)),
  ]
}

function linkDetails(edge: Edge, model: Model, link: LinkTo): Child[] {
  const links = edge.link
  if (links === undefined) return []
  const [active, passive] = nodesOf(edge, model)
  const ports = links.ports.map((port) => `${port.protocol}/${port.port} ×${port.edges}`)
  if (Number(links.ports_more) > 0) ports.push(`and ${links.ports_more} more`)
  const states = (['alive', 'failing', 'ended', 'silent'] as const).filter((state) => Number(links[state]) > 0)
  return [
    title(edge, model),
    facts([
      ['From', named(active)],
      ['To', named(passive)],
      ['State', h('span', { class: `state ${edge.state}` }, [edge.state + (edge.state === 'failing' ? ': no attempt is answered' : ''), someFail(edge)].filter((word) => word !== null).join(', '))],
      ['Edges', `${count(links.edges)}: ${states.map((state) => `${count(links[state])} ${state}`).join(', ')}`],
      model.compared && ['Change', h('span', { class: `change ${edge.change}` }, changed(edge))],
      ['Ports', ports.join(', ')],
      ['Told by', `both ends ${links.told_by_both}, active end ${links.told_by_active}, passive end ${links.told_by_passive}`],
      Number(links.direction_unknown) > 0 && ['Direction', `unknown of ${links.direction_unknown}`],
      ['First seen', when(edge.first, model)],
      ['Last seen', when(edge.last, model)],
    ]),
    h('p', { class: 'links' }, active !== undefined && opens(active, model, link), passive !== undefined && passive !== active && opens(passive, model, link)),
  ]
}

function bundleDetails(edges: Edge[], model: Model, link: LinkTo): Child[] {
  const first = edges[0]
  if (first === undefined) return []
  return [title(first, model), list(edges, model, link)]
}

/** Nodes that are drawn as one, or what runs between such and another. */
export function alikeDetails(key: string, scene: Scene, model: Model, link: LinkTo): Child[] | null {
  const line = scene.lines.find((one) => one.key === key)
  const edges = line?.edges.flatMap((one) => model.edges[model.edgeAt.get(one) ?? -1] ?? []) ?? []
  if (line !== undefined) {
    const named = (end: string): string => scene.nodes.find((node) => node.key === end)?.title ?? ''
    return [h('h2', {}, `${named(line.active)} ${line.directed ? '→' : '↔'} ${named(line.passive)}`), list(edges, model, link)]
  }
  const fold = scene.folds.get(key)
  if (fold === undefined) return null
  const some = fold.members.slice(0, LISTED).flatMap((member) => model.nodes[member] ?? [])
  const more = fold.members.length - some.length
  return [
    h('h2', {}, fold.title),
    facts([['Where', fold.place], ['In common', fold.why]]),
    h('ul', {}, ...some.map((node) => h('li', {}, link({ selected: node.key }, node.title), `, ${node.place}`)), more > 0 && h('li', {}, `and ${more} more in the table`)),
  ]
}

function list(edges: Edge[], model: Model, link: LinkTo): HTMLElement {
  const items = edges.slice(0, LISTED).map((edge) => {
    const [active, passive] = nodesOf(edge, model)
    const port = edge.look === undefined ? `${edge.count} edges` : `${edge.look.protocol}/${edge.look.port}`
    return h('li', {}, link({ selected: edge.key }, `${active?.title ?? ''} → ${passive?.title ?? ''} ${port}`), ` ${edge.state}`)
  })
  const more = edges.length - items.length
  return h('ul', {}, ...items, more > 0 && h('li', {}, `and ${more} more in the table`))
}

function nodeDetails(node: Node, model: Model, link: LinkTo): Child[] {
  const { look, group } = node
  const place = model.at.get(node.key)
  const up = model.edges.filter((edge) => edge.passive === place && edge.active !== place)
  const down = model.edges.filter((edge) => edge.active === place && edge.passive !== place)
  const process = look?.process
  const listens = look?.listens?.map((one) => `${one.protocol} ${end(one.address, one.port)}`) ?? []
  return [
    h('h2', {}, node.title),
    facts([
      ['Where', node.place],
      !node.probe && ['Probe', 'no probe reports for this address: only what others see of it is known'],
      node.change !== 'same' && ['Change', h('span', { class: `change ${node.change}` }, node.change)],
      ['Label', [look?.label?.name, look?.label?.role, look?.label?.group].filter((word) => word !== undefined).map(visible).join(', ')],
      ['Address', look?.address],
      ['Program', process?.exe === undefined ? undefined : visible(process.exe)],
      ['User', process?.user === undefined ? undefined : visible(process.user)],
      ['Unit', process?.unit === undefined ? undefined : visible(process.unit)],
      ['Container', process?.container === undefined ? undefined : visible(process.container)],
      ['Pod', process?.pod === undefined ? undefined : visible(process.pod)],
      ['Process id', look?.pid === undefined ? undefined : `${look.pid}${look.pgid === undefined ? '' : `, group ${look.pgid}`}`],
      ['More owners', look?.owners_more === undefined ? undefined : String(look.owners_more)],
      ['Listens on', listens.length > 12 ? `${listens.slice(0, 12).join(', ')} and ${listens.length - 12} more` : listens.join(', ')],
      ['May be on', look?.claimed_by?.map(visible).join(', ')],
      group !== undefined && ['Nodes', `${count(group.nodes)}${Number(group.hosts) > 0 ? ` on ${count(group.hosts)} ${Number(group.hosts) === 1 ? 'host' : 'hosts'}` : ''}`],
      group !== undefined && ['Processes', processes(group.processes, group.processes_more)],
      ['Called by', String(new Set(up.map((edge) => edge.active)).size)],
      ['Calls', String(new Set(down.map((edge) => edge.passive)).size)],
    ]),
    h(
      'p',
      { class: 'links' },
      opens(node, model, link),
      group === undefined && focus(node, model) !== null && link({ ...focus(node, model), ways: 'up', depth: 4 }, 'All that depends on it'),
      group === undefined && focus(node, model) !== null && link({ ...focus(node, model), ways: 'down', depth: 4 }, 'All that it needs'),
      look?.host_id !== undefined && link({ ...FRESH, selector: { kind: 'host', value: look.host_id } }, 'Its whole host'),
    ),
    up.length + down.length > 0 && list([...up, ...down], model, link),
  ]
}

function processes(all: { name: string; nodes: Count }[], more: Count): string {
  const names = all.map((one) => (Number(one.nodes) === 1 ? visible(one.name) : `${visible(one.name)} ×${one.nodes}`))
  if (Number(more) > 0) names.push(`and ${more} more`)
  return names.join(', ')
}

const FRESH: Partial<State> = { selector: null, node: null, by: null, group: null, selected: null, sort: '' }

/** The view that begins at a node, or at what a group stands for; null where there is none. */
export function focus(node: Node, model: Model): Partial<State> | null {
  const { look, group } = node
  if (group !== undefined) {
    const kinds: Record<string, Selector['kind']> = { host: 'host', address: 'ip', subnet: 'ip', process: 'process', label: 'label' }
    const kind = kinds[group.kind]
    if (group.value === undefined) return null
    if (kind !== undefined) return { ...FRESH, selector: { kind, value: group.value }, depth: 1, ways: 'both' }
    // Nothing but the grouping itself can name these.
    return { ...FRESH, by: group.kind === 'none' ? model.by : group.kind, group: `${group.kind}:${group.value}`, depth: 1, ways: 'both' }
  }
  // Where all is there, a walk needs no other answer.
  const all: Selector = { kind: 'what', value: '*' }
  if (model.whole) return { ...FRESH, selector: all, node: node.key }
  if (look?.host_id !== undefined) return { ...FRESH, selector: { kind: 'host', value: look.host_id }, node: node.key }
  if (look?.address !== undefined) return { ...FRESH, selector: { kind: 'ip', value: look.address }, node: node.key }
  return null
}

function opens(node: Node, model: Model, link: LinkTo): Child {
  const state = focus(node, model)
  if (state === null) return 'These are not named one by one: search, filter, or group by something else.'
  return link(state, node.group === undefined ? `Focus on ${node.title}` : `Open ${node.title}`)
}
