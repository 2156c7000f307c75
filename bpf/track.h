/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What is remembered of a TCP socket: whose it is, who opened it, and how much
 * of it has been added up.
 *
 * Most connections end before the next pass. Until then one has a place in a
 * table of fixed size, for which nothing is allocated, linked or freed; what
 * lives longer, or finds the table full, is kept with its socket.
 */
#ifndef SHAWK_TRACK_H
#define SHAWK_TRACK_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "flow.h"
#include "count.h"

/* A connection that no pass has come to. Free if both are 0. */
struct young {
	/* See number_of(). */
	__u64 socket;
	/* See young_of(). Taken by setting it, before the socket. */
	__u64 about;
};

#define WAYS 4
#define SETS_BITS 12

/* Those whose address has the same hash; a line of the cache. */
struct nursery {
	struct young ways[WAYS];
};

/* Mapped by nobody: the flag puts it at the beginning of a page. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << SETS_BITS);
	__type(key, __u32);
	__type(value, struct nursery);
} nurseries SEC(".maps");

/* Of UDP: the pid, if the socket was counted, and who began. */
struct track {
	__u64 sent;
	__u64 received;
	__u32 pid;
	__u32 retransmits;
	/* Not yet counted as opened. */
	__u32 pending;
	__u8 opened;
	/* Whether bytes_acked counts a SYN. */
	__u8 syn;
	/* Whether the process has been seen with it. */
	__u8 claimed;
	/* Set last. */
	__u8 filled;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct track);
} tracks SEC(".maps");

struct listener {
	__u32 netns;
	__u32 port;
	__u8 address[16];
};

/* Whose a connection is that its process has never touched. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct listener);
	__type(value, __u32);
} listeners SEC(".maps");

/* Nobody has been seen with it yet: pid 0. */
static __always_inline __u64 young_of(__u32 pid, __u8 opened)
{
	return (__u64)(*(volatile __u32 *)&turn & 0xffff) << 48 | (__u64)opened << 32 | pid;
}

static __always_inline __u8 opened_of(__u64 about)
{
	return about >> 32;
}

/* A number that no other socket has: its address less one that stays. Of an
 * address alone the verifier lets nothing be made but a difference. */
static __always_inline __u64 number_of(struct sock *sk)
{
	__u64 number = (__u64)sk;

	asm volatile("%0 -= %1" : "+r"(number) : "r"(&turn));
	return number;
}

static __always_inline struct nursery *nursery_of(__u64 socket)
{
	/* Addresses differ in the middle; a golden multiple spreads that. */
	__u32 number = socket * 0x9e3779b97f4a7c15ULL >> (64 - SETS_BITS);

	return bpf_map_lookup_elem(&nurseries, &number);
}

static __always_inline struct young *find_young(struct sock *sk)
{
	__u64 socket = number_of(sk);
	struct nursery *nursery = nursery_of(socket);

	if (!nursery)
		return NULL;
	for (int way = 0; way < WAYS; way++)
		if (nursery->ways[way].socket == socket)
			return &nursery->ways[way];
	return NULL;
}

static __always_inline bool take_way(struct young *young, __u64 before, __u64 socket,
				     __u64 about)
{
	if (__sync_val_compare_and_swap(&young->about, before, about) != before)
		return false;
	young->socket = socket;
	return true;
}

/* Gives a socket a place; false if there is none. */
static __always_inline bool enter_young(struct sock *sk, __u64 about)
{
	__u64 before, socket = number_of(sk);
	struct nursery *nursery = nursery_of(socket);
	__u16 age;

	if (!nursery)
		return false;
	for (int way = 0; way < WAYS; way++) {
		/* It connects again, or its end was not told. */
		if (nursery->ways[way].socket == socket) {
			nursery->ways[way].about = about;
			return true;
		}
	}
	for (int way = 0; way < WAYS; way++)
		if (!nursery->ways[way].about && take_way(&nursery->ways[way], 0, socket, about))
			return true;
	/* A pass moves all that processes hold. What is there for longer is in
	 * nobody's hands, or its end was not told: it is lost. */
	for (int way = 0; way < WAYS; way++) {
		before = *(volatile __u64 *)&nursery->ways[way].about;
		age = (about >> 48) - (before >> 48);
		if (age > 2 && take_way(&nursery->ways[way], before, socket, about)) {
			__sync_fetch_and_add(&losses.sockets, 1);
			return true;
		}
	}
	return false;
}

/* Takes the place away; false if another did, whose the socket is then. */
static __always_inline bool leave_young(struct young *young, struct sock *sk)
{
	__u64 socket = number_of(sk);

	if (__sync_val_compare_and_swap(&young->socket, socket, 0) != socket)
		return false;
	*(volatile __u64 *)&young->about = 0;
	return true;
}

static __always_inline struct track *find_track(struct sock *sk)
{
	struct track *track;

	track = bpf_sk_storage_get(&tracks, sk, NULL, 0);
	return track && *(volatile __u8 *)&track->filled ? track : NULL;
}

/* One that is not filled yet, even if there was one. */
static __always_inline struct track *new_track(struct sock *sk)
{
	struct track *track;

	track = bpf_sk_storage_get(&tracks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!track) {
		__sync_fetch_and_add(&losses.sockets, 1);
		return NULL;
	}
	__builtin_memset(track, 0, sizeof(*track));
	return track;
}

/* Of a connection that begins, or began since the last pass. */
static __always_inline void fill_track(struct track *track, __u64 about)
{
	track->pid = about;
	track->opened = opened_of(about);
	track->syn = track->opened == OPENED_ACTIVE;
	track->claimed = track->pid != 0;
	track->pending = 1;
	barrier();
	track->filled = 1;
}

/* Workers hold what their master listens at: a known one is replaced if the
 * process is `sure` to be it alone. */
static __always_inline void keep_listener(struct listener *listener, __u32 pid, bool sure)
{
	__u32 *known = bpf_map_lookup_elem(&listeners, listener);

	if (known && (*known == pid || !sure))
		return;
	if (bpf_map_update_elem(&listeners, listener, &pid, BPF_ANY))
		__sync_fetch_and_add(&losses.sockets, 1);
}

/* Who listens where this was accepted; 0 if nobody is known to. */
static __always_inline __u32 find_listener(struct flow_key *key)
{
	struct listener listener = { .netns = key->netns, .port = key->local_port };
	__u32 *words = (__u32 *)listener.address;
	__u32 *pid;

	__builtin_memcpy(listener.address, key->local, sizeof(listener.address));
	pid = bpf_map_lookup_elem(&listeners, &listener);
	if (pid)
		return *pid;
	words[3] = 0;
	pid = bpf_map_lookup_elem(&listeners, &listener);
	if (pid)
		return *pid;
	/* One on :: takes IPv4 as well. */
	__builtin_memset(listener.address, 0, sizeof(listener.address));
	pid = bpf_map_lookup_elem(&listeners, &listener);
	return pid ? *pid : 0;
}

#endif
