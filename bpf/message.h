/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Messages: UDP is added up by them, and of TCP they tell whose an accepted
 * connection is.
 */
#ifndef SHAWK_MESSAGE_H
#define SHAWK_MESSAGE_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "flow.h"
#include "socket.h"
#include "count.h"
#include "process.h"
#include "track.h"
#include "connection.h"

/* Whether the peers of unconnected UDP sockets are told. */
const volatile __u32 knows_peers;

struct end {
	__u8 address[16];
	__u16 port;
	__u16 reserved[3];
};

/* The other end of the message that a thread is sending or has received. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct end);
} ends SEC(".maps");

struct talk {
	__u64 socket;
	struct end peer;
};

/* Who spoke first, of the peers of UDP sockets that have no fixed one. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct talk);
	__type(value, __u8);
} talks SEC(".maps");

/*
 * Fills in the peer and the direction of a datagram on a socket that has none;
 * false if nobody told of it.
 */
static __always_inline bool find_talk(struct descriptor *d, struct sock *sk, struct end *peer,
				      bool sends, bool *is_new)
{
	struct talk talk;
	__u8 opened, *known;

	if (!peer)
		return false;
	__builtin_memset(&talk, 0, sizeof(talk));
	talk.socket = (__u64)sk;
	talk.peer = *peer;
	__builtin_memcpy(d->peer, peer->address, sizeof(d->peer));
	d->peer_port = peer->port;
	known = bpf_map_lookup_elem(&talks, &talk);
	if (known) {
		d->opened = *known;
		return true;
	}
	*is_new = true;
	opened = OPENED_PASSIVE;
	if (sends || !(settled || d->flags & SOCKET_PORT_CHOSEN))
		opened = OPENED_ACTIVE;
	d->opened = opened;
	bpf_map_update_elem(&talks, &talk, &opened, BPF_ANY);
	return true;
}

/* A socket with a fixed peer is told of others' messages, too, where they are
 * asked for (recvfrom), and may send to another (sendto). */
static __always_inline bool is_fixed(struct descriptor *d, struct end *peer)
{
	if (!d->peer_port || !peer)
		return d->peer_port;
	return peer->port == d->peer_port && is_same_address(peer->address, d->peer);
}

/* Who begins on a socket, as its first datagram says; not known of one that
 * may have had others before anybody listened. */
static __always_inline void note_first(struct track *track, bool sends)
{
	if (settled && !track->opened)
		track->opened = sends ? OPENED_ACTIVE : OPENED_PASSIVE;
}

static __always_inline void count_datagram(struct sock *sk, int length, bool sends)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct end *peer = NULL;
	struct descriptor d;
	struct flow_key key;
	struct track *track = NULL;
	struct flow *flow;
	bool is_new = false, fixed;
	__u32 pid;

	if (knows_peers)
		peer = bpf_map_lookup_elem(&ends, &thread);
	pid = own_pid();
	if (!pid || length <= 0 || !read_socket(&d, sk, false))
		goto out;
	fixed = is_fixed(&d, peer);
	if (!fixed && !find_talk(&d, sk, peer, sends, &is_new)) {
		if (knows_peers)
			__sync_fetch_and_add(&losses.datagrams, 1);
		goto out;
	}
	if (fixed || (is_new && d.flags & SOCKET_PORT_CHOSEN))
		track = bpf_sk_storage_get(&tracks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (track && fixed) {
		is_new = !track->pid;
		track->pid = pid;
	}
	if (track && is_new)
		note_first(track, sends);
	if (track && fixed)
		heed_first(&d, track);
	if (is_new)
		note_process(pid);
	d.pid = pid;
	d.netns = sk->__sk_common.skc_net.net->ns.inum;
	key_of(&key, &d);
	flow = counted_flow_of(&key);
	if (!flow)
		goto out;
	add_u32(&flow->opened, is_new);
	add_u64(sends ? &flow->bytes_sent : &flow->bytes_received, length);
out:
	if (peer)
		bpf_map_delete_elem(&ends, &thread);
}

static __always_inline void use(struct sock *sk, int length, bool sends)
{
	__u16 protocol = BPF_CORE_READ_BITFIELD(sk, sk_protocol);

	if (protocol == IPPROTO_TCP)
		claim(sk);
	else if (protocol == IPPROTO_UDP)
		count_datagram(sk, length, sends);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(sent, struct sock *sk, int length, int flags)
{
	use(sk, length, true);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(received, struct sock *sk, int length, int flags)
{
	if (!(flags & MSG_PEEK))
		use(sk, length, false);
	return 0;
}

static __always_inline int remember(struct end *peer, __be32 port)
{
	__u64 thread = bpf_get_current_pid_tgid();

	peer->port = bpf_ntohs((__be16)port);
	bpf_map_update_elem(&ends, &thread, peer, BPF_ANY);
	/* Let it pass. */
	return 1;
}

static __always_inline int remember_v4(struct bpf_sock_addr *context)
{
	struct end peer = {};

	map_v4(peer.address, context->user_ip4);
	return remember(&peer, context->user_port);
}

static __always_inline int remember_v6(struct bpf_sock_addr *context)
{
	struct end peer = {};
	__be32 *words = (__be32 *)peer.address;

	words[0] = context->user_ip6[0];
	words[1] = context->user_ip6[1];
	words[2] = context->user_ip6[2];
	words[3] = context->user_ip6[3];
	return remember(&peer, context->user_port);
}

SEC("cgroup/sendmsg4")
int send_v4(struct bpf_sock_addr *context)
{
	return remember_v4(context);
}

SEC("cgroup/recvmsg4")
int receive_v4(struct bpf_sock_addr *context)
{
	return remember_v4(context);
}

SEC("cgroup/sendmsg6")
int send_v6(struct bpf_sock_addr *context)
{
	return remember_v6(context);
}

SEC("cgroup/recvmsg6")
int receive_v6(struct bpf_sock_addr *context)
{
	return remember_v6(context);
}

#endif
