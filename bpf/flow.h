/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the kernel side hands to user space. This is the only place where it
 * is written down: Rust has it from the BTF of the compiled object.
 *
 * Addresses are IPv6 in network order, IPv4 mapped into it (RFC 4291, 2.5.5.2),
 * so that one key serves both. Ports are in the machine's order.
 */
#ifndef SHAWK_FLOW_H
#define SHAWK_FLOW_H

/* Who opened it. */
enum opened {
	OPENED_UNKNOWN,
	OPENED_ACTIVE,
	OPENED_PASSIVE,
};

/* A host flow. The port is that of the end that was opened. */
struct flow_key {
	__u32 netns;
	/* In the pid namespace of the probe. */
	__u32 pid;
	__u8 local[16];
	__u8 peer[16];
	__u16 port;
	__u8 direction;
	__u8 protocol;
};

/* The sockets of one host flow, as one pass of the iterator found them. */
struct flow {
	__u32 open;
	__u32 connecting;
	/* Smallest; 0 where none was measured. */
	__u32 rtt_us;
};

enum socket_flags {
	SOCKET_V6_ONLY = 1,
	SOCKET_PORT_CHOSEN = 2,
};

/* A descriptor of a socket: one for each, so a socket may come repeatedly. */
struct descriptor {
	__u64 inode;
	__u32 netns;
	__u32 pid;
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u32 rtt_us;
	__u8 protocol;
	__u8 state;
	__u8 direction;
	__u8 flags;
	__u32 reserved;
};

/* For the generator, which finds types by the variables that have them. */
struct layout {
	struct descriptor descriptor;
	enum opened opened;
	enum socket_flags flags;
};

/* What one pass went over. */
struct pass {
	/* Processes whose descriptors were passed. */
	__u64 processes;
	/* Sockets added to a flow; the others came as descriptors. */
	__u64 bundled;
};

_Static_assert(sizeof(struct flow_key) == 44, "user space reads it");
_Static_assert(sizeof(struct flow) == 12, "user space reads it");
_Static_assert(sizeof(struct descriptor) == 64, "user space reads it");

#endif
