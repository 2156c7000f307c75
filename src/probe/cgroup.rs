//! `/proc/PID/cgroup` → systemd unit, container and pod.
//!
//! Pure. It knows how the common container runtimes and systemd name their
//! control groups, in version 1, version 2 and both at once (hybrid), and
//! nothing of what is behind the names.

use crate::flow::process::decode;

/// What the control groups of a process tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The innermost systemd unit.
    pub unit: Option<String>,
    /// 64 hex digits, or the name an LXC container has.
    pub container: Option<String>,
    /// Kubernetes pod UID, in its dashed form.
    pub pod: Option<String>,
}

/// Reads the lines `hierarchy-id:controllers:path`.
///
/// Each question is answered by the first hierarchy that answers it: the
/// unified one, then systemd's own of version 1, then the rest in the order
/// of the file. Docker with the cgroupfs driver on a version 1 host is not in
/// systemd's, and a hybrid host has an empty unified one.
pub fn parse(bytes: &[u8]) -> Place {
    let lines = || {
        bytes.split(|&byte| byte == b'\n').filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let (id, controllers) = (fields.next()?, fields.next()?);
            Some((id, controllers, fields.next()?))
        })
    };
    let unified = lines().filter(|(id, controllers, _)| *id == b"0" && controllers.is_empty());
    let systemd = lines().filter(|(_, controllers, _)| *controllers == b"name=systemd");
    let mut place = Place::default();
    for (_, _, path) in unified.chain(systemd).chain(lines()) {
        let seen = parse_path(path);
        place.unit = place.unit.or(seen.unit);
        place.container = place.container.or(seen.container);
        place.pod = place.pod.or(seen.pod);
    }
    place
}

/// One path, from the root inwards: what is further in wins.
fn parse_path(path: &[u8]) -> Place {
    let mut place = Place::default();
    // A process that was moved to a control group since removed.
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let mut parent: &[u8] = b"";
    for part in path.split(|&byte| byte == b'/') {
        if let Some(unit) = unit(part) {
            place.unit = Some(unit);
        }
        if let Some(pod) = pod(part) {
            place.pod = Some(pod);
        }
        if let Some(container) = container(part, parent) {
            place.container = Some(container);
        }
        parent = part;
    }
    place
}

/// `nginx.service`, `session-3.scope`. What a container runtime makes for a
/// container or its monitor is a scope too; its name holds the container's,
/// and is no unit that outlives a restart.
fn unit(part: &[u8]) -> Option<String> {
    let stem = part.strip_suffix(b".service").or_else(|| part.strip_suffix(b".scope"))?;
    if stem.is_empty() || split_id(stem).is_some() {
        return None;
    }
    // systemd puts an underscore before a name that would collide with a file
    // of the kernel's (`cg_escape`).
    Some(decode(part.strip_prefix(b"_").unwrap_or(part)))
}

fn container(part: &[u8], parent: &[u8]) -> Option<String> {
    if let Some(id) = container_id(part) {
        return Some(id);
    }
    // LXC: /lxc/NAME, then /lxc.payload/NAME (3.1), then /lxc.payload.NAME
    // (4.0). Its monitor, in lxc.monitor, is a process of the host.
    if let Some(name) = part.strip_prefix(b"lxc.payload.") {
        return name_of(name);
    }
    if parent == b"lxc" || parent == b"lxc.payload" {
        return name_of(part);
    }
    // systemd-nspawn and libvirt: machine.slice/machine-NAME.scope, or
    // systemd-nspawn@NAME.service.
    if let Some(name) = part.strip_prefix(b"machine-") {
        return name.strip_suffix(b".scope").and_then(|name| name_of(&unescape(name)));
    }
    if let Some(name) = part.strip_prefix(b"systemd-nspawn@") {
        return name.strip_suffix(b".service").and_then(|name| name_of(&unescape(name)));
    }
    None
}

fn name_of(name: &[u8]) -> Option<String> {
    (!name.is_empty()).then(|| decode(name))
}

/// 64 hex digits: alone (cgroupfs driver), or as `docker-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope` (systemd
/// driver), `libpod-payload-ID`, or `PREFIX:cri-containerd:ID` (containerd
/// told to use systemd while runc was not). A `conmon` is podman's and CRI-O's
/// monitor and runs on the host.
fn container_id(part: &[u8]) -> Option<String> {
    let part = part.strip_suffix(b".scope").unwrap_or(part);
    let (prefix, id) = split_id(part)?;
    let monitor = prefix.windows(6).any(|window| window == b"conmon");
    (!monitor).then(|| decode(id))
}

/// Splits off 64 hex digits at the end, alone or after `-` or `:`.
fn split_id(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let (prefix, id) = part.split_at_checked(part.len().checked_sub(64)?)?;
    let hex = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let apart = prefix.is_empty() || prefix.ends_with(b"-") || prefix.ends_with(b":");
    (hex && apart).then_some((prefix, id))
}

/// `podUID` (cgroupfs driver) or `kubepods-burstable-podUID.slice` (systemd
/// driver, where a dash means a level and underscores stand in for those of
/// the UID). A static pod's UID is a hash of 32 digits.
fn pod(part: &[u8]) -> Option<String> {
    let part = part.split(|&byte| byte == b':').next()?;
    let uid = match part.strip_suffix(b".slice") {
        Some(slice) => {
            let (level, uid) = split_at_last(slice, b"-pod")?;
            // `kubelet-kubepods` where the kubelet has a root of its own.
            level.split(|&byte| byte == b'-').any(|word| word == b"kubepods").then_some(uid)?
        }
        None => part.strip_prefix(b"pod")?,
    };
    let uid: Vec<u8> = uid.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect();
    let dashed = uid.len() == 36 && [8, 13, 18, 23].iter().all(|&at| uid[at] == b'-');
    let plain = uid.len() == 32;
    let hex = uid.iter().all(|byte| byte.is_ascii_hexdigit() || (dashed && *byte == b'-'));
    ((dashed || plain) && hex).then(|| decode(&uid))
}

fn split_at_last<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).rposition(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

/// systemd's escaping of names: `\x2d` is a dash.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let hex = rest.strip_prefix(b"\\x").and_then(|rest| rest.get(..2));
        let value = hex
            .and_then(|hex| str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match value {
            Some(value) => {
                plain.push(value);
                rest = &rest[4..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a0c9d4b6e8f1027395a7c6d4e2b1f0a9c8d7e6f5b4a392817060504030201";

    /// Writes ID for `%` and checks `unit container pod`, `-` where absent.
    fn check(file: &str, expected: &str) {
        let place = parse(file.replace('%', ID).as_bytes());
        let word = |word: Option<String>| word.map_or("-".to_owned(), |word| word.replace(ID, "%"));
        let said = format!("{} {} {}", word(place.unit), word(place.container), word(place.pod));
        assert_eq!(said, expected, "{file}");
    }

    #[test]
    fn units_are_the_innermost() {
        check("0::/\n", "- - -");
        check("", "- - -");
        check("0::/init.scope\n", "init.scope - -");
        check("0::/system.slice/nginx.service\n", "nginx.service - -");
        check(
            "0::/system.slice/system-postgresql.slice/postgresql@17-main.service\n",
            "postgresql@17-main.service - -",
        );
        check("0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope - -");
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service\n",
            "foo.service - -",
        );
        check("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", "init.scope - -");
        check("0::/system.slice/docker.service/nested/deeper\n", "docker.service - -");
        check("0::/system.slice/gone.service (deleted)\n", "gone.service - -");
        check("0::/system.slice\n", "- - -");
        check("0::/system.slice/.service\n", "- - -");
        check("0::/../../system.slice/cron.service\n", "cron.service - -");
    }

    #[test]
    fn version_1_and_hybrid() {
        check(
            "12:pids:/system.slice/ssh.service\n4:cpu,cpuacct:/system.slice\n1:name=systemd:/system.slice/ssh.service\n",
            "ssh.service - -",
        );
        check(
            "12:pids:/user.slice/user-0.slice/session-1.scope\n1:name=systemd:/user.slice/user-0.slice/session-1.scope\n0::/user.slice/user-0.slice/session-1.scope\n",
            "session-1.scope - -",
        );
        check("11:pids:/docker/%\n1:name=systemd:/docker/%\n0::/\n", "- % -");
        check(
            "11:pids:/docker/%\n1:name=systemd:/docker/%\n0::/system.slice/containerd.service\n",
            "containerd.service % -",
        );
        check("9:name=systemd:/\n8:pids:/\n0::/\n", "- - -");
    }

    #[test]
    fn containers_of_each_runtime() {
        check("0::/docker/%\n", "- % -");
        check("0::/system.slice/docker-%.scope\n", "- % -");
        check("0::/system.slice/docker-%.scope/init.scope\n", "init.scope % -");
        check("0::/system.slice/docker-%.scope/system.slice/cron.service\n", "cron.service % -");
        check("0::/machine.slice/libpod-%.scope/container\n", "- % -");
        check("0::/machine.slice/libpod-%.scope\n", "- % -");
        check("0::/machine.slice/libpod-conmon-%.scope\n", "- - -");
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-%.scope/container\n",
            "user@1000.service % -",
        );
        check("0::/default/%\n", "- % -");
        check("0::/lxc/web1\n", "- web1 -");
        check("0::/lxc.payload.web1\n", "- web1 -");
        check("0::/lxc.payload.web1/system.slice/nginx.service\n", "nginx.service web1 -");
        check("0::/lxc.payload/web1\n", "- web1 -");
        check("0::/lxc.monitor.web1\n", "- - -");
        check(
            "4:cpu:/lxc/web1/system.slice/ssh.service\n1:name=systemd:/lxc/web1/system.slice/ssh.service\n",
            "ssh.service web1 -",
        );
        check(
            "0::/machine.slice/machine-deb\\x2d12.scope/payload\n",
            "machine-deb\\x2d12.scope deb-12 -",
        );
        check(
            "0::/machine.slice/systemd-nspawn@deb.service/payload/system.slice/ssh.service\n",
            "ssh.service deb -",
        );
        check(
            "0::/docker/%/docker/aaaa0c9d4b6e8f1027395a7c6d4e2b1f0a9c8d7e6f5b4a392817060504030201\n",
            "- aaaa0c9d4b6e8f1027395a7c6d4e2b1f0a9c8d7e6f5b4a392817060504030201 -",
        );
        check("0::/docker/3f2a0c9d4b6e\n", "- - -");
        check("0::/docker/x%\n", "- - -");
    }

    #[test]
    fn pods_of_both_drivers() {
        check(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/cri-containerd-%.scope\n",
            "- % 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "0::/kubepods.slice/kubepods-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/crio-%.scope\n",
            "- % 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "0::/kubepods.slice/kubepods-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/crio-conmon-%.scope\n",
            "- - 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "0::/kubepods/besteffort/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/%\n",
            "- % 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "3:pids:/kubepods/burstable/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/%\n1:name=systemd:/kubepods/burstable/pod0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/%\n",
            "- % 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "0::/system.slice/containerd.service/kubepods-burstable-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice:cri-containerd:%\n",
            "containerd.service % 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0f1e2d3c_4b5a_6978_8796_a5b4c3d2e1f0.slice/cri-containerd-%.scope\n",
            "- % 0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        );
        check(
            "0::/kubepods/pod0123456789abcdef0123456789abcdef/%\n",
            "- % 0123456789abcdef0123456789abcdef",
        );
        check("0::/system.slice/podman.service\n", "podman.service - -");
        check("0::/podinfo/x\n", "- - -");
    }

    #[test]
    fn hostile_names_stay_readable() {
        let place = parse(b"0::/a:b/\xff\x1b[31m.service\nnonsense\n1\n::::\n");
        assert_eq!(place.unit.as_deref(), Some("\\xff\u{1b}[31m.service"));
        assert_eq!(unescape(b"\\x2d\\x\\xz1\\x4"), b"-\\x\\xz1\\x4");
    }
}
