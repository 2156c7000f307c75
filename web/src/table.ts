// The edges as a table, under the same filter as the graph. It is one stop for
// the tab key; the arrows go from row to row, Enter opens.

import { type Child, h, inPlace, put } from './dom.ts'
import { bytesOf, type Edge, isLater, type Model, type Node, openOf, someFail } from './model.ts'
import { seen } from './ages.ts'
import { bytes, number, rtt } from './text.ts'

interface Column {
  name: string
  /** What it says, for those who hear it. */
  about?: string
  numeric?: boolean
  /** Never broken into lines. */
  tight?: boolean
  order: (edge: Edge, model: Model) => string | number
  cell: (edge: Edge, model: Model) => Child
}

/** Rows at once: more of them would take longer to lay out than to read. */
export const PAGE = 100

const STATES = ['failing', 'alive', 'silent', 'ended']
const CHANGES = ['new', 'gone', 'changed', 'unknown', 'unsure', 'same']

function nodeOf(model: Model, place: number): Node | undefined {
  return model.nodes[place]
}

const words = new WeakMap<Node, string>()

/** What a node is ordered by; made once, as thousands of edges end at it. */
function wordsOf(node: Node | undefined): string {
  if (node === undefined) return ''
  let text = words.get(node)
  if (text === undefined) {
    text = `${node.title} ${node.place}`.toLowerCase()
    words.set(node, text)
  }
  return text
}

/** A name that is broken into lines behind its dots and dashes, if at all. */
function breakable(name: string): Child[] {
  return name.split(/(?<=[._@/:-])/).flatMap((part, place) => (place === 0 ? [part] : [h('wbr'), part]))
}

function nodeCell(node: Node | undefined): Child {
  return h('span', {}, ...breakable(node?.title ?? ''), h('small', {}, ...breakable(node?.place ?? '')))
}

const ends = (which: 'active' | 'passive'): Column => ({
  name: which === 'active' ? 'From' : 'To',
  about: which === 'active' ? 'the active end, which depends on the other' : 'the passive end',
  order: (edge, model) => wordsOf(nodeOf(model, edge[which])),
  cell: (edge, model) => (which === 'active' && edge.listens !== undefined ? h('small', {}, 'listens') : nodeCell(nodeOf(model, edge[which]))),
})

const STATE: Column = {
  name: 'State',
  // What fails in part is next to what fails.
  order: (edge) => (someFail(edge) !== null ? 0.5 : STATES.indexOf(edge.state)),
  cell: (edge) => {
    const some = someFail(edge)
    return h('span', { class: `state ${edge.state}` }, edge.state, some !== null && h('small', {}, some))
  },
}

const CHANGE: Column = {
  name: 'Change',
  order: (edge) => CHANGES.indexOf(edge.change),
  cell: (edge) => h('span', { class: `change ${edge.change}` }, edge.change, differences(edge)),
}

/** What a change is: `fails`, or of a link how many are new. */
function differences(edge: Edge): Child {
  const counts = new Map<string, number>()
  for (const one of edge.differences ?? []) counts.set(one.change, (counts.get(one.change) ?? 0) + 1)
  const words = [...counts].map(([change, count]) => (edge.link === undefined ? change : `${count} ${change}`))
  return words.length === 0 || words.join() === edge.change ? null : h('small', {}, words.join(', '))
}

const SEEN: Column = {
  name: 'Seen',
  about: 'how long ago it was last seen',
  numeric: true,
  order: (edge) => -edge.last,
  cell: (edge, model) => seen(edge.last, model),
}

const TOLD: Column = {
  name: 'Told',
  tight: true,
  order: (edge) => edge.told,
  about: 'which ends told of it',
  cell: (edge) => edge.told,
}

function rttOf(edge: Edge, model: Model): number | undefined {
  return isLater(edge, model) ? undefined : edge.look?.rtt_us
}

const PLAIN: Column[] = [
  STATE,
  ends('active'),
  ends('passive'),
  {
    name: 'Port',
    order: (edge) => edge.look?.port ?? edge.listens?.port ?? 0,
    cell: (edge) => {
      const { protocol, port } = edge.look ?? edge.listens ?? { protocol: '', port: '' }
      const address = edge.look?.passive_address ?? edge.listens?.address ?? ''
      return h('span', {}, h('span', { class: 'tight' }, `${protocol}/${port}`), h('small', { class: address.includes(':') ? null : 'tight' }, address))
    },
  },
  {
    name: 'Open',
    about: 'connections open',
    numeric: true,
    order: (edge, model) => openOf(edge, model) ?? -1,
    cell: (edge, model) => String(openOf(edge, model) ?? ''),
  },
  {
    name: 'Bytes',
    about: 'payload, both ways; of a part of the time, what was counted in it, in whole hours',
    numeric: true,
    order: (edge, model) => bytesOf(edge, model) ?? -1,
    cell: (edge, model) => {
      const count = bytesOf(edge, model)
      return count === undefined ? '' : bytes(count)
    },
  },
  {
    name: 'RTT',
    about: 'smallest round-trip time',
    numeric: true,
    order: (edge, model) => rttOf(edge, model) ?? -1,
    cell: (edge, model) => {
      const us = rttOf(edge, model)
      return us === undefined ? '' : rtt(us)
    },
  },
  TOLD,
  SEEN,
]

const FOLDED: Column[] = [
  STATE,
  ends('active'),
  ends('passive'),
  {
    name: 'Ports',
    order: (edge) => edge.link?.ports[0]?.port ?? 0,
    cell: (edge) => {
      const ports = edge.link?.ports.slice(0, 4) ?? []
      const more = (edge.link?.ports.length ?? 0) - ports.length + Number(edge.link?.ports_more ?? 0)
      const words = ports.flatMap((port) => [h('span', { class: 'tight' }, `${port.protocol}/${port.port}`), ' '])
      return h('span', {}, ...words, more > 0 && `+${more}`)
    },
  },
  { name: 'Edges', numeric: true, order: (edge) => edge.count, cell: (edge) => String(edge.count) },
  { name: 'Failing', numeric: true, order: (edge) => number(edge.link?.failing) ?? 0, cell: (edge) => String(edge.link?.failing ?? '') },
  SEEN,
]

function classOf(column: Column): string {
  return `${column.name.toLowerCase()}${column.numeric === true ? ' number' : column.tight === true ? ' tight' : ''}`
}

export interface TableWatcher {
  select: (key: string) => void
  sort: (sort: string) => void
}

export interface Table {
  /** `stay`: it is the same view as before, of a little later. */
  show: (model: Model, edges: number[], sort: string, selected: string | null, stay: boolean) => void
  select: (key: string | null) => void
}

export function table(place: HTMLElement, watcher: TableWatcher): Table {
  let model: Model | null = null
  let rows: Edge[] = []
  let columns: Column[] = PLAIN
  let sort = ''
  let selected: string | null = null
  let page = 0
  let hidden = 0
  function ordered(all: Edge[], of: Model): Edge[] {
    const down = sort.startsWith('-')
    const column = columns.find((one) => one.name === (down ? sort.slice(1) : sort))
    const sign = down ? -1 : 1
    const by = (one: Column, edge: Edge): string | number => one.order(edge, of)
    const first = columns[0]?.name === 'Change' ? [CHANGE, STATE] : [STATE]
    const keys = column === undefined ? [...first, ends('active'), ends('passive')] : [column]
    // A number for each value is made once, and compared faster than a text.
    const ranks = keys.map((one) => {
      const values = all.map((edge) => by(one, edge))
      const inOrder = [...new Set(values)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
      const rank = new Map(inOrder.map((value, place) => [value, place * (column === undefined ? 1 : sign)]))
      return Int32Array.from(values, (value) => rank.get(value) ?? 0)
    })
    const order = Array.from(all, (_, place) => place)
    order.sort((a, b) => {
      for (const rank of ranks) {
        const between = (rank[a] ?? 0) - (rank[b] ?? 0)
        if (between !== 0) return between
      }
      return (all[a]?.key ?? '') < (all[b]?.key ?? '') ? -1 : 1
    })
    return order.flatMap((place) => all[place] ?? [])
  }

  function render(focus: number | null): void {
    const of = model
    if (of === null) return
    const begin = page * PAGE
    const some = rows.slice(begin, begin + PAGE)
    const focused = place.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset['key'] : undefined
    const there = some.findIndex((edge) => edge.key === focused)
    const current = Math.max(0, focus ?? (there >= 0 ? there : some.findIndex((edge) => edge.key === selected)))
    const head = columns.map((column) => {
      const active = sort === column.name ? 'ascending' : sort === `-${column.name}` ? 'descending' : 'none'
      const click = (): void => watcher.sort(active === 'ascending' ? `-${column.name}` : column.name)
      const sign = active === 'ascending' ? ' ▲' : active === 'descending' ? ' ▼' : ''
      const button = h('button', { type: 'button', 'data-key': column.name, click }, column.name + sign)
      return h('th', { scope: 'col', class: column.name.toLowerCase(), 'aria-sort': active, title: column.about }, button)
    })
    const body = some.map((edge, row) =>
      h(
        'tr',
        {
          tabindex: row === current ? 0 : -1,
          'aria-selected': String(edge.key === selected),
          'aria-rowindex': begin + row + 2,
          'data-key': edge.key,
          click: () => watcher.select(edge.key),
          keydown: (event: KeyboardEvent) => key(event, row),
        },
        ...columns.map((column) => h('td', { class: classOf(column) }, column.cell(edge, of))),
      ),
    )
    const counted = `${rows.length} ${of.folded ? 'links between groups' : rows.length === 1 ? 'edge' : 'edges'}`
    const said = hidden > 0 ? `${counted}; the filter hides ${hidden}` : counted
    const grid = h(
      'table',
      { role: 'grid', class: of.compared ? 'compared' : null, 'aria-rowcount': rows.length + 1 },
      h('caption', {}, said),
      h('thead', {}, h('tr', { 'aria-rowindex': 1 }, ...head)),
      h('tbody', {}, ...body),
    )
    const pages = Math.ceil(rows.length / PAGE)
    const turn = (by: number) => (): void => {
      page += by
      render(0)
      place.scrollTop = 0
      place.querySelector<HTMLElement>('tbody tr')?.focus()
    }
    const pager =
      pages > 1 &&
      h(
        'div',
        { class: 'pages' },
        h('button', { type: 'button', disabled: page === 0, click: turn(-1) }, 'Previous'),
        `rows ${begin + 1} to ${begin + some.length} of ${rows.length}`,
        h('button', { type: 'button', disabled: page >= pages - 1, click: turn(1) }, 'Next'),
      )
    // All is made anew, the header that was pressed as well.
    inPlace(place, () => put(place, grid, pager))
  }

  function key(event: KeyboardEvent, row: number): void {
    const all = [...place.querySelectorAll<HTMLElement>('tbody tr')]
    const to: Record<string, number> = { ArrowDown: row + 1, ArrowUp: row - 1, Home: 0, End: all.length - 1, PageDown: row + 10, PageUp: row - 10 }
    const wanted = to[event.key]
    if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault()
      const edge = rows[page * PAGE + row]
      if (edge !== undefined) watcher.select(edge.key)
    } else if (wanted !== undefined) {
      event.preventDefault()
      const next = all[Math.min(all.length - 1, Math.max(0, wanted))]
      for (const other of all) other.tabIndex = other === next ? 0 : -1
      next?.focus()
    }
  }

  /** Scrolls the table to a row of it, not the page to the table. */
  function reveal(chosen: string | null): void {
    const row = [...place.querySelectorAll<HTMLElement>('tbody tr')].find((one) => one.dataset['key'] === chosen)
    if (row === undefined) return
    const [own, its] = [place.getBoundingClientRect(), row.getBoundingClientRect()]
    const above = own.top + (place.querySelector('thead')?.clientHeight ?? 0) - its.top
    const below = its.bottom - own.bottom
    if (above > 0) place.scrollTop -= Math.ceil(above)
    else if (below > 0) place.scrollTop += Math.ceil(below)
  }

  return {
    show(of, edges, by, chosen, stay) {
      columns = [...(of.compared ? [CHANGE] : []), ...(of.folded ? FOLDED : PLAIN)]
      model = of
      sort = by
      selected = chosen
      hidden = of.edges.length - edges.length
      rows = ordered(edges.flatMap((one) => of.edges[one] ?? []), of)
      const at = rows.findIndex((edge) => edge.key === chosen)
      if (stay) page = Math.min(page, Math.max(0, Math.ceil(rows.length / PAGE) - 1))
      else page = at < 0 ? 0 : Math.floor(at / PAGE)
      render(null)
      if (!stay) place.scrollTop = 0
      if (!stay && at >= 0) reveal(chosen)
    },
    select(chosen) {
      selected = chosen
      const at = rows.findIndex((edge) => edge.key === chosen)
      const there = at >= 0 && Math.floor(at / PAGE) !== page
      if (there) {
        page = Math.floor(at / PAGE)
        render(null)
      }
      for (const row of place.querySelectorAll<HTMLElement>('tbody tr')) row.setAttribute('aria-selected', String(row.dataset['key'] === chosen))
      reveal(chosen)
    },
  }
}
