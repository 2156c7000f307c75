//! The CMDBs that the lab writes to: an SQLite file, and a database on a
//! PostgreSQL server of the lab's own, reached through a unix socket, because
//! that works from any network namespace.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::lab::host::{Host, Program};
use crate::lab::network::Lab;
use crate::lab::wait::{self, LIMIT};

/// A CMDB without anything in it.
pub(crate) struct Cmdb {
    /// For messages.
    pub(crate) name: String,
    /// For `SHAWK_CMDB_URL`.
    pub(crate) url: String,
    /// `shawk create-scheme` is needed first.
    pub(crate) needs_scheme: bool,
    /// For `SHAWK_PROBE_MODE`: how the probes that fill it read sockets.
    pub(crate) mode: &'static str,
}

/// A PostgreSQL server on a host, run by an unprivileged user.
pub(crate) struct Server {
    host: Rc<Host>,
    /// Where its data and its unix socket are.
    directory: PathBuf,
    options: Vec<String>,
    process: RefCell<Program>,
}

/// Debian's user for it; PostgreSQL refuses to run as root.
const USER: &str = "postgres";

impl Lab {
    /// One fresh CMDB of each kind.
    pub(crate) fn fresh_cmdbs(&self) -> Vec<Cmdb> {
        let modes = ["streaming", "iterator", "netlink", "procfs"];
        let mut cmdbs: Vec<_> = modes.map(|mode| self.fresh_sqlite(mode)).into();
        cmdbs.push(self.fresh_postgres());
        cmdbs
    }

    /// A fresh file, for probes of this mode.
    pub(crate) fn fresh_sqlite(&self, mode: &'static str) -> Cmdb {
        let file = self.path(&format!("cmdb-{}.db", self.number()));
        Cmdb {
            name: format!("SQLite by {mode}"),
            url: format!("sqlite:{}", file.display()),
            needs_scheme: false,
            mode,
        }
    }

    /// A fresh database on the lab's PostgreSQL server.
    pub(crate) fn fresh_postgres(&self) -> Cmdb {
        let database = format!("cmdb{}", self.number());
        let server = self.server();
        server.query("postgres", &format!("create database {database}"));
        Cmdb {
            name: "PostgreSQL by polling".to_owned(),
            url: server.url(&database),
            needs_scheme: true,
            mode: "polling",
        }
    }

    /// The server that has the lab's CMDBs, on a host without a network.
    pub(crate) fn server(&self) -> Rc<Server> {
        let mut server = self.server.borrow_mut();
        Rc::clone(server.get_or_insert_with(|| {
            let host = Rc::new(Host::new("cmdb", &self.path("")));
            Rc::new(Server::start(&host, "", ""))
        }))
    }

    fn number(&self) -> u32 {
        *self.cmdbs.borrow_mut() += 1;
        *self.cmdbs.borrow()
    }
}

impl Server {
    /// Makes a cluster and starts a server that listens at an address, or
    /// through the unix socket alone, and trusts a network.
    pub(crate) fn start(host: &Rc<Host>, address: &str, trusted: &str) -> Server {
        let directory = host.directory.join("postgres");
        fs::create_dir(&directory).expect("a directory can be made");
        let id = |flag| {
            let text = host.succeeds(&["id", flag, USER]);
            text.trim().parse().expect("id prints a number")
        };
        chown(&directory, Some(id("-u")), Some(id("-g"))).expect("root can give files away");
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(&directory, mode).expect("the owner can set the mode");
        let path = directory.display().to_string();
        let data = format!("{path}/data");
        let initdb = [
            &binary("initdb"),
            "-D",
            &data,
            "-U",
            USER,
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ];
        host.succeeds(&[&as_user()[..], &initdb].concat());
        if !trusted.is_empty() {
            let file = format!("{data}/pg_hba.conf");
            let rules = fs::read_to_string(&file).expect("initdb writes its rules");
            let rules = format!("{rules}host all all {trusted} trust\n");
            fs::write(&file, rules).expect("root can write any file");
        }
        let options = [
            "-D",
            &data,
            "-k",
            &path,
            "-c",
            &format!("listen_addresses={address}"),
            "-c",
            "fsync=off",
            "-c",
            "max_connections=50",
        ];
        let options: Vec<String> = options.map(str::to_owned).to_vec();
        let process = launch(host, &options).into();
        let server = Server { host: Rc::clone(host), directory, options, process };
        server.answers();
        server
    }

    /// The address of a database, for any host of any lab. What stands where a
    /// host name does is not used, but a URL with a user has to have one.
    pub(crate) fn url(&self, database: &str) -> String {
        let directory = self.directory.display();
        format!("postgres://{USER}@localhost/{database}?host={directory}")
    }

    /// Runs a statement; returns what `psql` prints of it.
    pub(crate) fn query(&self, database: &str, statement: &str) -> String {
        let directory = self.directory.display().to_string();
        self.host.succeeds(&[
            &binary("psql"),
            "-h",
            &directory,
            "-U",
            USER,
            "-d",
            database,
            "-Atqc",
            statement,
        ])
    }

    /// Ends it with all its connections, as an administrator would.
    pub(crate) fn stop(&self) {
        self.host.signal(&self.process.borrow(), "INT");
        self.host.ended(&self.process.borrow());
    }

    /// Starts it again; returns when it answers.
    pub(crate) fn begin(&self) {
        *self.process.borrow_mut() = launch(&self.host, &self.options);
        self.answers();
    }

    /// What it logged, in all its runs.
    pub(crate) fn log(&self) -> String {
        self.host.logs_in_full()
    }

    fn answers(&self) {
        wait::until("PostgreSQL to answer", LIMIT, || {
            if let Some(status) = self.host.exit(&self.process.borrow()) {
                panic!("PostgreSQL ended ({status}): {}", self.host.logs());
            }
            let directory = self.directory.display().to_string();
            let said = self.host.run(&[&binary("pg_isready"), "-q", "-U", USER, "-h", &directory]);
            said.status.success().then_some(()).ok_or(said.stderr)
        });
    }
}

fn launch(host: &Host, options: &[String]) -> Program {
    let binary = binary("postgres");
    let mut words = as_user();
    words.push(&binary);
    words.extend(options.iter().map(String::as_str));
    host.start(&words, &[])
}

fn as_user() -> Vec<&'static str> {
    vec!["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"]
}

/// A program of the newest PostgreSQL that Debian installed.
pub(crate) fn binary(name: &str) -> String {
    let root = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(root).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .unwrap_or_else(|| panic!("the lab needs PostgreSQL: install Debian's postgresql"));
    format!("{}/{newest}/bin/{name}", root.display())
}
