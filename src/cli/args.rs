//! What may stand on the command line, as clap reads it: words, not values.
//!
//! Values are read in `cli`, because a flag and a variable of the environment
//! mean the same and must be refused in the same words.
#![expect(missing_docs, reason = "a doc comment here is a line of the manual")]

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cli::args::inquiry::QueryWord;

pub mod inquiry;

/// What talks to what on a fleet of Linux hosts, which process, and since when.
#[derive(Debug, Parser)]
#[command(
    name = "shawk",
    disable_version_flag = true,
    arg_required_else_help = false,
    after_help = "These may also be given by environment, a flag going first:\n  \
        SHAWK_CMDB_URL, SHAWK_PROBE_MODE, SHAWK_PROBE_INTERVAL, SHAWK_PROBE_FILTER,\n  \
        SHAWK_FLUSH_INTERVAL (or SHAWK_PROBE_FLUSH_INTERVAL), SHAWK_HOST_ID,\n  \
        SHAWK_HOSTNAME, SHAWK_SPOOL, SHAWK_SPOOL_LIMIT, SHAWK_METRICS, SHAWK_LISTEN,\n  \
        SHAWK_TLS_CERT, SHAWK_TLS_KEY, SHAWK_CLIENT_CA, SHAWK_NAME, SHAWK_LABELS,\n  \
        SHAWK_REQUIRE_AUTH, SHAWK_SHARED_ADDRESSES, SHAWK_DEBUG, and\n  \
        SHAWK_ENV_FILE, a file of such lines.\n  \
        By environment alone: SHAWK_TOKEN_FILE, a file with the token that a collector\n  \
        is shown, or SHAWK_TOKEN, the token itself."
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Word>,
}

/// What every command takes, apart from what is its own.
const ANYWHERE: &str = "Of every command";

#[derive(Debug, Args)]
pub struct Global {
    /// Print the version
    #[arg(long, short = 'V', action = ArgAction::SetTrue)]
    pub version: bool,
    /// Print the licences of what shawk is built from
    #[arg(long, action = ArgAction::SetTrue)]
    pub credits: bool,
    /// Log what is done and why, to standard error
    #[arg(long, global = true, help_heading = ANYWHERE, action = ArgAction::SetTrue)]
    pub debug: bool,
    /// A file of settings, NAME=value a line
    #[arg(long, global = true, help_heading = ANYWHERE, value_name = "FILE")]
    pub env_file: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Word {
    /// Read this host's sockets and record its host flows in the CMDB
    Probe(ProbeArguments),
    #[command(flatten)]
    Query(QueryWord),
    /// Collect reports of many probes over HTTP, record them and answer questions
    Serve(ServeArguments),
    /// Create the CMDB's schema, or bring it up to date
    #[command(name = "create-scheme", visible_alias = "create-schema")]
    CreateScheme(StoredArguments),
    /// Print what this host offers to a probe, and what would lift it
    Doctor,
    /// Forget what was over long ago: flows, spans, hours, addresses, silent hosts
    Prune(PruneArguments),
    /// Make a token, by which a collector knows a host or somebody who asks, and print it once
    Enrol(EnrolArguments),
    /// List the tokens that were made, without what they are
    Tokens(TokensArguments),
    /// End tokens at once
    Revoke(RevokeArguments),
    /// Print the version
    Version,
    /// Print the licences of what shawk is built from
    Credits,
}

#[derive(Debug, Args)]
pub struct CmdbArguments {
    /// Where the CMDB is: sqlite:PATH, postgres://USER@HOST/DATABASE, or the
    /// collector that has it: https://HOST:PORT
    /// [default: sqlite:/var/lib/shawk/cmdb.db, for others than root
    /// sqlite:~/.local/state/shawk/cmdb.db]
    #[arg(long, visible_alias = "cmdb-url", value_name = "URL")]
    pub cmdb: Option<String>,
}

/// Of a command that a collector does not carry out.
#[derive(Debug, Args)]
pub struct StoredArguments {
    /// Where the CMDB is: sqlite:PATH, or postgres://USER@HOST/DATABASE
    /// [default: sqlite:/var/lib/shawk/cmdb.db, for others than root
    /// sqlite:~/.local/state/shawk/cmdb.db]
    #[arg(long, visible_alias = "cmdb-url", value_name = "URL")]
    pub cmdb: Option<String>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct LabelsArguments {
    /// A file that gives names, roles and groups to hosts, networks and units
    #[arg(long, value_name = "FILE")]
    pub labels: Option<String>,
}

#[derive(Debug, Args)]
pub struct PruneArguments {
    #[command(flatten)]
    pub cmdb: StoredArguments,
    /// How long ago, an hour or more: 720h, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "MOMENT")]
    pub older_than: String,
}

#[derive(Debug, Args)]
pub struct EnrolArguments {
    /// Whose token it is, in your own words
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub cmdb: StoredArguments,
    /// What it is for: write (to report about one host), read (to ask) or admin
    /// (both, for any host) [default: write]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// The host that it may report about, by its id, which 'shawk doctor' says
    #[arg(long, value_name = "ID")]
    pub host_id: Option<String>,
    /// How long it is good [default: until it is revoked]
    #[arg(long, value_name = "DURATION")]
    pub expires: Option<String>,
    /// Make another one for the same, and have the old ones end after --grace
    #[arg(long, action = ArgAction::SetTrue, conflicts_with_all = ["role", "host_id"])]
    pub rotate: bool,
    /// How much longer the old ones are good [default: 24h]
    #[arg(long, value_name = "DURATION", requires = "rotate")]
    pub grace: Option<String>,
}

#[derive(Debug, Args)]
pub struct TokensArguments {
    #[command(flatten)]
    pub cmdb: StoredArguments,
    /// table or json
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "table")]
    pub output: String,
}

#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// One token by its id, or all of a name
    #[arg(value_name = "ID|NAME")]
    pub what: String,
    #[command(flatten)]
    pub cmdb: StoredArguments,
}

#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    pub cmdb: StoredArguments,
    /// Where to listen [default: 127.0.0.1:7717]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Its certificate, and those that lead to the authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// The authority of the certificates by which those who ask are known (PEM)
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<String>,
    /// On loopback, too, know everybody who asks, by certificate or token
    #[arg(long, action = ArgAction::SetTrue)]
    pub require_auth: bool,
    /// Addresses that several hosts may have at once, beside those of the
    /// standard bridges of Docker, Podman and libvirt: Kubernetes' services under
    /// IPVS, anycast; with commas
    #[arg(long, value_name = "NETWORK")]
    pub shared_addresses: Option<String>,
    #[command(flatten)]
    pub labels: LabelsArguments,
    /// A name it is asked by, beside those of its certificate; several with commas
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct ProbeArguments {
    #[command(flatten)]
    pub cmdb: CmdbArguments,
    /// How sockets are read: polling (at the interval, by the best way this
    /// host offers; the default), streaming, auto (the best of all), or one way by
    /// its name: iterator, netlink, procfs
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Time between two scans [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<String>,
    /// Time between two reports to the CMDB [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub flush_interval: Option<String>,
    /// Scan once, record it and exit
    #[arg(long, action = ArgAction::SetTrue)]
    pub once: bool,
    /// Which peers to report: all (the default), public or private
    #[arg(long, value_name = "WHICH")]
    pub filter: Option<String>,
    /// Where a daemon keeps what it cannot deliver, a directory of its own, or
    /// none [default: /var/lib/shawk/spool, for others than root
    /// ~/.local/state/shawk/spool]
    #[arg(long, value_name = "DIRECTORY")]
    pub spool: Option<String>,
    /// Most bytes of it, as in 64MiB [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub spool_limit: Option<String>,
    /// Tell Prometheus of the daemon itself at this address, or at this port of
    /// 127.0.0.1; the path is /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,
    /// The host's id, instead of one derived from its machine id
    #[arg(long, value_name = "ID")]
    pub host_id: Option<String>,
    /// The host's name, instead of the kernel's
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Write every snapshot of sockets to a file as well (- for standard output)
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub record: Option<String>,
    /// Take snapshots from a file that --record wrote, instead of the kernel
    #[arg(long, value_name = "FILE")]
    pub replay: Option<String>,
}

#[derive(Debug, Args)]
pub struct LookArguments {
    #[command(flatten)]
    pub of: SelectorArguments,
    #[command(flatten)]
    pub cmdb: CmdbArguments,
    #[command(flatten)]
    pub labels: LabelsArguments,
    /// How many steps to walk
    #[arg(long, value_name = "STEPS", default_value = "1")]
    pub depth: String,
    /// Only what depends on it
    #[arg(long, action = ArgAction::SetTrue)]
    pub up: bool,
    /// Only what it depends on
    #[arg(long, action = ArgAction::SetTrue)]
    pub down: bool,
    #[command(flatten)]
    pub window: WindowArguments,
    /// Most edges [default: 100000]
    #[arg(long, value_name = "NUMBER")]
    pub limit: Option<String>,
    /// Go on where a page ended: 'next' of its JSON, or what stands below it
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// tree, table, json, csv, dot, mermaid, graphml, grafana or svg
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "tree")]
    pub output: String,
}

#[derive(Debug, Default, Args)]
pub struct SelectorArguments {
    /// An address, a network (10.0.0.0/24), a port, a host, a process, a label, a
    /// service (10.0.0.10:80, web-1:80, IPv6 in brackets), or '*' for all that is known
    /// [default: of look this host, of all others '*']
    #[arg(value_name = "WHAT")]
    pub what: Option<String>,
    /// An address or a network
    #[arg(long, value_name = "ADDRESS", group = "selector", conflicts_with = "what")]
    pub ip: Option<String>,
    /// An IPv4 address or network
    #[arg(long, value_name = "ADDRESS", group = "selector", conflicts_with = "what")]
    pub ipv4: Option<String>,
    /// An IPv6 address or network
    #[arg(long, value_name = "ADDRESS", group = "selector", conflicts_with = "what")]
    pub ipv6: Option<String>,
    /// A host, by name or id
    #[arg(long, value_name = "NAME", group = "selector", conflicts_with = "what")]
    pub host: Option<String>,
    /// A process, by name, on any host
    #[arg(long, value_name = "NAME", group = "selector", conflicts_with = "what")]
    pub process: Option<String>,
    /// A service, by port, on any host
    #[arg(long, value_name = "PORT", group = "selector", conflicts_with = "what")]
    pub port: Option<String>,
    /// A name, role or group of the labels
    #[arg(long, value_name = "NAME", group = "selector", conflicts_with = "what")]
    pub label: Option<String>,
}

#[derive(Debug, Default, Args)]
pub struct WindowArguments {
    /// Only what was alive since then: 15m, 2h45m, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "MOMENT")]
    pub since: Option<String>,
    /// Only what was alive until then
    #[arg(long, value_name = "MOMENT")]
    pub until: Option<String>,
    /// Only what was alive at that moment
    #[arg(long, value_name = "MOMENT", conflicts_with_all = ["since", "until"])]
    pub at: Option<String>,
}
