// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Sockets and whose they are. In one pass over all tasks' files what is plain
 * is added up here; what needs thought goes to user space socket by socket.
 * In between, tracepoints add up what no pass would see.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "flow.h"
#include "socket.h"
#include "count.h"
#include "connection.h"
#include "message.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct pass pass;
/* Whether this one hands over every socket, and adds up none. */
__u32 detailed;
struct layout layout;

/* The number of its process in the pid namespace of the probe, which reads. */
static __always_inline __u32 pid_of(struct task_struct *task)
{
	struct task_struct *probe = bpf_get_current_task_btf();
	__u32 level = probe->thread_pid->level;
	struct pid *pid = task->signal->pids[PIDTYPE_TGID];
	__u32 number = task->tgid;

	if (level)
		bpf_core_read(&number, sizeof(number), &pid->numbers[level].nr);
	return number;
}

static __always_inline void enter_task(struct task_struct *task)
{
	struct files_struct *files = task->files;

	if ((__u64)task == pass.task && files)
		return;
	pass.task = (__u64)task;
	pass.pid = pid_of(task);
	/* Processes that share one table (CLONE_FILES without CLONE_THREAD). */
	pass.shares = !files || files->count.counter > task->signal->nr_threads;
	if (task->pid == task->tgid)
		pass.processes++;
}

/*
 * Whether one descriptor of one process is all that holds the file. The
 * iterator holds it too, and so does a system call under way in a process
 * with threads; the latter makes it take the longer road, no more.
 */
static __always_inline bool is_held_once(struct file *file)
{
	if (pass.shares)
		return false;
	if (bpf_core_field_exists(file->f_ref))
		return file->f_ref.refcnt.counter == 1;
	return BPF_CORE_READ((struct file___old *)file, f_count.counter) == 2;
}

/* Adds a socket with a known direction to its flow; false if it cannot. */
static __always_inline bool bundle(struct descriptor *d)
{
	struct flow_key key;
	struct flow *flow;

	/* One that waits has no peer, and needs the thought. */
	if (d->opened == OPENED_UNKNOWN || !d->peer_port)
		return false;
	key_of(&key, d);
	flow = flow_of(&key);
	if (!flow)
		return false;
	__sync_fetch_and_add(&flow->open, 1);
	if (d->protocol == IPPROTO_TCP && d->state == TCP_SYN_SENT)
		__sync_fetch_and_add(&flow->connecting, 1);
	note_rtt(flow, d->rtt_us);
	return true;
}

static __always_inline int visit(struct bpf_iter__task_file *ctx, bool streams)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct descriptor d;
	struct socket *socket;
	struct sock *sk;
	bool once;

	if (!task || !file)
		return 0;
	enter_task(task);
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || !read_socket(&d, sk, true))
		return 0;
	d.netns = sk->__sk_common.skc_net.net->ns.inum;
	d.pid = pass.pid;
	if (!detailed) {
		once = is_held_once(file);
		if (streams)
			follow(sk, &d, once);
		if (once && bundle(&d)) {
			pass.bundled++;
			return 0;
		}
	}
	d.inode = file->f_inode->i_ino;
	/* A full buffer is no loss: the kernel comes back with the same file. */
	bpf_seq_write(ctx->meta->seq, &d, sizeof(d));
	return 0;
}

SEC("iter/task_file")
int bundled(struct bpf_iter__task_file *ctx)
{
	return visit(ctx, false);
}

SEC("iter/task_file")
int streamed(struct bpf_iter__task_file *ctx)
{
	return visit(ctx, true);
}
