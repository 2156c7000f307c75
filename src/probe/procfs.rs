//! Small files of `/proc/PID`, read whole and parsed.
//!
//! Only files that no process can make a reader hang on: `stat`, `status`,
//! `cgroup`, and the links `exe` and `ns`. `cmdline`, `environ`, `maps` and
//! `smaps` take the process's mmap lock, which a stuck process may hold for
//! ever; they are read nowhere in this house.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

/// What one line of `/proc/PID/stat` says that this house wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// The bytes between the first parenthesis and the last.
    pub comm: &'a [u8],
    /// Process group; 0 where its leader is outside of the pid namespace.
    pub pgrp: u32,
    /// Start, in clock ticks after boot.
    pub start_ticks: u64,
}

/// Parses `/proc/PID/stat`. A comm may hold spaces, parentheses and newlines,
/// but what follows it cannot, so it ends at the last parenthesis.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat<'_>> {
    let open = bytes.iter().position(|&byte| byte == b'(')?;
    let close = bytes.iter().rposition(|&byte| byte == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let mut fields = str::from_utf8(&bytes[close + 1..]).ok()?.split_ascii_whitespace();
    // State and parent come first; the start is field 22 of proc_pid_stat(5).
    let pgrp = fields.nth(2)?.parse::<i64>().ok()?;
    let start_ticks = fields.nth(16)?.parse().ok()?;
    // -1 where the task has no process group any more.
    Some(Stat { comm, pgrp: u32::try_from(pgrp).unwrap_or(0), start_ticks })
}

/// The effective user id of `/proc/PID/status`. No name can forge the line:
/// the kernel escapes newlines in the one above it.
pub fn parse_effective_user(bytes: &[u8]) -> Option<u32> {
    let line = bytes.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// User names by number, of a file like `/etc/passwd`. The first line with a
/// number names it, as in glibc.
pub fn parse_passwd(bytes: &[u8]) -> HashMap<u32, String> {
    let mut users = HashMap::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        // `+` and `-` are NIS's.
        if let Some(id) = id
            && !name.is_empty()
            && !name.starts_with(b"+")
            && !name.starts_with(b"-")
        {
            users.entry(id).or_insert_with(|| crate::flow::process::decode(name));
        }
    }
    users
}

/// The number in a link such as `socket:[123]` or `net:[123]`.
pub fn parse_link(link: &[u8], kind: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(kind)?.strip_prefix(b":[")?.strip_suffix(b"]")?;
    parse_number(digits)
}

/// Decimal digits and nothing else.
pub fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

/// Reads `name` below `directory` into `into`, at most that many bytes of it.
/// A file of procfs that fits comes in one read, in one piece.
pub fn read<'a>(directory: impl AsFd, name: &str, into: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let mut length = 0;
    while length < into.len() {
        match rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut into[length..]))? {
            0 => break,
            got => length += got,
        }
    }
    Ok(&into[..length])
}

/// Reads the target of a link below `directory`, cut off at the room's end.
pub fn read_link(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
    room: &mut [MaybeUninit<u8>],
) -> Result<&[u8], Errno> {
    let (target, _) = rustix::fs::readlinkat_raw(directory, name, room)?;
    Ok(target)
}

/// The process ids that a `/proc` lists, ascending, into `pids`. The
/// descriptor is one that stays open, so that a lack of descriptors does not
/// hide what there is.
pub fn list_pids(
    proc: impl AsFd,
    room: &mut [MaybeUninit<u8>],
    pids: &mut Vec<u32>,
) -> Result<(), Errno> {
    pids.clear();
    rustix::fs::seek(&proc, SeekFrom::Start(0))?;
    let mut entries = RawDir::new(proc.as_fd(), room);
    while let Some(entry) = entries.next() {
        let pid = parse_number(entry?.file_name().to_bytes());
        if let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(())
}

/// Whether an error says that the process has ended.
pub fn has_ended(error: Errno) -> bool {
    error == Errno::NOENT || error == Errno::SRCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_cannot_break_stat() {
        let tail = b" S 1 4656 4656 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200 18446744073709551615";
        for comm in [&b"nginx"[..], b"a) R 1 1\n2 (", b"\xff", b"", b"((", b"))"] {
            let line = [b"4656 (", comm, b")", tail].concat();
            let stat = Stat { comm, pgrp: 4656, start_ticks: 98765 };
            assert_eq!(parse_stat(&line), Some(stat), "{comm:?}");
        }
    }

    #[test]
    fn what_is_no_stat_is_none() {
        for line in [
            &b""[..],
            b"1 (a",
            b"1 a)",
            b")(",
            b"1 (a) S 1 1",
            b"1 (a) S 1 x 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 9",
        ] {
            assert_eq!(parse_stat(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        let status = b"Name:\tUid:\\n1\nState:\tS\nUid:\t1000\t33\t0\t0\nGid:\t1\t2\t3\t4\n";
        assert_eq!(parse_effective_user(status), Some(33));
        assert_eq!(parse_effective_user(b"Name:\tx\nUid:\t1000\n"), None);
    }

    #[test]
    fn passwd_names_users() {
        let users = parse_passwd(b"root:x:0:0::/:/bin/sh\n\n+nis:x:7\n:x:8:\ntoor:x:0:0\n# a\nw\xffw:x:33:33\nbad:x:-1:\n");
        assert_eq!(users.len(), 2);
        assert_eq!(users[&0], "root");
        assert_eq!(users[&33], "w\\xffw");
    }

    #[test]
    fn links_hold_numbers() {
        assert_eq!(parse_link(b"socket:[12345]", b"socket"), Some(12345));
        assert_eq!(parse_link(b"net:[4026531840]", b"net"), Some(4_026_531_840));
        for link in [
            &b"socket:[]"[..],
            b"socket:[1",
            b"socket:[1x]",
            b"pipe:[1]",
            b"/socket:[1]",
            b"socket:[99999999999999999999]",
        ] {
            assert_eq!(parse_link(link, b"socket"), None, "{link:?}");
        }
    }
}
