//! `secretfs demo`: the whole tool in two seconds, with ordinary programs as the readers.
//!
//! Everything happens in a user and mount namespace of this process: the example manifests lie in a tmpfs that nobody
//! else sees, laid over a directory that is there anyway. So nothing has to be made that could be left behind, whatever
//! ends the process.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::mount::MountFlags;

use super::mount::{harden, runtime};
use crate::daemon::{OnChange, Plan, Ready, Signals, can_mount, in_thread, log, serve};
use crate::exit::{Code, Failure};
use crate::mount;
use crate::object::Namespace;
use crate::source::Source;
use crate::source::manifests::{Input, Manifests};
use crate::store::Store;
use crate::view::{Options, Shape, View};
use crate::volume::{Layout, Owner, Ownership};

/// Show all of it in two seconds: no cluster, no root, no fuse package, nothing left behind.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs demo
  secretfs demo | less             piped, it is plain text")]
pub struct Args {}

const MANIFESTS: &str = include_str!("../../examples/demo.yaml");

/// How long the rotation may take to be announced. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the verb.
pub fn run(_args: &Args) -> Result<u8, Failure> {
    can_mount()?;
    let log = log::start(log::Level::Warn);
    mount::private::enter(mount::private::Map::caller())?;
    let home = Home::make()?;
    harden();
    let screen = Screen { colour: wants_colour() };
    let mut outcome = Ok(());
    runtime()?.block_on(async {
        let plan = plan(&home).await?;
        let (outcome, manifest, view) = (&mut outcome, home.manifest(), home.view());
        let script = move || {
            let interrupted = Signals::listen().told_to_end();
            async move {
                // In a thread of its own: it reads the mount, which this thread serves.
                let shown = in_thread(move || show(screen, &manifest, &view));
                let broken_off = |why| Err(Failure::new(Code::Failed, why));
                *outcome = tokio::select! {
                    shown = shown => shown.unwrap_or_else(|_| broken_off("the demo broke off")),
                    () = interrupted => broken_off("interrupted"),
                };
            }
        };
        serve(plan, &mut Ready::nobody(), &log, script).await
    })?;
    outcome.map(|()| 0)
}

async fn plan(home: &Home) -> Result<Plan, Failure> {
    let store = Store::new();
    let namespace = Namespace::new("default").map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    let manifests = Manifests::open(vec![Input::File(home.manifest())], namespace, store.clone())
        .map_err(|error| Failure::new(Code::Input, error.to_string()))?;
    tokio::spawn(manifests.watch());
    let source: Arc<dyn Source> = Arc::new(manifests);
    let shape = Shape::Names { namespace: None, kinds: vec![crate::object::Kind::Secret], selector: None };
    let owner = Owner::Me { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let options = Options::new(Layout::Kubelet, Ownership::of(owner), PATIENCE);
    let view = View::new(shape, options, store.clone(), source.clone());
    let request = mount::Request {
        target: home.view(),
        source: "secretfs:demo".into(),
        allow_other: false,
        default_permissions: true,
        allow_nonempty: false,
        method: None,
    };
    Ok(Plan { request, view, source, store, name: "*".into(), on_change: OnChange::default() })
}

/// A tmpfs that only this process and its children see.
struct Home(PathBuf);

impl Home {
    /// Lays it over the directory for temporary files, and puts the manifests and the mount point there.
    fn make() -> Result<Self, Failure> {
        let temporary = std::env::temp_dir();
        let home = temporary.canonicalize().map(Home);
        let home = home.map_err(|error| failed("cannot use $TMPDIR for the demo", &temporary, error))?;
        let at = |error: std::io::Error| failed("cannot prepare the demo", &home.0, error);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("tmpfs", &home.0, "tmpfs", flags, c"mode=0700,size=1m")
            .map_err(|errno| at(errno.into()))?;
        std::fs::write(home.manifest(), MANIFESTS).map_err(at)?;
        std::fs::create_dir(home.view()).map_err(at)?;
        Ok(home)
    }

    fn manifest(&self) -> PathBuf {
        self.0.join("secrets.yaml")
    }

    fn view(&self) -> PathBuf {
        self.0.join("k8s")
    }
}

fn failed(what: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Code::Failed, format!("{what}: {}: {error}", path.display()))
}

/// What the user sees.
fn show(screen: Screen, manifest: &Path, view: &Path) -> Result<(), Failure> {
    let home = view.parent().unwrap_or(view);
    screen.say("Two Secrets in a manifest, mounted without a cluster, without root, seen by this process alone.");
    screen.run(home, "find k8s -mindepth 1 -maxdepth 2")?;
    screen.say("Each Secret is a directory laid out as in a pod:");
    screen.run(home, "ls -lA k8s/default/mysecret")?;
    screen.say("A key is a file with exactly the bytes of its value:");
    screen.run(home, "cat k8s/default/mysecret/my-super-secret-key")?;
    screen.run(home, "cat k8s/shop/database/password")?;

    screen.say("The password is rotated. A program that watches the directory receives the kubelet's own events:");
    let watch = Watch::on(&view.join("shop/database"))?;
    let rotated = MANIFESTS.replace("correct-horse-battery-staple", "rotated-at-once");
    std::fs::write(manifest, rotated).map_err(|error| failed("cannot rotate", manifest, error))?;
    for event in watch.until_removed()? {
        screen.line("  ", &event);
    }
    screen.run(home, "cat k8s/shop/database/password")?;
    screen.say("That was all. Nothing is left: the mount and its files end with this process.");
    Ok(())
}

/// A terminal that knows colours, and a user who does not refuse them (https://no-color.org).
fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    std::io::stdout().is_terminal() && !refused && !dumb
}

#[derive(Clone, Copy)]
struct Screen {
    colour: bool,
}

impl Screen {
    /// A reader that has seen enough (head) is no error: what follows goes nowhere.
    fn put(self, text: &[u8]) {
        let _ = std::io::stdout().lock().write_all(text);
    }

    fn say(self, text: &str) {
        self.put(format!("\n{text}\n").as_bytes());
    }

    fn line(self, prefix: &str, text: &str) {
        let (on, off) = if self.colour { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
        self.put(format!("{prefix}{on}{text}{off}\n").as_bytes());
    }

    /// Shows a command and what it prints.
    fn run(self, home: &Path, command: &str) -> Result<(), Failure> {
        let (on, off) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        self.put(format!("{on}$ {command}{off}\n").as_bytes());
        let words: Vec<&str> = command.split(' ').collect();
        let run = Command::new(words[0]).args(&words[1..]).current_dir(home).output();
        if let Err(error) = &run
            && error.kind() == std::io::ErrorKind::NotFound
        {
            self.put(format!("(there is no {} here: secretfs reads it itself)\n", words[0]).as_bytes());
            let printed = instead_of(&words, home).map_err(|error| failed("cannot read", home, error))?;
            self.put(printed.as_bytes());
            return Ok(());
        }
        let output = run.map_err(|error| failed("cannot run", Path::new(words[0]), error))?;
        self.put(&output.stdout);
        if output.stdout.last().is_some_and(|last| *last != b'\n') {
            self.put(b"\n");
        }
        if !output.status.success() {
            let message = format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
            return Err(Failure::new(Code::Failed, message));
        }
        Ok(())
    }
}

/// What a program would print of `home`, in an image or root that holds nothing but secretfs.
fn instead_of(words: &[&str], home: &Path) -> std::io::Result<String> {
    let below = |dir: &str| -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(home.join(dir))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    };
    let mut printed = String::new();
    match words {
        ["cat", file] => printed = std::fs::read_to_string(home.join(file))? + "\n",
        ["find", dir, ..] => {
            for namespace in below(dir)? {
                printed += &format!("{dir}/{namespace}\n");
                for name in below(&format!("{dir}/{namespace}"))? {
                    printed += &format!("{dir}/{namespace}/{name}\n");
                }
            }
        }
        ["ls", "-lA", dir] => {
            for name in below(dir)? {
                let path = home.join(dir).join(&name);
                let target = std::fs::read_link(&path).map(|target| format!(" -> {}", target.display()));
                let mode = std::fs::symlink_metadata(&path)?.permissions().mode();
                printed += &format!("{mode:06o} {name}{}\n", target.unwrap_or_default());
            }
        }
        _ => return Err(std::io::ErrorKind::Unsupported.into()),
    }
    Ok(printed)
}

/// A program that watches a directory.
struct Watch(rustix::fd::OwnedFd);

impl Watch {
    fn on(dir: &Path) -> Result<Self, Failure> {
        use inotify::WatchFlags;
        let wanted = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::ONLYDIR;
        let start = || -> rustix::io::Result<_> {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            inotify::add_watch(&fd, dir, wanted)?;
            Ok(fd)
        };
        start().map(Watch).map_err(|error| failed("cannot watch", dir, error.into()))
    }

    /// All events until the old generation's directory is removed, which is the last step of an update.
    fn until_removed(&self) -> Result<Vec<String>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    let flags = event.events();
                    let word = word(flags);
                    seen.push(format!("{word:<11} {name}"));
                    if flags.contains(inotify::ReadFlags::DELETE) && flags.contains(inotify::ReadFlags::ISDIR) {
                        return Ok(seen);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
                    let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
                    if left.is_zero() || !matches!(poll(&mut fds, Some(&timeout)), Ok(1)) {
                        return Err(Failure::new(Code::Failed, "the rotation was not announced in time"));
                    }
                }
                Err(error) => return Err(failed("cannot read events", Path::new("inotify"), error.into())),
            }
        }
    }
}

fn word(flags: inotify::ReadFlags) -> &'static str {
    use inotify::ReadFlags;
    for (flag, word) in [
        (ReadFlags::CREATE, "CREATE"),
        (ReadFlags::DELETE, "DELETE"),
        (ReadFlags::MOVED_FROM, "MOVED_FROM"),
        (ReadFlags::MOVED_TO, "MOVED_TO"),
    ] {
        if flags.contains(flag) {
            return word;
        }
    }
    "?"
}
