"""Connections that processes hold in a network namespace of their own, for the
benchmarks beside this file."""

import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

SHAWK = os.path.join(os.path.dirname(__file__), "..", "target", "release", "shawk")
SERVERS, CLIENTS = 8, 8


def isolate():
    """Goes on in a network namespace of its own."""
    if os.environ.get("SHAWK_BENCH_INSIDE") != "1":
        environment = {**os.environ, "SHAWK_BENCH_INSIDE": "1"}
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], environment)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def machine():
    return f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"


def environment(directory):
    """That of a probe with a CMDB of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SHAWK_")},
        "SHAWK_CMDB_URL": f"sqlite:{directory}/cmdb.db",
        "SHAWK_HOST_ID": "bench",
    }


def hold(connections):
    """Forks the processes that hold the connections; returns their pids."""
    ready_read, ready_write = os.pipe()
    pids = []
    listeners = []
    for index in range(SERVERS):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 20000 + index))
        listener.listen(4096)
        listeners.append(listener)
    share = connections // CLIENTS
    for listener in listeners:
        pids.append(fork(lambda l=listener: serve(l, share * CLIENTS // SERVERS, ready_write)))
    for listener in listeners:
        listener.close()
    for index in range(CLIENTS):
        pids.append(fork(lambda i=index: connect(i, share, ready_write)))
    os.close(ready_write)
    for _ in pids:
        if os.read(ready_read, 1) != b".":
            sys.exit("a process that holds connections died")
    os.close(ready_read)
    return pids


def let_go(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def serve(listener, count, ready):
    held = [listener.accept()[0] for _ in range(count)]
    os.write(ready, b".")
    signal.pause()
    del held


def connect(index, count, ready):
    held = []
    for number in range(count):
        client = socket.socket()
        # 28,000 ephemeral ports each: one source address for 20,000 connections.
        client.bind((f"127.0.{index + 1}.{number // 20000 + 1}", 0))
        client.connect(("127.0.0.1", 20000 + index % SERVERS))
        held.append(client)
    os.write(ready, b".")
    signal.pause()


def peak(command, environment):
    """Most MiB a run had resident. A small program starts it: what a process
    begins as after fork() counts, and this one is larger than a probe."""
    with tempfile.NamedTemporaryFile("r") as report:
        run(["/usr/bin/time", "-q", "-f", "%M", "-o", report.name, *command], environment)
        return int(report.read()) / 1024


def run(command, environment):
    """CPU seconds and wall seconds of one run."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command} failed")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began
