//! Real PostgreSQL servers for the tests: started once per test process, each
//! in a directory of its own, and gone with the process however it ends.
//!
//! A keeper (a shell) runs as an unprivileged user, because PostgreSQL refuses
//! root. It starts and stops the server when told so on its standard input;
//! at the end of that, which the kernel makes when the test process is gone,
//! it stops the server and removes the directory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection};

/// The versions that scripts/test-servers installs: the oldest and the newest
/// that the CMDB promises to run on, and one between.
pub(crate) const VERSIONS: [u32; 3] = [10, 15, 18];

/// The password that TCP connections need; tests look for it where it must
/// never be.
pub(crate) const PASSWORD: &str = "s3cr3t-Passw0rd";

/// Debian's nobody and nogroup.
const NOBODY: u32 = 65534;

/// A running server.
pub(crate) struct Server {
    /// Major version.
    pub(crate) version: u32,
    directory: PathBuf,
    pub(crate) port: u16,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
}

struct Keeper {
    child: Child,
    /// Until it is told no more.
    told: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

const KEEPER: &str = r#"
set -u
bin=$1 data=$2/data sockets=$2 port=$3 password=$4
export LC_ALL=C TZ=UTC
if [ -d "$bin/../lib" ]; then export LD_LIBRARY_PATH=$bin/../lib; fi
start() {
  rm -f "$data/postmaster.pid"
  "$bin/postgres" -D "$data" -p "$port" -k "$sockets" </dev/null >>"$sockets/log" 2>&1 &
  server=$!
  for _ in $(seq 1200); do
    if grep -qs '^ready' "$data/postmaster.pid"; then echo ok; return; fi
    kill -0 "$server" 2>/dev/null || break
    sleep 0.05
  done
  echo "failed: $(tail -n 5 "$sockets/log" | tr '\n' ' ')"
}
stop() { kill -s "$1" "$server"; wait "$server"; }
cd "$2"
printf '%s' "$password" >password
"$bin/initdb" -D "$data" -U shawk --pwfile=password -A trust -E UTF8 --no-locale --nosync </dev/null >log 2>&1 || {
  echo "failed: initdb: $(tail -n 5 log | tr '\n' ' ')"; exit 1
}
cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
fsync = off
max_connections = 100
shared_buffers = 64MB
log_lock_waits = on
CONF
cat >"$data/pg_hba.conf" <<HBA
local all all trust
host all all 127.0.0.1/32 md5
HBA
start
while read -r word; do
  case $word in
    start) start ;;
    stop) stop INT; echo ok ;;
    kill) stop QUIT; echo ok ;;
  esac
done
stop QUIT 2>/dev/null
cd /
rm -rf "$2"
"#;

/// The server of a version, started at the first call.
pub(crate) fn server(version: u32) -> &'static Server {
    static SERVERS: [OnceLock<Server>; VERSIONS.len()] =
        [const { OnceLock::new() }; VERSIONS.len()];
    let at = VERSIONS.iter().position(|known| *known == version);
    let at = at.unwrap_or_else(|| panic!("no test server of version {version}"));
    SERVERS[at].get_or_init(|| Server::start(version, &[]))
}

/// A server that nobody shares, for a test that stops it, or that has it
/// started by a command: in a namespace.
pub(crate) fn own_server(version: u32, before: &[&str]) -> Server {
    Server::start(version, before)
}

impl Server {
    fn start(version: u32, before: &[&str]) -> Server {
        let directory = tempfile::Builder::new()
            .prefix("shawk-pg-")
            .tempdir()
            .expect("make a directory")
            .keep();
        let bin = within_reach(binaries(version), &directory);
        let port = free_port();
        let mut words = before.iter().copied().map(str::to_owned).chain(unprivileged(&directory));
        let mut command = Command::new(words.next().expect("there is a word"));
        command.args(words).args(["bash", "-c", KEEPER, "keeper"]);
        command.args([bin.as_os_str(), directory.as_os_str()]).args([&port.to_string(), PASSWORD]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the keeper of a PostgreSQL server");
        let told = child.stdin.take();
        let says = BufReader::new(child.stdout.take().expect("was piped"));
        let mut keeper = Keeper { child, told, says };
        keeper.heard(version);
        Server {
            version,
            directory,
            port,
            keeper: Mutex::new(keeper),
            databases: AtomicU32::new(0),
        }
    }

    /// A new database, reached through the server's Unix socket, from any
    /// network namespace and without a password.
    pub(crate) fn url_for_new_database(&self) -> String {
        self.url(&self.create_database())
    }

    /// A new database, reached through 127.0.0.1 with [`PASSWORD`].
    pub(crate) fn tcp_url_for_new_database(&self) -> String {
        self.tcp_url(&self.create_database())
    }

    /// Both for the same one.
    pub(crate) fn urls_for_new_database(&self) -> (String, String) {
        let name = self.create_database();
        (self.url(&name), self.tcp_url(&name))
    }

    fn url(&self, name: &str) -> String {
        format!("postgres://shawk@localhost:{}/{name}?host={}", self.port, self.directory.display())
    }

    fn tcp_url(&self, name: &str) -> String {
        format!("postgres://shawk:{PASSWORD}@127.0.0.1:{}/{name}?sslmode=disable", self.port)
    }

    /// Stops it as `systemctl stop` would: connections are ended.
    pub(crate) fn stop(&self) {
        self.tell("stop");
    }

    /// Stops it as a crash would.
    pub(crate) fn kill(&self) {
        self.tell("kill");
    }

    /// Starts it again, at the same port, with what it had.
    pub(crate) fn start_again(&self) {
        self.tell("start");
    }

    fn tell(&self, word: &str) {
        let mut keeper = self.keeper.lock().expect("no test panics while it tells");
        let told = keeper.told.as_mut().expect("it still listens");
        writeln!(told, "{word}").expect("tell the keeper");
        keeper.heard(self.version);
    }

    fn create_database(&self) -> String {
        let name = format!("cmdb_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = self.url("postgres");
        let statement = format!("CREATE DATABASE {name}");
        // A thread of its own, so that a test may call this inside a runtime
        // or outside of one.
        let making = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let mut connection: PgConnection = connect(&url).await;
                connection
                    .execute(sqlx::raw_sql(AssertSqlSafe(statement)))
                    .await
                    .expect("create a database");
                connection.close().await.expect("close");
            });
        });
        making.join().expect("make a database");
        name
    }
}

/// A plain connection, for what a test looks at behind the CMDB's back.
pub(crate) async fn connect(url: &str) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a test's own URL");
    options.disable_statement_logging().connect().await.expect("connect to a test server")
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.told = None;
        let _ = self.child.wait();
    }
}

impl Keeper {
    fn heard(&mut self, version: u32) {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("hear the keeper");
        if line.trim_end() != "ok" {
            let mut rest = String::new();
            let _ = self.says.by_ref().take(4096).read_to_string(&mut rest);
            panic!("PostgreSQL {version}: {line}{rest}");
        }
    }
}

fn binaries(version: u32) -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-servers").join(version.to_string());
    let bin = root.join("bin");
    assert!(
        bin.join("postgres").exists() && root.join("complete").exists(),
        "no PostgreSQL {version} in {}: run scripts/test-servers",
        root.display()
    );
    bin
}

/// The command's beginning: as root, a change to an unprivileged user, who is
/// given the directory.
fn unprivileged(directory: &Path) -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return vec!["env".to_owned()];
    }
    std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY))
        .expect("give the directory away");
    vec![
        "setpriv".to_owned(),
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".to_owned(),
    ]
}

/// Where the unprivileged user may run the server: where it is or, if that is
/// within somebody's home, in a copy.
fn within_reach(bin: PathBuf, directory: &Path) -> PathBuf {
    let bin = bin.canonicalize().expect("it was there");
    if !rustix::process::geteuid().is_root() || bin.ancestors().all(open_to_all) {
        return bin;
    }
    let copy = directory.join("server");
    let root = bin.parent().expect("bin is in a directory");
    let run = |command: &mut Command| {
        assert!(command.status().expect("run a command").success(), "{command:?}");
    };
    run(Command::new("cp").arg("-a").args([root, &copy]));
    run(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(&copy));
    copy.join("bin")
}

fn open_to_all(directory: &Path) -> bool {
    directory.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("find a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
