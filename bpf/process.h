/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Processes that made a flow, kept in case they are gone when they are asked. */
#ifndef SHAWK_PROCESS_H
#define SHAWK_PROCESS_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "flow.h"
#include "count.h"

const volatile struct place place;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct process);
} processes SEC(".maps");

#define NOTED 1024

/* By the last bits of a pid: the pid and the turn in which it was noted, so
 * that each connection of a busy process finds it without a search. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NOTED);
	__type(key, __u32);
	__type(value, __u64);
} noted SEC(".maps");

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

/* Namespaces of pids are nested at most so deep (MAX_PID_NS_LEVEL). */
#define PID_LEVELS 32

/* The number of a process's group in the probe's pid namespace. */
static __always_inline __u32 group_of(struct task_struct *task)
{
	struct pid *group = BPF_CORE_READ(task, signal, pids[PIDTYPE_PGID]);
	__u32 level = BPF_CORE_READ(group, level);
	struct upid number;

	if (!place.inode)
		return BPF_CORE_READ(group, numbers[0].nr);
	for (__u32 step = 0; step <= PID_LEVELS && step <= level; step++) {
		if (bpf_core_read(&number, sizeof(number), &group->numbers[step]))
			return 0;
		if (BPF_CORE_READ(number.ns, ns.inum) == place.inode)
			return number.nr;
	}
	return 0;
}

/*
 * The path of a task's program, part by part up to the root of its mounts. A
 * program so deep that it does not fit has none. Each step fills a part, so
 * that the verifier has one state to follow from step to step.
 */
static __always_inline void note_path(struct process *process, struct task_struct *task)
{
	struct file *file = BPF_CORE_READ(task, mm, exe_file);
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	void *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount, *above;
	struct dentry *parent;

	if (!dentry || !mnt)
		return;
	mount = mnt - bpf_core_field_offset(struct mount, mnt);
	for (int step = 0; step < PATH_PARTS; step++) {
		parent = BPF_CORE_READ(dentry, d_parent);
		if (dentry == parent || dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {
			above = BPF_CORE_READ(mount, mnt_parent);
			if (!above || above == mount) {
				process->parts = step;
				return;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			process->path[step][0] = '/';
			continue;
		}
		bpf_probe_read_kernel_str(process->path[step], PATH_PART,
					  BPF_CORE_READ(dentry, d_name.name));
		dentry = parent;
	}
}

static const struct process nothing;

/* Keeps what the current process is. A function of its own is verified once,
 * and not at every place that calls it. */
__noinline int keep_process(__u32 pid)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct process *process;

	if (bpf_map_lookup_elem(&processes, &pid))
		return 0;
	bpf_map_update_elem(&processes, &pid, &nothing, BPF_NOEXIST);
	process = bpf_map_lookup_elem(&processes, &pid);
	if (!process) {
		__sync_fetch_and_add(&losses.processes, 1);
		return 0;
	}
	process->user = BPF_CORE_READ(task, group_leader, cred, euid.val);
	process->group = group_of(task);
	BPF_CORE_READ_INTO(&process->comm, task, group_leader, comm);
	note_path(process, task);
	/* Last: without it the rest may not be there yet. */
	barrier();
	process->started = BPF_CORE_READ(task, group_leader, start_boottime);
	return 0;
}

/* Sees to it that the current process is kept in this turn; they are emptied
 * at each, and no pid comes round in one. */
static __always_inline void note_process(__u32 pid)
{
	__u64 now = (__u64)*(volatile __u32 *)&turn << 32 | pid;
	__u32 at = pid % NOTED;
	__u64 *last = bpf_map_lookup_elem(&noted, &at);

	if (last && *last == now)
		return;
	keep_process(pid);
	if (last)
		*last = now;
}

#endif
