/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * TCP between two passes: connections that open, move bytes, fail and close.
 * Nothing is sent anywhere, all is added up.
 */
#ifndef SHAWK_CONNECTION_H
#define SHAWK_CONNECTION_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "flow.h"
#include "socket.h"
#include "count.h"
#include "process.h"
#include "track.h"

/*
 * Set once the first passes are done. What is heard from a peer before may be
 * the answer to what nobody heard, and what closes may not be known.
 */
__u32 settled;

/*
 * The key of a connection's flow. Its own port is read where closing leaves
 * it: sk_num is given back before anybody is told.
 */
static __always_inline void key_of_tcp(struct flow_key *key, struct sock *sk,
				       struct tcp_sock *tp, __u32 pid, __u8 opened)
{
	key->netns = sk->__sk_common.skc_net.net->ns.inum;
	key->pid = pid;
	if (sk->__sk_common.skc_family == AF_INET) {
		map_v4(key->local, sk->__sk_common.skc_rcv_saddr);
		map_v4(key->peer, sk->__sk_common.skc_daddr);
	} else {
		copy_v6(key->local, &sk->__sk_common.skc_v6_rcv_saddr);
		copy_v6(key->peer, &sk->__sk_common.skc_v6_daddr);
	}
	key->local_port = 0;
	if (opened != OPENED_ACTIVE)
		key->local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	key->peer_port = 0;
	if (opened != OPENED_PASSIVE)
		key->peer_port = bpf_ntohs(sk->__sk_common.skc_dport);
	key->opened = opened;
	key->protocol = IPPROTO_TCP;
	key->port_chosen = 0;
	key->reserved = 0;
}

/* Payload that was acknowledged: a FIN that was sent is the last of it. */
static __always_inline __u64 payload_sent(struct tcp_sock *tp, __u8 syn, __u8 state)
{
	/* Read before what tells of the FIN: it may be missing one, never have
	 * one too many, and the next reading has it. */
	__u64 acked = tp->bytes_acked;
	__u64 extra = syn;

	barrier();
	if (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT && state != TCP_SYN_SENT &&
	    tp->snd_una == tp->write_seq)
		extra++;
	return acked > extra ? acked - extra : 0;
}

/* Payload that came: the other end's FIN is counted as a byte. */
static __always_inline __u64 payload_received(struct sock *sk, struct tcp_sock *tp)
{
	__u64 received = tp->bytes_received;

	barrier();
	if (received && sk->__sk_common.skc_flags & (1UL << SOCK_DONE))
		received--;
	return received;
}

/*
 * How much `now` is beyond what was added up, which it becomes. A pass and a
 * closing connection may meet here; one of them gets it.
 */
static __always_inline __u64 take(__u64 *seen, __u64 now)
{
	__u64 before = *(volatile __u64 *)seen;

	if (now <= before || __sync_val_compare_and_swap(seen, before, now) != before)
		return 0;
	return now - before;
}

/* Adds up what a socket has done since the last time. */
static __always_inline void settle(struct sock *sk, struct tcp_sock *tp, struct track *track,
				   __u8 state)
{
	__u32 opened, repeated, before;
	__u64 sent, received;
	struct flow_key key;
	struct flow *flow;

	opened = state != TCP_SYN_SENT && state != TCP_SYN_RECV && track->pending &&
		 __sync_val_compare_and_swap(&track->pending, 1, 0) == 1;
	sent = take(&track->sent, payload_sent(tp, track->syn, state));
	received = take(&track->received, payload_received(sk, tp));
	before = track->retransmits;
	repeated = tp->total_retrans;
	if (repeated <= before ||
	    __sync_val_compare_and_swap(&track->retransmits, before, repeated) != before)
		repeated = before;
	if (!opened && !sent && !received && repeated == before)
		return;
	key_of_tcp(&key, sk, tp, track->pid, track->opened);
	flow = counted_flow_of(&key);
	if (!flow)
		return;
	add_u32(&flow->opened, opened);
	add_u64(&flow->bytes_sent, sent);
	add_u64(&flow->bytes_received, received);
	add_u32(&flow->retransmits, repeated - before);
	note_rtt(flow, tp->srtt_us >> 3);
}

static __always_inline void listener_of(struct listener *listener, struct descriptor *d)
{
	__builtin_memset(listener, 0, sizeof(*listener));
	listener->netns = d->netns;
	listener->port = d->local_port;
	__builtin_memcpy(listener->address, d->local, sizeof(listener->address));
}

/* Follows a socket that a pass has found for the first time; NULL if there is
 * nothing to add up. */
static __always_inline struct track *adopt(struct sock *sk, struct tcp_sock *tp,
					   struct descriptor *found)
{
	struct young *young = find_young(sk);
	struct track *track = new_track(sk);
	__u64 about;

	if (!track)
		return NULL;
	about = young ? *(volatile __u64 *)&young->about : 0;
	if (about) {
		fill_track(track, about);
		if (leave_young(young, sk))
			return track;
		/* It has closed, and all of it was added up. */
		track->pending = 0;
	} else {
		track->pid = found->pid;
		track->claimed = 1;
		track->pending = found->state == TCP_SYN_SENT;
		track->opened = found->opened;
		track->syn = found->opened == OPENED_ACTIVE;
	}
	track->sent = payload_sent(tp, track->syn, found->state);
	track->received = payload_received(sk, tp);
	track->retransmits = tp->total_retrans;
	barrier();
	track->filled = 1;
	return NULL;
}

/*
 * What its first datagram said of a UDP socket whose process chose the port:
 * one that sent first is taken for a client's, as a port that the kernel chose
 * is, unless others listen there; one that heard first is a service's.
 */
static __always_inline void heed_first(struct descriptor *d, struct track *track)
{
	if (!(d->flags & SOCKET_PORT_CHOSEN))
		return;
	if (track->opened == OPENED_ACTIVE)
		d->flags &= ~SOCKET_PORT_CHOSEN;
	else if (track->opened == OPENED_PASSIVE)
		d->opened = OPENED_PASSIVE;
}

/* A pass has come to a socket. What was open before the probe, or could not be
 * followed, is followed from here on. */
static __always_inline void follow(struct sock *sk, struct descriptor *found, bool once)
{
	struct listener listener;
	struct track *track;
	struct tcp_sock *tp;

	if (found->protocol == IPPROTO_UDP) {
		track = bpf_sk_storage_get(&tracks, sk, NULL, 0);
		if (track)
			heed_first(found, track);
		return;
	}
	if (found->state == TCP_LISTEN) {
		listener_of(&listener, found);
		keep_listener(&listener, found->pid, once);
		return;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	track = find_track(sk);
	if (!track)
		track = adopt(sk, tp, found);
	if (!track)
		return;
	if (once || !track->claimed) {
		track->claimed = 1;
		track->pid = found->pid;
	}
	settle(sk, tp, track, found->state);
}

static __always_inline void connects(struct sock *sk)
{
	__u32 pid = own_pid();
	struct track *track;
	__u64 about;

	if (!pid)
		return;
	note_process(pid);
	about = young_of(pid, OPENED_ACTIVE);
	/* A socket may connect again after it was disconnected: what was kept
	 * with it then is emptied. */
	if (!find_track(sk) && enter_young(sk, about))
		return;
	track = new_track(sk);
	if (track)
		fill_track(track, about);
}

static __always_inline void listens(struct sock *sk)
{
	__u32 pid = own_pid();
	struct listener listener;
	struct descriptor d;

	if (!pid)
		return;
	note_process(pid);
	__builtin_memset(&d, 0, sizeof(d));
	read_ends(&d, sk);
	/* It chooses a port after it has told of itself; the pass finds it. */
	if (!d.local_port)
		return;
	d.netns = sk->__sk_common.skc_net.net->ns.inum;
	listener_of(&listener, &d);
	keep_listener(&listener, pid, true);
}

static __always_inline void stops_listening(struct sock *sk, struct tcp_sock *tp)
{
	struct listener listener;
	struct descriptor d;

	__builtin_memset(&d, 0, sizeof(d));
	read_ends(&d, sk);
	d.local_port = bpf_ntohs(tp->inet_conn.icsk_inet.inet_sport);
	d.netns = sk->__sk_common.skc_net.net->ns.inum;
	listener_of(&listener, &d);
	/* If others listen there as well, the next pass finds them. */
	bpf_map_delete_elem(&listeners, &listener);
}

/* What a listener gets. Whoever uses it claims it. */
static __always_inline void is_accepted(struct sock *sk)
{
	__u64 about = young_of(0, OPENED_PASSIVE);
	struct track *track;

	/* The kernel's own; and both ends may open one at once, which then began
	 * with this one. */
	if (BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
		return;
	if (!sk->sk_max_ack_backlog && (find_young(sk) || find_track(sk)))
		return;
	if (enter_young(sk, about))
		return;
	track = new_track(sk);
	if (track)
		fill_track(track, about);
}

/* The current process uses a socket. Without a backlog that is no child of a
 * listener, but for one of a listener that had none either, and it waits for
 * the next pass. */
static __always_inline void claim(struct sock *sk)
{
	struct track *track = NULL;
	struct young *young;
	__u64 about = 0;
	__u32 pid;

	if (!sk->sk_max_ack_backlog)
		return;
	young = find_young(sk);
	if (young) {
		about = *(volatile __u64 *)&young->about;
		if (!about || (__u32)about)
			return;
	} else {
		track = find_track(sk);
		if (!track || track->claimed)
			return;
	}
	pid = own_pid();
	if (!pid)
		return;
	note_process(pid);
	if (young) {
		__sync_val_compare_and_swap(&young->about, about, about | pid);
	} else if (track) {
		track->claimed = 1;
		track->pid = pid;
	}
}

static __always_inline void count_failed(struct sock *sk, struct flow *flow)
{
	switch (sk->sk_err) {
	case ECONNREFUSED:
		__sync_fetch_and_add(&flow->refused, 1);
		break;
	case ETIMEDOUT:
		__sync_fetch_and_add(&flow->timed_out, 1);
		break;
	case EHOSTUNREACH:
	case ENETUNREACH:
		__sync_fetch_and_add(&flow->unreachable, 1);
		break;
	default:
		__sync_fetch_and_add(&flow->given_up, 1);
	}
}

/* All that a connection was that no pass came to. */
static __always_inline void end_young(struct sock *sk, struct tcp_sock *tp, __u64 about, int old)
{
	__u8 opened = opened_of(about);
	struct flow_key key;
	struct flow *flow;

	key_of_tcp(&key, sk, tp, about, opened);
	if (!key.pid) {
		key.pid = find_listener(&key);
		/* Of a process outside of the probe's pid namespace. */
		if (!key.pid && place.inode)
			return;
	}
	flow = counted_flow_of(&key);
	if (!flow)
		return;
	if (old == TCP_SYN_SENT)
		count_failed(sk, flow);
	else
		__sync_fetch_and_add(&flow->opened, 1);
	add_u64(&flow->bytes_sent, payload_sent(tp, opened == OPENED_ACTIVE, old));
	add_u64(&flow->bytes_received, payload_received(sk, tp));
	add_u32(&flow->retransmits, tp->total_retrans);
	note_rtt(flow, tp->srtt_us >> 3);
}

static __always_inline void end_track(struct sock *sk, struct tcp_sock *tp, struct track *track,
				      int old)
{
	struct flow_key key;
	struct flow *flow;

	if (!track->pid) {
		key_of_tcp(&key, sk, tp, 0, track->opened);
		track->pid = find_listener(&key);
		if (!track->pid && place.inode)
			return;
	}
	if (old == TCP_SYN_SENT) {
		key_of_tcp(&key, sk, tp, track->pid, track->opened);
		flow = counted_flow_of(&key);
		if (flow)
			count_failed(sk, flow);
	}
	settle(sk, tp, track, old);
}

/*
 * A process lets go of a connection that nothing is known of: what it was is
 * lost. No loss is what no process has: the child of a listener that nobody
 * accepted, which no pass can find, and what was closed before the probe began
 * and the kernel goes on sending. Of one that a process closes, the first word
 * is its FIN; the others end under its hands.
 */
static __always_inline void lets_go(struct sock *sk)
{
	if (!settled || !sk->sk_socket)
		return;
	/* Not of a process outside of the probe's pid namespace, nor of the
	 * kernel itself. */
	if (place.inode || BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
		return;
	if (!find_young(sk) && !find_track(sk))
		__sync_fetch_and_add(&losses.sockets, 1);
}

static __always_inline void closes(struct sock *sk, int old)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct young *young;
	struct track *track;
	__u64 about;

	if (!tp)
		return;
	if (old == TCP_LISTEN) {
		stops_listening(sk, tp);
		return;
	}
	young = find_young(sk);
	if (young) {
		about = *(volatile __u64 *)&young->about;
		if (about && leave_young(young, sk)) {
			end_young(sk, tp, about, old);
			return;
		}
	}
	track = find_track(sk);
	if (track) {
		end_track(sk, tp, track, old);
		return;
	}
	if (old == TCP_SYN_SENT || old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT)
		lets_go(sk);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(change, struct sock *sk, int old, int new)
{
	/* Most changes are none of these. */
	if (new == TCP_CLOSE_WAIT || new == TCP_FIN_WAIT2 || new == TCP_SYN_RECV ||
	    (new == TCP_ESTABLISHED && old == TCP_SYN_SENT))
		return 0;
	if (BPF_CORE_READ_BITFIELD(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	switch (new) {
	case TCP_CLOSE:
		closes(sk, old);
		break;
	case TCP_SYN_SENT:
		connects(sk);
		break;
	case TCP_ESTABLISHED:
		is_accepted(sk);
		break;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
		/* Its process closes it, or ends. */
		claim(sk);
		lets_go(sk);
		break;
	case TCP_LISTEN:
		listens(sk);
	}
	return 0;
}

#endif
