//! The real API server, started once for a test run, and a namespace of its own for each test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::kubeconfig::Context;
use super::succeed;

/// A running kube-apiserver with its etcd.
pub struct Cluster {
    /// Its files: admin.kubeconfig, node-n1.kubeconfig, ca.crt, audit.log, log.
    pub dir: PathBuf,
    pub url: String,
    /// The controlplane binary; `kubectl` lies beside it.
    pub binary: PathBuf,
    pub pid: u32,
}

/// The cluster of this test run.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_leftovers(base);
        let dir = base.join(format!("controlplane-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("mkdir");
        // Clients may have certificates that a test issues with the cluster's ca.key.
        Cluster::start(&dir, &["--", "--client-ca-file=ca.crt"])
    })
}

/// Directories of test runs that have ended.
fn remove_leftovers(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("controlplane-").and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !super::mount::is_running(pid)) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Where the control plane's binary is; built if `./test` has not done so.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let find = || match std::env::var_os("SECRETFS_CONTROLPLANE") {
        Some(path) => path.into(),
        None => {
            succeed(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/controlplane/build"))).trim().into()
        }
    };
    BINARY.get_or_init(find).clone()
}

impl Cluster {
    /// Starts an API server on `dir`, with further flags for `controlplane serve`. It ends with this process.
    pub fn start(dir: &Path, flags: &[&str]) -> Cluster {
        let binary = binary();
        let (send, receive) = std::sync::mpsc::channel();
        let mut command = Command::new(&binary);
        command.arg("serve").arg("--dir").arg(dir).args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
        // It ends when its parent does, and for the kernel that is the thread that made it: this one stays.
        std::thread::spawn(move || {
            let mut child = command.spawn().expect("controlplane serve");
            let pid = child.id();
            // It also ends with its input, which wait() would close.
            let _input = child.stdin.take();
            let mut line = String::new();
            let stdout = child.stdout.take().expect("a pipe");
            BufReader::new(stdout).read_line(&mut line).expect("its first line");
            let _ = send.send((pid, line));
            let _ = child.wait();
        });
        let (pid, line) = receive.recv().expect("the control plane's word");
        let url =
            line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("it said {line:?}; see its log")).to_owned();
        Cluster { dir: dir.to_owned(), url, binary, pid }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// The certificate authority, PEM.
    pub fn ca(&self) -> String {
        std::fs::read_to_string(self.dir.join("ca.crt")).expect("ca.crt")
    }

    /// The admin's token.
    pub fn token(&self) -> String {
        self.token_of("admin")
    }

    /// The token of another user of the token file, such as `system:node:n1`.
    pub fn token_of(&self, user: &str) -> String {
        let tokens = std::fs::read_to_string(self.dir.join("tokens.csv")).expect("tokens.csv");
        let found = tokens.lines().find_map(|line| line.split_once(&format!(",{user},")));
        found.unwrap_or_else(|| panic!("no user {user}")).0.to_owned()
    }

    /// The stock kubectl as admin.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(self.binary.with_file_name("kubectl"));
        // It keeps a cache below its home.
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", &self.dir);
        command
    }

    /// All audit entries so far for which `wanted` holds. Each request has one when its answer is complete, and watches
    /// have one when their answer begins.
    pub fn audit(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.dir.join("audit.log")).expect("the audit log");
        // The last line may be in the making.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(wanted).collect()
    }
}

/// A namespace that one test has for itself.
pub struct Namespace {
    pub name: String,
    pub cluster: &'static Cluster,
}

/// Makes a namespace with a name that no other test has.
pub fn namespace() -> Namespace {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let cluster = cluster();
    succeed(cluster.kubectl().args(["create", "namespace", &name]));
    Namespace { name, cluster }
}

impl Namespace {
    /// kubectl in this namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        succeed(self.cluster.kubectl().args(["-n", &self.name]).args(args))
    }

    /// Makes a Secret with these keys.
    pub fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let mut command = self.cluster.kubectl();
        command.args(["-n", &self.name, "create", "secret", "generic", name]);
        command.args(data.iter().map(|(key, value)| format!("--from-literal={key}={value}")));
        succeed(&mut command);
    }

    /// The admin's context, with this namespace as its default.
    pub fn context(&self) -> Context {
        Context {
            name: "admin".into(),
            server: self.cluster.url.clone(),
            ca: self.cluster.ca(),
            token: self.cluster.token(),
            namespace: self.name.clone(),
        }
    }

    /// The context of a user of the token file, who may do nothing until a Role says so.
    pub fn context_of(&self, user: &str) -> Context {
        Context { name: user.into(), token: format!("token-{user}"), ..self.context() }
    }

    /// A user whom no other test takes.
    pub fn user(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < 64, "the token file has no more users");
        format!("user-{number:02}")
    }

    /// Lets `user` do `verbs` with Secrets of this namespace, all or those named.
    pub fn allow(&self, user: &str, verbs: &str, names: &[&str]) {
        let role = format!("{user}-{}", verbs.replace(',', "-"));
        let mut create = self.cluster.kubectl();
        create.args(["-n", &self.name, "create", "role", &role, &format!("--verb={verbs}"), "--resource=secrets"]);
        create.args(names.iter().map(|name| format!("--resource-name={name}")));
        succeed(&mut create);
        self.kubectl(&["create", "rolebinding", &role, &format!("--role={role}"), &format!("--user={user}")]);
    }
}
