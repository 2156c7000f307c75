//! The page on what real programs did. Its screenshots are kept in the directory
//! that `SHAWK_TEST_PICTURES` names; those in docs/ are from here.

use crate::lab::fleet::fleet;
use crate::page::browse;
use crate::serve::collector::Collector;

#[test]
fn the_page_shows_the_fleet() {
    let lab = fleet();
    let mut hosts = lab.hosts();
    hosts.retain(|host| host.name != "db-1");
    let directory = tempfile::tempdir().unwrap();
    let cmdb = lab.fresh_sqlite("netlink");
    for host in &hosts {
        host.probe_once(&cmdb);
    }
    let collector = Collector::start(&cmdb.url, &[]);
    let pictures = std::env::var("SHAWK_TEST_PICTURES");
    let pictures = pictures.unwrap_or_else(|_| directory.path().display().to_string());
    browse("fleet", &[&collector.url(), &pictures]);
}
