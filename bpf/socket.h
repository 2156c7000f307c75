/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* One socket, read. */
#ifndef SHAWK_SOCKET_H
#define SHAWK_SOCKET_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "flow.h"

static __always_inline bool is_locked(struct sock *sk)
{
	if (sk->sk_lock.owned)
		return true;
	if (bpf_core_field_exists(sk->sk_lock.slock.rlock.raw_lock.val))
		return sk->sk_lock.slock.rlock.raw_lock.val.counter;
	return false;
}

/*
 * Whether the counters say that this side sent the SYN. bytes_acked grows with
 * snd_una and began one earlier there (tcp_rcv_synsent_state_process), so what
 * was acknowledged or is in flight exceeds the payload that was sent by one,
 * and on the other side by nothing. A FIN that was sent counts one more.
 *
 * A segment that was dropped before it left counts as payload twice, and then
 * this says no; so no is no evidence. The fields change under the socket's
 * lock alone, but in an order: write_seq before bytes_sent before snd_nxt,
 * bytes_acked before snd_una. So they belong together if none has moved and
 * either nothing was queued or in flight, or nobody had the lock. Each costs a
 * cache line: those that are rarely needed are not looked at.
 */
static __always_inline bool has_sent_syn(struct sock *sk, struct tcp_sock *tp, __u8 state)
{
	__u32 una, nxt, end, fin = 0;
	__u64 sent, acked;
	bool idle;

	una = tp->snd_una;
	nxt = tp->snd_nxt;
	end = tp->write_seq;
	idle = una == end && nxt == end;
	if (!idle && is_locked(sk))
		return false;
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
		fin = nxt == end;
	barrier();
	sent = tp->bytes_sent;
	acked = tp->bytes_acked;
	if (acked + (nxt - una) - sent - fin != 1 &&
	    acked + (nxt - una) - sent - fin + tp->bytes_retrans != 1)
		return false;
	barrier();
	return acked == tp->bytes_acked && una == tp->snd_una && nxt == tp->snd_nxt &&
	       sent == tp->bytes_sent && end == tp->write_seq && (idle || !is_locked(sk));
}

/*
 * Who opened a connection. The child of a listener has its backlog and not its
 * lock on a port (sk_clone), so either of these is proof; what connects has no
 * backlog, and then the counters tell it from the child of a listener that had
 * none either. What TCP_REPAIR brought back gives no evidence.
 */
static __always_inline __u8 direction_of(struct sock *sk, struct tcp_sock *tp, __u8 state)
{
	if (sk->sk_max_ack_backlog)
		return OPENED_PASSIVE;
	if (has_sent_syn(sk, tp, state))
		return OPENED_ACTIVE;
	if (BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
		return OPENED_ACTIVE;
	return OPENED_UNKNOWN;
}

static __always_inline void map_v4(__u8 *into, __be32 address)
{
	__be32 *words = (__be32 *)into;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

static __always_inline void copy_v6(__u8 *into, struct in6_addr *address)
{
	__be32 *words = (__be32 *)into;

	words[0] = address->in6_u.u6_addr32[0];
	words[1] = address->in6_u.u6_addr32[1];
	words[2] = address->in6_u.u6_addr32[2];
	words[3] = address->in6_u.u6_addr32[3];
}

static __always_inline void read_ends(struct descriptor *d, struct sock *sk)
{
	d->local_port = sk->__sk_common.skc_num;
	d->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	if (sk->__sk_common.skc_family == AF_INET) {
		map_v4(d->local, sk->__sk_common.skc_rcv_saddr);
		map_v4(d->peer, sk->__sk_common.skc_daddr);
	} else {
		copy_v6(d->local, &sk->__sk_common.skc_v6_rcv_saddr);
		copy_v6(d->peer, &sk->__sk_common.skc_v6_daddr);
		if (BPF_CORE_READ_BITFIELD(sk, __sk_common.skc_ipv6only))
			d->flags |= SOCKET_V6_ONLY;
	}
}

static __always_inline void read_tcp(struct descriptor *d, struct sock *sk, bool proves)
{
	struct tcp_sock *tp;

	d->protocol = IPPROTO_TCP;
	if (!proves)
		return;
	if (d->state == TCP_SYN_SENT)
		d->opened = OPENED_ACTIVE;
	if (d->state == TCP_LISTEN || d->state == TCP_SYN_SENT)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	d->rtt_us = tp->srtt_us >> 3;
	d->opened = direction_of(sk, tp, d->state);
}

static __always_inline void read_udp(struct descriptor *d, struct sock *sk)
{
	d->protocol = IPPROTO_UDP;
	if (BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
		d->flags |= SOCKET_PORT_CHOSEN;
	else if (d->peer_port)
		d->opened = OPENED_ACTIVE;
}

static __always_inline bool is_same_address(__u8 *one, __u8 *other)
{
	__u64 *a = (__u64 *)one, *b = (__u64 *)other;

	return a[0] == b[0] && a[1] == b[1];
}

/* PostgreSQL, up to version 14, sends its statistics so. */
static __always_inline bool talks_to_itself(struct descriptor *d)
{
	return d->local_port == d->peer_port && is_same_address(d->local, d->peer);
}

/*
 * Fills d, but for the namespace and the process, from a TCP or UDP socket that
 * has a port and another end; false for any other. Who opened it and how far
 * away its peer is costs more, and is read if `proves`. The socket of an MPTCP
 * connection stands for its subflows, which no descriptor leads to; its own
 * counters are of another kind.
 */
static __always_inline bool read_socket(struct descriptor *d, struct sock *sk, bool proves)
{
	__u16 family = sk->__sk_common.skc_family;
	__u16 protocol = BPF_CORE_READ_BITFIELD(sk, sk_protocol);

	if (family != AF_INET && family != AF_INET6)
		return false;
	__builtin_memset(d, 0, sizeof(*d));
	d->state = sk->__sk_common.skc_state;
	if (protocol == IPPROTO_UDP) {
		read_ends(d, sk);
		read_udp(d, sk);
		return d->local_port && !talks_to_itself(d);
	}
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
		return false;
	/* Not yet connected, or no more: the stack does not know it. */
	if (d->state == TCP_CLOSE)
		return false;
	read_ends(d, sk);
	read_tcp(d, sk, proves);
	return true;
}

#endif
