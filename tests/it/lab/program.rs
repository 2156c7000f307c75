//! Real programs with the least of configuration, each started on a host. They
//! need nothing of the machine but to be installed.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use crate::lab::host::{Host, Program};

/// Debian's own, by its own name: what a search path has may be a shim.
const PYTHON: &str = "/usr/bin/python3";

/// nginx with a master and two workers; `servers` goes into its `http` block.
pub(crate) fn nginx(host: &Host, servers: &str) -> Program {
    let directory = host.directory.display();
    let configuration = format!(
        "daemon off;
         user www-data;
         worker_processes 2;
         pid {directory}/nginx.pid;
         error_log stderr;
         events {{ }}
         http {{
             access_log off;
             client_body_temp_path {directory}/body;
             proxy_temp_path {directory}/proxy;
             fastcgi_temp_path {directory}/fastcgi;
             uwsgi_temp_path {directory}/uwsgi;
             scgi_temp_path {directory}/scgi;
             {servers}
         }}"
    );
    let path = host.file("nginx.conf", &configuration);
    host.start(&["nginx", "-e", "stderr", "-c", &path], &[])
}

/// nginx that serves one large file slowly at each of these `listen` values.
pub(crate) fn nginx_with_a_file(host: &Host, listens: &[&str]) -> Program {
    let listens: String = listens.iter().map(|listen| format!("listen {listen};\n")).collect();
    nginx(host, &format!("server {{ {listens} {} }}", large_file(host)))
}

/// An nginx location `/large` that no `curl` ever gets to the end of.
pub(crate) fn large_file(host: &Host) -> String {
    let root = host.directory.join("root");
    fs::create_dir(&root).expect("a directory can be made");
    let file = File::create(root.join("large")).expect("a file can be made");
    file.set_len(1 << 30).expect("a file can be made sparse");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&host.directory, open).expect("the owner can set the mode");
    format!("root {}; location /large {{ limit_rate 20k; }}", root.display())
}

/// haproxy, a master and a worker, from an address and port to another.
pub(crate) fn haproxy(host: &Host, bind: &str, server: &str) -> Program {
    let configuration = format!(
        "global
            nbthread 1
         defaults
            mode http
            timeout connect 10s
            timeout client 100s
            timeout server 100s
         listen proxy
            bind {bind}
            server only {server}\n"
    );
    let path = host.file("haproxy.cfg", &configuration);
    host.start(&["haproxy", "-W", "-db", "-f", &path], &[])
}

/// redis, keeping nothing.
pub(crate) fn redis(host: &Host, address: &str) -> Program {
    let directory = host.directory.display().to_string();
    host.start(
        &[
            "redis-server",
            "--bind",
            address,
            "--save",
            "",
            "--appendonly",
            "no",
            "--protected-mode",
            "no",
            "--dir",
            &directory,
        ],
        &[],
    )
}

/// A redis client that asks again and again over one connection.
pub(crate) fn redis_cli(host: &Host, address: &str) -> Program {
    host.start(&["redis-cli", "-h", address, "-r", "-1", "-i", "0.1", "ping"], &[])
}

/// dnsmasq that answers by itself and asks nobody.
pub(crate) fn dnsmasq(host: &Host, address: &str) -> Program {
    let listen = format!("--listen-address={address}");
    let pid_file = format!("--pid-file={}/dnsmasq.pid", host.directory.display());
    host.start(
        &[
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--log-facility=-",
            "--address=/lab.test/10.77.0.10",
            &listen,
            &pid_file,
        ],
        &[],
    )
}

/// curl that takes its time.
pub(crate) fn curl(host: &Host, url: &str) -> Program {
    host.start(
        &[
            "curl",
            "--silent",
            "--show-error",
            "--globoff",
            "--output",
            "/dev/null",
            "--limit-rate",
            "10k",
            "--max-time",
            "120",
            url,
        ],
        &[],
    )
}

/// wrk over two connections that stay open.
pub(crate) fn wrk(host: &Host, url: &str) -> Program {
    host.start(&["wrk", "-t", "1", "-c", "2", "-d", "120s", url], &[])
}

/// `sockets.py`, which stands beside this file; see there for the words.
pub(crate) fn python(host: &Host, words: &[&str]) -> Program {
    let line = python_words(host, words);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    host.start(&line, &[])
}

/// The command line of it.
pub(crate) fn python_words(host: &Host, words: &[&str]) -> Vec<String> {
    let path = host.file("sockets.py", include_str!("sockets.py"));
    let words = words.iter().map(|word| (*word).to_owned());
    [PYTHON.to_owned(), path].into_iter().chain(words).collect()
}
