//! What a process is: read once for each that owns a socket, then remembered.
//!
//! It knows `/proc/PID` and the user list; of sockets it knows nothing.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::flow::process::{Process, decode};
use crate::probe::cgroup;
use crate::probe::procfs::{self, Stat};

/// A daemon changes its user and its control group right after it started,
/// and its comm tells of neither. So young processes are read again.
const SETTLED_TICKS: u64 = 1000;

/// Longest `cgroup` or `status` that is read. A path is at most 4096 bytes,
/// and version 1 has a dozen of them, all alike and mostly short.
const FILE: usize = 16 * 1024;

/// Longest `exe` that is read: PATH_MAX.
const LINK: usize = 4096;

/// The identities of the processes of the last scan.
#[derive(Debug)]
pub struct Identities {
    users: Users,
    known: HashMap<(u32, u64), Known>,
    scan: u64,
    file: Box<[u8]>,
    link: Box<[std::mem::MaybeUninit<u8>]>,
}

#[derive(Debug)]
struct Known {
    comm: Box<[u8]>,
    process: Arc<Process>,
    settled: bool,
    scan: u64,
}

impl Identities {
    /// None known. `passwd` is a file like `/etc/passwd`. NSS is not asked,
    /// for it may wait for a network.
    pub fn new(passwd: PathBuf) -> Identities {
        Identities {
            users: Users { path: passwd, version: None, names: HashMap::new() },
            known: HashMap::new(),
            scan: 0,
            file: vec![0; FILE].into_boxed_slice(),
            link: vec![std::mem::MaybeUninit::uninit(); LINK].into_boxed_slice(),
        }
    }

    /// A scan begins.
    pub fn begin(&mut self) {
        self.scan += 1;
        self.users.refresh();
    }

    /// A scan is over: what it did not ask for is forgotten, so that no more
    /// is kept than one scan had.
    pub fn end(&mut self) {
        let scan = self.scan;
        self.known.retain(|_, known| known.scan == scan);
    }

    /// The process with that pid and `stat`. `below` is any directory right
    /// below its own in `/proc`: a directory that is open stays with the
    /// process, while its path may come to mean another. `age_ticks` is the
    /// time since it started.
    pub fn process(
        &mut self,
        below: impl AsFd,
        pid: u32,
        stat: &Stat<'_>,
        age_ticks: u64,
    ) -> Arc<Process> {
        let key = (pid, stat.start_ticks);
        if let Some(known) = self.known.get_mut(&key)
            && known.settled
            && *known.comm == *stat.comm
        {
            known.scan = self.scan;
            return Arc::clone(&known.process);
        }
        let process = self.read(below, stat);
        let known = Known {
            comm: stat.comm.into(),
            process: Arc::clone(&process),
            settled: age_ticks >= SETTLED_TICKS,
            scan: self.scan,
        };
        self.known.insert(key, known);
        process
    }

    fn read(&mut self, below: impl AsFd, stat: &Stat<'_>) -> Arc<Process> {
        let exe = procfs::read_link(&below, "../exe", &mut self.link).ok().map(|target| {
            // What the kernel says of a file that was replaced since, as an
            // upgrade does; the program is the same.
            let mut path = decode(target.strip_suffix(b" (deleted)").unwrap_or(target));
            // Each byte that is no text has become four, and whoever receives a
            // longer path has no place for it, nor for its flows.
            path.truncate(path.floor_char_boundary(LINK));
            path
        });
        let user = procfs::read(&below, "../status", &mut self.file)
            .ok()
            .and_then(procfs::parse_effective_user);
        let place = procfs::read(&below, "../cgroup", &mut self.file)
            .map(cgroup::parse)
            .unwrap_or_default();
        // A container has a user list of its own, and its user 999 is not the
        // host's. It shares the superuser, near enough.
        let foreign = place.container.is_some();
        Arc::new(Process {
            name: decode(stat.comm),
            exe,
            user: user.map(|user| match self.users.names.get(&user) {
                Some(name) if user == 0 || !foreign => name.clone(),
                _ => user.to_string(),
            }),
            unit: place.unit,
            container: place.container,
            pod: place.pod,
        })
    }

    /// A user outside of containers, by name or else by number.
    pub fn user(&self, user: u32) -> String {
        self.users.names.get(&user).cloned().unwrap_or_else(|| user.to_string())
    }

    /// The container in which the process with that pid is, if it is in one.
    pub fn container(&mut self, proc: impl AsFd, pid: u32) -> Option<String> {
        let bytes = procfs::read(proc, &format!("{pid}/cgroup"), &mut self.file).ok()?;
        cgroup::parse(bytes).container
    }
}

/// Names of users, read again when the file changed.
#[derive(Debug)]
struct Users {
    path: PathBuf,
    version: Option<(u64, i64, i64, u64)>,
    names: HashMap<u32, String>,
}

impl Users {
    /// A file that cannot be read leaves what was known.
    fn refresh(&mut self) {
        let Ok(metadata) = std::fs::metadata(&self.path) else {
            return;
        };
        let version = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        if self.version == Some(version) {
            return;
        }
        if let Ok(bytes) = std::fs::read(&self.path) {
            self.names = procfs::parse_passwd(&bytes);
            self.version = Some(version);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    struct Fake {
        directory: tempfile::TempDir,
        identities: Identities,
    }

    impl Fake {
        fn new() -> Fake {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("fd")).unwrap();
            fs::write(directory.path().join("passwd"), "web:x:33:33::/:\n").unwrap();
            fs::write(directory.path().join("status"), "Uid:\t0\t33\t0\t0\n").unwrap();
            fs::write(directory.path().join("cgroup"), "0::/system.slice/web.service\n").unwrap();
            std::os::unix::fs::symlink("/usr/bin/web (deleted)", directory.path().join("exe"))
                .unwrap();
            let identities = Identities::new(directory.path().join("passwd"));
            Fake { directory, identities }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).unwrap();
        }

        fn process(&mut self, comm: &[u8], age_ticks: u64) -> Arc<Process> {
            let below = fs::File::open(self.directory.path().join("fd")).unwrap();
            let stat = Stat { comm, pgrp: 1, start_ticks: 5 };
            self.identities.process(below, 1, &stat, age_ticks)
        }
    }

    #[test]
    fn a_long_path_of_what_is_no_text_stays_as_short_as_any() {
        let mut fake = Fake::new();
        let exe = fake.directory.path().join("exe");
        fs::remove_file(&exe).unwrap();
        let path = [b"/".as_slice(), &[0xff; 3000]].concat();
        std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&path), &exe).unwrap();
        fake.identities.begin();
        let exe = fake.process(b"web", 10).exe.clone().unwrap();
        assert!(exe.len() == LINK && exe.starts_with("/\\xff\\xff"), "{exe}");
    }

    #[test]
    fn a_process_is_read_once_it_has_settled() {
        let mut fake = Fake::new();
        fake.identities.begin();
        let first = fake.process(b"web", 10);
        let expected = Process {
            name: "web".to_owned(),
            exe: Some("/usr/bin/web".to_owned()),
            user: Some("web".to_owned()),
            unit: Some("web.service".to_owned()),
            container: None,
            pod: None,
        };
        assert_eq!(*first, expected);

        fake.write("status", "Uid:\t0\t34\t0\t0\n");
        let second = fake.process(b"web", SETTLED_TICKS);
        assert_eq!(second.user.as_deref(), Some("34"));

        fake.write("status", "Uid:\t0\t35\t0\t0\n");
        assert!(Arc::ptr_eq(&second, &fake.process(b"web", SETTLED_TICKS + 1)));
        // It became another program.
        assert_eq!(fake.process(b"sh", SETTLED_TICKS + 2).user.as_deref(), Some("35"));
    }

    #[test]
    fn what_a_scan_did_not_see_is_forgotten() {
        let mut fake = Fake::new();
        fake.identities.begin();
        fake.process(b"web", SETTLED_TICKS);
        fake.identities.end();
        assert_eq!(fake.identities.known.len(), 1);
        fake.identities.begin();
        fake.identities.end();
        assert_eq!(fake.identities.known.len(), 0);
    }

    #[test]
    fn the_user_list_is_read_again_when_it_changed() {
        let mut fake = Fake::new();
        fake.identities.begin();
        assert_eq!(fake.process(b"web", 0).user.as_deref(), Some("web"));
        fake.write("passwd", "renamed:x:33:33::/:\n");
        fake.identities.begin();
        assert_eq!(fake.process(b"web", 0).user.as_deref(), Some("renamed"));
        fs::remove_file(fake.directory.path().join("passwd")).unwrap();
        fake.identities.begin();
        assert_eq!(fake.process(b"web", 0).user.as_deref(), Some("renamed"));
    }

    #[test]
    fn a_container_has_users_of_its_own() {
        let mut fake = Fake::new();
        fake.identities.begin();
        fake.write("cgroup", "0::/lxc.payload.c1\n");
        assert_eq!(fake.process(b"web", 0).user.as_deref(), Some("33"));
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let mut fake = Fake::new();
        fake.identities.begin();
        for name in ["exe", "status", "cgroup"] {
            fs::remove_file(fake.directory.path().join(name)).unwrap();
        }
        let process = fake.process(b"a) R 1 1\n2 (\xff", 0);
        let expected = Process {
            name: "a) R 1 1\n2 (\\xff".to_owned(),
            exe: None,
            user: None,
            unit: None,
            container: None,
            pod: None,
        };
        assert_eq!(*process, expected);
    }
}
