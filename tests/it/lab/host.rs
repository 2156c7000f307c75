//! A host: its namespaces, and programs on it. It knows no network beyond its
//! own loopback and nothing of shawk.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::rc::Rc;

use crate::lab::wait::{self, LIMIT, Said};

/// Where Debian has programs. The search path of who runs the tests is not
/// asked: a shim there has another name in `/proc` than what it starts.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A place to run programs: a host, or a further network namespace on one.
pub(crate) struct Host {
    /// What it is called, by `hostname` too.
    pub(crate) name: String,
    /// Empty, or the name `shawk` has for a network namespace on the host.
    pub(crate) scope: String,
    /// Files of the host and logs of its programs.
    pub(crate) directory: PathBuf,
    /// Programs of this host write their logs here, by number.
    programs: RefCell<Vec<Child>>,
    namespaces: Rc<Namespaces>,
    /// The command that leads into the place from inside the host.
    lead: Vec<String>,
}

/// The namespaces of a host, alive as long as this value.
struct Namespaces {
    /// `unshare`, which lives in all of them but the pid namespace.
    unshare: RefCell<Child>,
    /// When it closes, the first process of the pid namespace ends.
    lifeline: RefCell<Option<ChildStdin>>,
}

/// A program that was started on a host.
pub(crate) struct Program {
    /// Its pid in the host, and its process group there.
    pub(crate) pid: u32,
    /// Place in [`Host::programs`].
    number: usize,
    /// For messages.
    name: String,
}

impl Host {
    /// Makes the namespaces, with loopback up and an empty `/run`.
    pub(crate) fn new(name: &str, directory: &Path) -> Host {
        let directory = directory.join(name);
        fs::create_dir(&directory).expect("the host's directory can be made");
        let namespaces = Namespaces::new(name, &directory);
        Host {
            name: name.to_owned(),
            scope: String::new(),
            directory,
            programs: RefCell::default(),
            namespaces: Rc::new(namespaces),
            lead: Vec::new(),
        }
    }

    /// Makes a further network namespace on this host, by `ip netns`, as a
    /// container runtime would: same pids, other network.
    pub(crate) fn netns(&self, name: &str) -> Host {
        self.succeeds(&["ip", "netns", "add", name]);
        self.succeeds(&["ip", "-n", name, "link", "set", "lo", "up"]);
        let directory = self.directory.join(name);
        fs::create_dir(&directory).expect("the namespace's directory can be made");
        Host {
            name: self.name.clone(),
            scope: format!("netns:{name}"),
            directory,
            programs: RefCell::default(),
            namespaces: Rc::clone(&self.namespaces),
            lead: [&program("ip"), "netns", "exec", name].map(str::to_owned).to_vec(),
        }
    }

    /// `web-1`, or `web-1[netns:blue]`.
    pub(crate) fn label(&self) -> String {
        if self.scope.is_empty() {
            self.name.clone()
        } else {
            format!("{}[{}]", self.name, self.scope)
        }
    }

    /// A process that lives in the host's network namespace, seen from outside.
    pub(crate) fn anchor(&self) -> u32 {
        self.namespaces.unshare.borrow().id()
    }

    /// Runs a command on the host to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        wait::output(&mut self.command(words), LIMIT)
    }

    /// Runs a command on the host that has to succeed; returns what it printed.
    pub(crate) fn succeeds(&self, words: &[&str]) -> String {
        wait::success(&mut self.command(words), LIMIT)
    }

    /// Writes a file of the host, in one step, because a program that was just
    /// started may be reading the one before; returns its path.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.join(name);
        let draft = self.directory.join(format!("{name}.new"));
        fs::write(&draft, content).expect("a file of the host can be written");
        fs::rename(&draft, &path).expect("a file of the host can be renamed");
        path.display().to_string()
    }

    /// Starts a program that goes on, as the leader of a session: so a service
    /// manager starts one. Its output goes to a log that a failure shows.
    pub(crate) fn start(&self, words: &[&str], settings: &[(&str, &str)]) -> Program {
        let mut programs = self.programs.borrow_mut();
        let number = programs.len();
        let name = file_name(words[0]);
        let pid_file = self.directory.join(format!("{number}-{name}.pid"));
        let log = File::create(self.directory.join(format!("{number}-{name}.log")))
            .expect("a log can be made");
        let path = pid_file.display().to_string();
        let script = r#"echo $$ >"$0" && exec "$@""#;
        let mut line = vec!["setsid", "sh", "-c", script, &path];
        let executable = program(words[0]);
        line.push(&executable);
        line.extend(&words[1..]);
        let child = self
            .command(&line)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a descriptor can be doubled"))
            .stdout(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start on {}: {error}", self.name));
        programs.push(child);
        let pid = wait::until(&format!("the pid of {name}"), LIMIT, || {
            let text = fs::read_to_string(&pid_file).map_err(|error| error.to_string())?;
            let line = text.strip_suffix('\n').ok_or("not yet written")?;
            line.parse().map_err(|_| format!("{line:?} is no pid"))
        });
        Program { pid, number, name }
    }

    /// Sends a signal, by name, to a program.
    pub(crate) fn signal(&self, program: &Program, signal: &str) {
        let pid = program.pid.to_string();
        self.succeeds(&["kill", "-s", signal, &pid]);
    }

    /// Waits for a program's end.
    pub(crate) fn ended(&self, program: &Program) -> ExitStatus {
        wait::until(&format!("{} to end", program.name), LIMIT, || {
            self.exit(program).ok_or_else(|| "it still runs".to_owned())
        })
    }

    /// How a program ended, if it did.
    pub(crate) fn exit(&self, program: &Program) -> Option<ExitStatus> {
        self.programs.borrow_mut()[program.number].try_wait().expect("a child can be asked for")
    }

    /// Ends a program.
    pub(crate) fn stop(&self, program: &Program) -> ExitStatus {
        self.signal(program, "TERM");
        self.ended(program)
    }

    /// What a program has said so far.
    pub(crate) fn log(&self, program: &Program) -> String {
        let name = format!("{}-{}.log", program.number, program.name);
        let bytes = fs::read(self.directory.join(name)).expect("a log can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// All logs' ends, for a failure.
    pub(crate) fn logs(&self) -> String {
        self.every_log()
            .map(|(name, log)| {
                let lines: Vec<_> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(15)..];
                format!("--- {name}\n{}\n", last.join("\n"))
            })
            .collect()
    }

    /// All that programs of this host have said so far.
    pub(crate) fn logs_in_full(&self) -> String {
        self.every_log().map(|(_, log)| log).collect()
    }

    fn every_log(&self) -> impl Iterator<Item = (String, String)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        paths.sort();
        paths.into_iter().map(|path| {
            let bytes = fs::read(&path).unwrap_or_default();
            let name = path.display().to_string();
            (name, String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    /// The command that runs words inside the place.
    fn command(&self, words: &[&str]) -> Command {
        let anchor = self.anchor();
        let mut command = Command::new(program("nsenter"));
        for (kind, file) in
            [("net", "net"), ("uts", "uts"), ("mount", "mnt"), ("pid", "pid_for_children")]
        {
            command.arg(format!("--{kind}=/proc/{anchor}/ns/{file}"));
        }
        command.arg("--").args(&self.lead);
        command.arg(program(words[0])).args(&words[1..]);
        clean(&mut command);
        command
    }
}

impl Namespaces {
    fn new(name: &str, directory: &Path) -> Namespaces {
        let ready = directory.join("ready");
        // With SIGCHLD ignored, which survives exec, the kernel reaps orphans
        // by itself; `cat` ends when the pipe from the test does.
        let script = r#"
            mount -t tmpfs tmpfs /run && hostname "$1" && ip link set lo up || exit 1
            trap '' CHLD
            echo ready >"$2"
            exec cat"#;
        let errors = directory.join("init.log");
        let mut command = Command::new(program("unshare"));
        command
            .args(["--net", "--pid", "--uts", "--mount", "--fork"])
            .args(["--kill-child", "--mount-proc", "--", "/bin/sh", "-c"])
            .args([script, "init", name])
            .arg(&ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&errors).expect("a log can be made"));
        clean(&mut command);
        let mut unshare = command.spawn().expect("unshare can be started");
        let lifeline = unshare.stdin.take();
        wait::until(&format!("host {name} to be up"), LIMIT, || {
            let said = || fs::read_to_string(&errors).unwrap_or_default();
            if let Ok(Some(status)) = unshare.try_wait() {
                panic!(
                    "host {name} cannot be made ({status}): {}; the lab makes \
                     namespaces and has to run as root",
                    said().trim()
                );
            }
            if ready.exists() { Ok(()) } else { Err(said()) }
        });
        Namespaces { unshare: RefCell::new(unshare), lifeline: RefCell::new(lifeline) }
    }
}

impl Namespaces {
    /// Ends the first process, and with it all others.
    fn end(&self) {
        self.lifeline.borrow_mut().take();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // First the namespaces, so that every `nsenter` sees its child end and
        // reaps it; a namespace whose processes nobody reaps would stay.
        self.namespaces.end();
        for child in self.programs.get_mut() {
            wait::reap(child, LIMIT);
        }
        // By --kill-child, killing `unshare` takes the first process too.
        wait::reap(&mut self.namespaces.unshare.borrow_mut(), LIMIT);
    }
}

/// The path of a program; panics where it is not installed.
pub(crate) fn program(name: &str) -> String {
    if name.starts_with('/') {
        return name.to_owned();
    }
    for directory in DIRECTORIES {
        let path = format!("{directory}/{name}");
        if Path::new(&path).exists() {
            return path;
        }
    }
    panic!("the lab needs {name}, which is in none of {DIRECTORIES:?}: install its Debian package")
}

/// No setting of who runs the tests reaches a program in the lab.
pub(crate) fn clean(command: &mut Command) {
    command.env_clear();
    command.envs([
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("HOME", "/nonexistent"),
    ]);
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
