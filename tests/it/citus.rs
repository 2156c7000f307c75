//! Databases in a Citus cluster that is already there. SHAWK_TEST_CITUS_URL
//! names its coordinator and a superuser, who reaches all of its nodes in the
//! same way. Set when the tests are built, it adds the contract on Citus to
//! them; a cluster that cannot be reached then fails them.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, Row};

/// A database on all nodes, with the extension; gone when dropped.
pub(crate) struct Database {
    name: String,
    nodes: Vec<PgConnectOptions>,
}

impl Database {
    /// Makes one.
    pub(crate) fn new() -> Database {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("shawk_{}_{number}", std::process::id());
        apart(async move {
            let coordinator = coordinator();
            let mut here = connect(&coordinator).await;
            let known = here
                .fetch_all(
                    "SELECT nodename, nodeport, groupid FROM pg_dist_node
                    WHERE noderole = 'primary' ORDER BY groupid",
                )
                .await
                .expect("SHAWK_TEST_CITUS_URL names a coordinator");
            let known: Vec<(String, i32, i32)> =
                known.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
            let workers: Vec<_> = known.iter().filter(|(_, _, group)| *group != 0).collect();
            let node = |(name, port, _): &&(String, i32, i32)| {
                coordinator.clone().host(name).port(u16::try_from(*port).expect("a port"))
            };
            let mut nodes = vec![coordinator.clone()];
            nodes.extend(workers.iter().map(node));
            for node in &nodes {
                run(&mut connect(node).await, format!("CREATE DATABASE {name}")).await;
                let mut within = connect(&node.clone().database(&name)).await;
                run(&mut within, "CREATE EXTENSION citus".to_owned()).await;
            }
            let mut within = connect(&coordinator.database(&name)).await;
            for (host, port, group) in &known {
                let add = if *group == 0 { "citus_set_coordinator_host" } else { "citus_add_node" };
                run(&mut within, format!("SELECT {add}('{host}', {port})")).await;
                if workers.is_empty() {
                    let keeps = format!(
                        "SELECT citus_set_node_property('{host}', {port}, 'shouldhaveshards', true)"
                    );
                    run(&mut within, keeps).await;
                }
            }
            Database { name, nodes }
        })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        let url = given();
        let (before, query) = url.split_once('?').unwrap_or((&url, ""));
        let (server, _) = before.rsplit_once('/').expect("a URL with a database");
        format!("{server}/{}?{query}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (name, nodes) = (self.name.clone(), self.nodes.clone());
        apart(async move {
            for node in &nodes {
                let mut connection = connect(node).await;
                run(&mut connection, format!("DROP DATABASE {name} WITH (FORCE)")).await;
                connection.close().await.expect("close");
            }
        });
    }
}

fn given() -> String {
    std::env::var("SHAWK_TEST_CITUS_URL")
        .expect("SHAWK_TEST_CITUS_URL was set when these tests were built")
}

fn coordinator() -> PgConnectOptions {
    given().parse().expect("SHAWK_TEST_CITUS_URL is a URL")
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options.clone().disable_statement_logging().connect().await.expect("connect to the cluster")
}

async fn run(connection: &mut PgConnection, statement: String) {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.clone()))).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// On a thread of its own, so that a test may call it inside a runtime or
/// outside of one.
fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let doing = std::thread::spawn(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work)
    });
    doing.join().expect("work on the cluster")
}
