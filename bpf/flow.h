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

/* A host flow. The port that the kernel chose is 0. */
struct flow_key {
	__u32 netns;
	/* In the pid namespace of the probe; 0 where nobody was seen with it. */
	__u32 pid;
	__u8 local[16];
	__u8 peer[16];
	__u16 local_port;
	__u16 peer_port;
	__u8 opened;
	__u8 protocol;
	/* A UDP socket whose process chose the port. */
	__u8 port_chosen;
	__u8 reserved;
};

/*
 * What happened to a host flow since the map was emptied. `open` and
 * `connecting` are what a pass of the iterator found.
 */
struct flow {
	__u64 bytes_sent;
	__u64 bytes_received;
	__u32 open;
	__u32 connecting;
	__u32 opened;
	/* Attempts to connect that failed, by reason. */
	__u32 refused;
	__u32 timed_out;
	__u32 unreachable;
	/* The process closed it, or the reason is another. */
	__u32 given_up;
	__u32 retransmits;
	/* Smallest; 0 where none was measured. */
	__u32 rtt_us;
	__u32 reserved;
};

#define PATH_PARTS 16
#define PATH_PART 32

/* A process that made a flow and may be gone before anybody asks for it. */
struct process {
	/* After boot, in nanoseconds. */
	__u64 started;
	__u32 user;
	/* Its group's number in the pid namespace of the probe; 0 where it has
	 * none there. */
	__u32 group;
	/* Parts of the path of its program, once all of them are there. */
	__u32 parts;
	__u32 reserved;
	char comm[16];
	/* The last one first; "/" is none, but where one file system is mounted
	 * on another. */
	char path[PATH_PARTS][PATH_PART];
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
	__u8 opened;
	__u8 flags;
	__u32 reserved;
};

/* For the generator, which finds types by the variables that have them. */
struct layout {
	struct descriptor descriptor;
	enum opened opened;
	enum socket_flags flags;
};

/* One pass. Zero before it. */
struct pass {
	/* Processes whose descriptors were passed. */
	__u64 processes;
	/* Sockets added to a flow; the others came as descriptors. */
	__u64 bundled;
	/* The task whose files are being passed, its process, and whether it may
	 * share the descriptors with another process. */
	__u64 task;
	__u32 pid;
	__u32 shares;
};

/* What was lost since the start. */
struct losses {
	/* Changes of flows that found no room. */
	__u64 flows;
	/* Sockets that could not be followed. */
	__u64 sockets;
	/* Processes that found no room. */
	__u64 processes;
	/* Datagrams whose peer was not known. */
	__u64 datagrams;
};

/* Set before loading: the pid namespace of the probe, if it is not the
 * kernel's own. */
struct place {
	__u64 device;
	__u64 inode;
};

_Static_assert(sizeof(struct flow_key) == 48, "user space reads it");
_Static_assert(sizeof(struct flow) == 56, "user space reads it");
_Static_assert(sizeof(struct process) == 552, "user space reads it");
_Static_assert(sizeof(struct descriptor) == 64, "user space reads it");

#endif
