/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What happens between two passes: connections that open, move bytes, fail and
 * close. Nothing is sent anywhere, all is added up.
 */
#ifndef SHAWK_STREAM_H
#define SHAWK_STREAM_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "flow.h"
#include "socket.h"
#include "count.h"

const volatile struct place place;
/* Whether the peers of unconnected UDP sockets are told. */
const volatile __u32 knows_peers;

/*
 * What is known of a TCP socket, and how much of it has been added up. A
 * listener hands its own down to its children, so that one that nobody ever
 * touches has an owner. Of UDP: whether it was counted.
 */
struct track {
	__u64 sent;
	__u64 received;
	__u32 pid;
	__u32 retransmits;
	/* Accepted, and not yet known by whom. */
	__u32 pending;
	__u8 opened;
	/* Whether bytes_acked counts a SYN. */
	__u8 syn;
	/* A socket that closes gives it back before anybody is told. */
	__u16 local_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct track);
} tracks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct process);
} processes SEC(".maps");

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

/*
 * Set once the first passes are done: what is heard from a peer before may be
 * the answer to what nobody heard.
 */
__u32 settled;

/* Who spoke first, of the peers of unconnected UDP sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct talk);
	__type(value, __u8);
} talks SEC(".maps");

/*
 * The current process in the probe's pid namespace; 0 for one outside, and for
 * the kernel's own threads, whose sockets no descriptor leads to.
 */
static __always_inline __u32 own_pid(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bpf_pidns_info info = {};

	if (task->flags & PF_KTHREAD)
		return 0;
	if (!place.inode)
		return task->tgid;
	if (bpf_get_ns_current_pid_tgid(place.device, place.inode, &info, sizeof(info)))
		return 0;
	return info.tgid;
}

/* Keeps what the current process is, should it be gone when it is asked for. */
static __always_inline void note_process(__u32 pid)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 started = BPF_CORE_READ(task, group_leader, start_boottime);
	struct process *known = bpf_map_lookup_elem(&processes, &pid);
	struct process process;

	if (known && known->started == started)
		return;
	__builtin_memset(&process, 0, sizeof(process));
	process.started = started;
	process.user = BPF_CORE_READ(task, group_leader, cred, euid.val);
	BPF_CORE_READ_INTO(&process.comm, task, group_leader, comm);
	if (bpf_map_update_elem(&processes, &pid, &process, BPF_ANY))
		__sync_fetch_and_add(&losses.processes, 1);
}

/*
 * A socket at an event. Pointers are followed by hand there: to check that one
 * of a tracepoint may be followed, the verifier searches all of the kernel's
 * types, a millisecond each time.
 */
static __always_inline bool read_event(struct descriptor *d, struct sock *sk)
{
	if (!read_socket(d, sk))
		return false;
	d->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	return true;
}

static __always_inline struct flow *row(struct descriptor *d, __u32 pid, __u8 opened)
{
	struct flow_key key;
	struct flow *flow;

	d->pid = pid;
	d->opened = opened;
	key_of(&key, d);
	flow = flow_of(&key);
	if (!flow)
		__sync_fetch_and_add(&losses.flows, 1);
	return flow;
}

static __always_inline void count_opened(struct descriptor *d, __u32 pid, __u8 opened)
{
	struct flow *flow = row(d, pid, opened);

	if (flow)
		__sync_fetch_and_add(&flow->opened, 1);
}

/* Payload that was acknowledged: a FIN that was sent is the last of it. */
static __always_inline __u64 payload_sent(struct track *track, struct tcp_sock *tp, __u8 state)
{
	/* Read before what tells of the FIN: it may be missing one, never have
	 * one too many, and the next reading has it. */
	__u64 acked = tp->bytes_acked;
	__u64 extra = track->syn;

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

/* Adds up what a TCP socket has done since the last time. */
static __always_inline void settle(struct sock *sk, struct track *track, struct descriptor *d)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u64 sent, received;
	__u32 repeated, before;
	struct flow *flow;

	if (!tp)
		return;
	sent = take(&track->sent, payload_sent(track, tp, d->state));
	received = take(&track->received, payload_received(sk, tp));
	before = track->retransmits;
	repeated = tp->total_retrans;
	if (repeated <= before ||
	    __sync_val_compare_and_swap(&track->retransmits, before, repeated) != before)
		repeated = before;
	if (!sent && !received && repeated == before)
		return;
	flow = row(d, track->pid, track->opened);
	if (!flow)
		return;
	__sync_fetch_and_add(&flow->bytes_sent, sent);
	__sync_fetch_and_add(&flow->bytes_received, received);
	__sync_fetch_and_add(&flow->retransmits, repeated - before);
	note_rtt(flow, tp->srtt_us >> 3);
}

/* A connection that somebody was seen with: from now on it is his. */
static __always_inline void adopt(struct track *track, struct descriptor *d, __u32 pid)
{
	if (__sync_val_compare_and_swap(&track->pending, 1, 0) != 1)
		return;
	track->pid = pid;
	count_opened(d, pid, track->opened);
}

/* A pass has come to a socket. What was open before the probe, or could not be
 * followed, is followed from here on. */
static __always_inline void follow(struct sock *sk, struct descriptor *found, bool once)
{
	struct descriptor d = *found;
	struct track *track;
	struct tcp_sock *tp;

	if (d.protocol != IPPROTO_TCP)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	track = bpf_sk_storage_get(&tracks, sk, NULL, 0);
	if (!track) {
		track = bpf_sk_storage_get(&tracks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!track) {
			__sync_fetch_and_add(&losses.sockets, 1);
			return;
		}
		track->pid = d.pid;
		track->opened = d.state == TCP_LISTEN ? OPENED_PASSIVE : d.opened;
		track->syn = d.opened == OPENED_ACTIVE;
		track->local_port = d.local_port;
		track->sent = payload_sent(track, tp, d.state);
		track->received = payload_received(sk, tp);
		track->retransmits = tp->total_retrans;
		return;
	}
	if (d.state == TCP_LISTEN)
		return;
	adopt(track, &d, found->pid);
	if (once)
		track->pid = found->pid;
	settle(sk, track, &d);
}

static __always_inline void begin(struct sock *sk, bool listens)
{
	__u32 pid = own_pid();
	struct track *track;

	if (!pid)
		return;
	track = bpf_sk_storage_get(&tracks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!track) {
		__sync_fetch_and_add(&losses.sockets, 1);
		return;
	}
	/* A socket may connect again after it was disconnected. */
	__builtin_memset(track, 0, sizeof(*track));
	track->pid = pid;
	track->opened = listens ? OPENED_PASSIVE : OPENED_ACTIVE;
	track->syn = !listens;
	note_process(pid);
}

static __always_inline void establish(struct sock *sk, int old)
{
	struct track *track;
	struct descriptor d;

	track = bpf_sk_storage_get(&tracks, sk, NULL,
				   old == TCP_SYN_RECV ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!track) {
		if (old == TCP_SYN_RECV)
			__sync_fetch_and_add(&losses.sockets, 1);
		return;
	}
	if (track->opened == OPENED_UNKNOWN)
		track->opened = OPENED_PASSIVE;
	track->local_port = sk->__sk_common.skc_num;
	if (track->opened == OPENED_PASSIVE) {
		track->pending = 1;
		return;
	}
	if (read_event(&d, sk))
		count_opened(&d, track->pid, OPENED_ACTIVE);
}

static __always_inline void count_failed(struct sock *sk, struct track *track,
					 struct descriptor *d)
{
	struct flow *flow = row(d, track->pid, track->opened);

	if (!flow)
		return;
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

static __always_inline void end(struct sock *sk, int old)
{
	struct track *track = bpf_sk_storage_get(&tracks, sk, NULL, 0);
	struct descriptor d;

	if (!track || old == TCP_LISTEN)
		return;
	/* Of a process outside of the probe's pid namespace. */
	if (!track->pid && place.inode)
		return;
	if (!read_event(&d, sk))
		return;
	d.local_port = track->local_port;
	adopt(track, &d, track->pid);
	if (old == TCP_SYN_SENT)
		count_failed(sk, track, &d);
	settle(sk, track, &d);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(change, struct sock *sk, int old, int new)
{
	if (BPF_CORE_READ_BITFIELD(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	switch (new) {
	case TCP_SYN_SENT:
	case TCP_LISTEN:
		begin(sk, new == TCP_LISTEN);
		break;
	case TCP_ESTABLISHED:
		establish(sk, old);
		break;
	case TCP_CLOSE:
		end(sk, old);
		break;
	}
	return 0;
}

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

static __always_inline void count_datagram(struct sock *sk, int length, bool sends)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct end *peer = NULL;
	struct descriptor d;
	struct track *track;
	struct flow *flow;
	bool is_new = false;
	__u32 pid;

	if (knows_peers)
		peer = bpf_map_lookup_elem(&ends, &thread);
	pid = own_pid();
	if (!pid || length <= 0 || !read_event(&d, sk))
		goto out;
	if (peer || !d.peer_port) {
		if (!find_talk(&d, sk, peer, sends, &is_new)) {
			if (knows_peers)
				__sync_fetch_and_add(&losses.datagrams, 1);
			goto out;
		}
	} else {
		track = bpf_sk_storage_get(&tracks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		is_new = track && !track->pid;
		if (track)
			track->pid = pid;
	}
	if (is_new)
		note_process(pid);
	flow = row(&d, pid, d.opened);
	if (!flow)
		goto out;
	__sync_fetch_and_add(&flow->opened, is_new);
	if (sends)
		__sync_fetch_and_add(&flow->bytes_sent, length);
	else
		__sync_fetch_and_add(&flow->bytes_received, length);
out:
	if (peer)
		bpf_map_delete_elem(&ends, &thread);
}

static __always_inline void use(struct sock *sk, int length, bool sends)
{
	__u16 protocol = BPF_CORE_READ_BITFIELD(sk, sk_protocol);
	struct descriptor d;
	struct track *track;
	__u32 pid;

	if (protocol == IPPROTO_UDP) {
		count_datagram(sk, length, sends);
		return;
	}
	if (protocol != IPPROTO_TCP)
		return;
	track = bpf_sk_storage_get(&tracks, sk, NULL, 0);
	if (!track || !track->pending)
		return;
	pid = own_pid();
	if (!pid || !read_event(&d, sk))
		return;
	note_process(pid);
	adopt(track, &d, pid);
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
