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
 * Set once the first passes are done. What is heard from a peer before may be
 * the answer to what nobody heard, and what closes may not be known.
 */
__u32 settled;

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
	/* Not yet counted as opened. */
	__u32 pending;
	__u8 opened;
	/* Whether bytes_acked counts a SYN; whether the process has been seen
	 * with it, and is not only the one that listens. */
	__u8 syn : 1, claimed : 1;
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

/*
 * The path of a task's program, part by part up to the root of its mounts. A
 * program so deep that it does not fit has none.
 */
static __always_inline void note_path(struct process *process, struct task_struct *task)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	void *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount, *above;
	struct dentry *parent;
	__u32 parts = 0;

	if (!dentry || !mnt)
		return;
	mount = mnt - bpf_core_field_offset(struct mount, mnt);
	for (int step = 0; step < PATH_PARTS + 4; step++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (dentry == parent || dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			above = BPF_CORE_READ(mount, mnt_parent);
			if (!above || above == mount) {
				process->parts = parts;
				return;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		if (parts >= PATH_PARTS)
			return;
		bpf_probe_read_kernel_str(process->path[parts], PATH_PART,
					  BPF_CORE_READ(dentry, d_name.name));
		parts++;
		dentry = parent;
	}
}

static const struct process nothing;

/* Keeps what the current process is, should it be gone when it is asked for. */
static __always_inline void note_process(__u32 pid)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process *process;

	/* It is emptied at each tick, and no pid comes round in one. */
	if (bpf_map_lookup_elem(&processes, &pid))
		return;
	bpf_map_update_elem(&processes, &pid, &nothing, BPF_NOEXIST);
	process = bpf_map_lookup_elem(&processes, &pid);
	if (!process) {
		__sync_fetch_and_add(&losses.processes, 1);
		return;
	}
	process->user = BPF_CORE_READ(task, group_leader, cred, euid.val);
	BPF_CORE_READ_INTO(&process->comm, task, group_leader, comm);
	note_path(process, task);
	/* Last: without it the rest may not be there yet. */
	barrier();
	process->started = BPF_CORE_READ(task, group_leader, start_boottime);
}

/*
 * A socket at an event. Pointers are followed by hand there: to check that one
 * of a tracepoint may be followed, the verifier searches all of the kernel's
 * types, a millisecond each time.
 */
static __always_inline bool read_event(struct descriptor *d, struct sock *sk)
{
	if (!read_socket(d, sk, false))
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

/* Adds up what a TCP socket has done since the last time. A connection that is
 * short comes here once, when it closes. */
static __always_inline void settle(struct sock *sk, struct track *track, struct descriptor *d)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 opened, repeated, before;
	__u64 sent, received;
	struct flow *flow;

	if (!tp)
		return;
	opened = d->state != TCP_SYN_SENT && d->state != TCP_SYN_RECV && track->pending &&
		 __sync_val_compare_and_swap(&track->pending, 1, 0) == 1;
	sent = take(&track->sent, payload_sent(track, tp, d->state));
	received = take(&track->received, payload_received(sk, tp));
	before = track->retransmits;
	repeated = tp->total_retrans;
	if (repeated <= before ||
	    __sync_val_compare_and_swap(&track->retransmits, before, repeated) != before)
		repeated = before;
	if (!opened && !sent && !received && repeated == before)
		return;
	flow = row(d, track->pid, track->opened);
	if (!flow)
		return;
	add_u32(&flow->opened, opened);
	add_u64(&flow->bytes_sent, sent);
	add_u64(&flow->bytes_received, received);
	add_u32(&flow->retransmits, repeated - before);
	note_rtt(flow, tp->srtt_us >> 3);
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
		track->claimed = d.state != TCP_LISTEN;
		track->pending = d.state == TCP_LISTEN || d.state == TCP_SYN_SENT;
		track->opened = d.state == TCP_LISTEN ? OPENED_PASSIVE : d.opened;
		track->syn = d.opened == OPENED_ACTIVE;
		track->local_port = d.local_port;
		track->sent = payload_sent(track, tp, d.state);
		track->received = payload_received(sk, tp);
		track->retransmits = tp->total_retrans;
		return;
	}
	/* listen() chooses a port after it has told of itself. */
	track->local_port = d.local_port;
	if (d.state == TCP_LISTEN)
		return;
	if (once || !track->claimed) {
		track->claimed = 1;
		track->pid = found->pid;
	}
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
	track->claimed = !listens;
	track->pending = 1;
	track->local_port = sk->__sk_common.skc_num;
	note_process(pid);
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

	if (old == TCP_LISTEN)
		return;
	if (!track) {
		/* Not of a process outside of the probe's pid namespace, nor of
		 * the kernel itself. */
		if (settled && !place.inode && !BPF_CORE_READ_BITFIELD(sk, sk_kern_sock))
			__sync_fetch_and_add(&losses.sockets, 1);
		return;
	}
	if (!read_event(&d, sk))
		return;
	d.local_port = track->local_port;
	if (old == TCP_SYN_SENT)
		count_failed(sk, track, &d);
	settle(sk, track, &d);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(change, struct sock *sk, int old, int new)
{
	/* Most changes are none of these. */
	if (new != TCP_SYN_SENT && new != TCP_LISTEN && new != TCP_CLOSE)
		return 0;
	if (BPF_CORE_READ_BITFIELD(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (new == TCP_CLOSE)
		end(sk, old);
	else
		begin(sk, new == TCP_LISTEN);
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
	add_u32(&flow->opened, is_new);
	add_u64(sends ? &flow->bytes_sent : &flow->bytes_received, length);
out:
	if (peer)
		bpf_map_delete_elem(&ends, &thread);
}

static __always_inline void use(struct sock *sk, int length, bool sends)
{
	__u16 protocol = BPF_CORE_READ_BITFIELD(sk, sk_protocol);
	struct track *track;
	__u32 pid;

	if (protocol == IPPROTO_UDP) {
		count_datagram(sk, length, sends);
		return;
	}
	/* Without a backlog it is no child of a listener, but for one of a
	 * listener that had none either, and it waits for the next pass. */
	if (protocol != IPPROTO_TCP || !sk->sk_max_ack_backlog)
		return;
	track = bpf_sk_storage_get(&tracks, sk, NULL, 0);
	if (!track || track->claimed)
		return;
	pid = own_pid();
	if (!pid)
		return;
	track->claimed = 1;
	track->pid = pid;
	track->local_port = sk->__sk_common.skc_num;
	note_process(pid);
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
