// Answers for tests, a line an edge:
// `process@host address > process@host address:port state told`; `-` has no probe.

import type { Look, LookEdge, LookNode } from '../src/types.ts'

export const NOW = Date.parse('2026-01-31T12:00:00Z')

export function look(text: string, more: { all?: boolean; until?: string } = {}): Look {
  const nodes = new Map<string, LookNode>()
  const node = (who: string, address: string): number => {
    const name = who === '-' ? `-${address}` : who
    const known = nodes.get(name)
    if (known !== undefined) return known.id
    const [process = '', host = ''] = who.split('@')
    const id = nodes.size
    nodes.set(name, who === '-'
      ? { id, probe: false, address, root: false }
      : { id, probe: true, host, host_id: `id-${host}`, scope: '', address, process: { name: process }, pgid: 7, root: id === 0 })
    return id
  }
  const edges = text.trim().split('\n').filter((line) => line.trim() !== '').map((line): LookEdge => {
    const [active = '', from = '', , passive = '', to = '', state = 'alive', told = 'both'] = line.trim().split(/\s+/)
    const colon = to.lastIndexOf(':')
    const at = new Date(NOW - 60_000).toISOString()
    return {
      active: node(active, from),
      passive: node(passive, to.slice(0, colon)),
      direction: 'known',
      protocol: 'tcp',
      port: Number(to.slice(colon + 1)),
      active_address: from,
      passive_address: to.slice(0, colon),
      told_by: told as LookEdge['told_by'],
      confidence: told === 'both' ? 'confirmed' : 'one end',
      rungs: ['netlink'],
      first_seen: new Date(NOW - 3_600_000).toISOString(),
      last_seen: at,
      state: state as LookEdge['state'],
      failing: state === 'failing',
      open: 1,
      connecting: 0,
      bytes_to_passive: 1500,
      bytes_to_active: 2500,
      rtt_us: 900,
      depth: 1,
      way: 'down',
      cycle: false,
    }
  })
  return {
    schema: 'shawk.look/1',
    generated: new Date(NOW).toISOString(),
    query: {
      selector: more.all === true ? { kind: 'all', value: '*' } : { kind: 'host', value: 'x' },
      depth: 1,
      ways: 'both',
      ...(more.until === undefined ? {} : { until: more.until }),
    },
    nodes: [...nodes.values()],
    edges,
    hosts: [],
    unprobed_peers: 0,
    unused_listeners: 0,
    malformed: 0,
    cut: { hosts: 0, addresses: 0, edges: 0 },
    notes: [],
  }
}
