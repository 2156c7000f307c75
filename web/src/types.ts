// What the collector answers: docs/look-json.md and docs/groups-json.md, in
// types. What is not known is absent.

/** A count beyond 2^53 comes as digits. */
export type Count = number | string

export interface Process {
  name: string
  exe?: string
  user?: string
  unit?: string
  container?: string
  pod?: string
}

export interface Listen {
  protocol: string
  address: string
  port: number
}

export interface LookNode {
  id: number
  probe: boolean
  host?: string
  host_id?: string
  scope?: string
  address?: string
  port?: number
  process?: Process
  pid?: number
  pgid?: number
  owners_more?: number
  listens?: Listen[]
  claimed_by?: string[]
  label?: { name?: string; role?: string; group?: string }
  root: boolean
}

export interface Rise {
  told_by: string
  opened?: Count
  failed?: Count
  bytes_to_passive?: Count
  bytes_to_active?: Count
  retransmits?: Count
}

export interface LookEdge {
  active: number
  passive: number
  direction: string
  protocol: string
  port: number
  active_port?: number
  active_address: string
  passive_address: string
  told_by: 'active' | 'passive' | 'both'
  confidence: string
  rungs: string[]
  first_seen: string
  last_seen: string
  state: 'alive' | 'failing' | 'ended' | 'silent'
  failing: boolean
  open: Count
  connecting: Count
  opened?: Count
  failed?: Count
  refused?: Count
  timed_out?: Count
  unreachable?: Count
  bytes_to_passive?: Count
  bytes_to_active?: Count
  retransmits?: Count
  rtt_us?: number
  shared?: number
  window?: Rise
  depth: number
  way: string
  cycle: boolean
}

export interface Host {
  name: string
  id: string
  rung: string
  first_seen: string
  last_seen: string
  rivals?: string[]
  clock_skew_s?: number
}

export interface Query {
  selector: { kind: string; value: string }
  since?: string
  until?: string
  depth: number
  ways: string
}

export interface Cut {
  hosts: Count
  addresses: Count
  edges: Count
  window?: boolean
}

export interface Look {
  schema: 'shawk.look/1'
  generated: string
  query: Query
  nodes: LookNode[]
  edges: LookEdge[]
  hosts: Host[]
  unprobed_peers: Count
  unused_listeners: Count
  malformed: Count
  cut: Cut
  notes: string[]
}

export interface Group {
  id: number
  kind: string
  value?: string
  name: string
  probe: boolean
  nodes: Count
  hosts: Count
  processes: { name: string; nodes: Count }[]
  processes_more: Count
  groups?: Count
}

export interface Link {
  active: number
  passive: number
  edges: Count
  alive: Count
  failing: Count
  ended: Count
  silent: Count
  told_by_active: Count
  told_by_passive: Count
  told_by_both: Count
  direction_unknown: Count
  ports: { protocol: string; port: number; edges: Count }[]
  ports_more: Count
  first_seen: string
  last_seen: string
}

export interface Groups {
  schema: 'shawk.groups/1'
  generated: string
  query: Query
  by: string
  groups: Group[]
  links: Link[]
  hosts: { count: Count; silent: Count; first_seen?: string; last_seen?: string }
  notes: string[]
  malformed: Count
  cut: Cut
}

/** An end of an edge, in the collector's conclusions. */
export interface Who {
  probe: boolean
  host?: string
  host_id?: string
  scope?: string
  process?: Process
  pgid?: number
  address?: string
  port?: number
  label?: { name?: string; role?: string; group?: string }
}

export interface Difference {
  kind: 'edge' | 'listener'
  change: 'new' | 'gone' | 'fails' | 'works' | 'process'
  active?: Who
  passive: Who
  protocol: string
  active_address?: string
  address: string
  port: number
  first_seen: string
  last_seen?: string
  was?: string[]
  is?: string[]
}

/** What differs between two times: docs/commands-json.md. */
export interface Diff {
  schema: 'shawk.diff/1'
  generated: string
  total: Count
  items: Difference[]
  from: string
  to: string
  window_s: number
  occasional: Count
  undecided: Count
  unheard: { host?: string; at: string; things: Count }[]
  unheard_total: Count
  forgotten?: { host?: string; since: string }[]
  /** Of the later time, and of the earlier one. */
  cut: Cut
  cut_before: Cut
}

export type Answer = Look | Groups

/** What a search found: docs/groups-json.md. */
export interface Found {
  schema: 'shawk.search/1'
  found: { kind: string; value: string; name: string; hosts?: Count; as?: string[] }[]
  more: boolean
}
