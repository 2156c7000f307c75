/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Host flows and the maps in which they are added up. */
#ifndef SHAWK_COUNT_H
#define SHAWK_COUNT_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "flow.h"

/*
 * Two of them: one is filled, the other is being emptied. User space swaps
 * them and lets a grace period pass before it reads, so that nothing is added
 * to a flow that was already read.
 */
struct flows {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, struct flow);
};

struct flows flows_even SEC(".maps");
struct flows flows_odd SEC(".maps");

/* Which of them is filled. */
__u32 turn;

struct losses losses;

static __always_inline void key_of(struct flow_key *key, struct descriptor *d)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = d->netns;
	key->pid = d->pid;
	__builtin_memcpy(key->local, d->local, sizeof(key->local));
	__builtin_memcpy(key->peer, d->peer, sizeof(key->peer));
	if (d->opened != OPENED_ACTIVE)
		key->local_port = d->local_port;
	if (d->opened != OPENED_PASSIVE)
		key->peer_port = d->peer_port;
	key->opened = d->opened;
	key->protocol = d->protocol;
	key->port_chosen = !!(d->flags & SOCKET_PORT_CHOSEN);
}

static __always_inline struct flow *flow_in(void *map, struct flow_key *key)
{
	struct flow *flow = bpf_map_lookup_elem(map, key);
	struct flow none;

	if (flow)
		return flow;
	__builtin_memset(&none, 0, sizeof(none));
	/* Another processor may have been faster. */
	bpf_map_update_elem(map, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

/* The flow with that key, new where there was none; NULL where it found no room. */
static __always_inline struct flow *flow_of(struct flow_key *key)
{
	return *(volatile __u32 *)&turn & 1 ? flow_in(&flows_odd, key)
					    : flow_in(&flows_even, key);
}

/* As above; what finds no room is counted. */
static __always_inline struct flow *counted_flow_of(struct flow_key *key)
{
	struct flow *flow = flow_of(key);

	if (!flow)
		__sync_fetch_and_add(&losses.flows, 1);
	return flow;
}

/* Adds, unless it is nothing: the bus is locked for it. */
static __always_inline void add_u32(__u32 *to, __u32 count)
{
	if (count)
		__sync_fetch_and_add(to, count);
}

static __always_inline void add_u64(__u64 *to, __u64 count)
{
	if (count)
		__sync_fetch_and_add(to, count);
}

static __always_inline void note_rtt(struct flow *flow, __u32 rtt_us)
{
	/* Two processors at once may keep the larger; it is a hint. */
	if (rtt_us && (!flow->rtt_us || rtt_us < flow->rtt_us))
		flow->rtt_us = rtt_us;
}

#endif
