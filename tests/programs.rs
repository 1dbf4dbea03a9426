//! Unmodified programs as readers and as watchers: what they print of a mount is what they would print of a volume.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::support::mount::Way;
use crate::support::playground::{Keys, Playground, secret, typed_secret};
use crate::support::process::Running;
use crate::support::snapshot::{Entry, plain, snapshot};
use crate::support::{cluster, fail, run, said, succeed, tempdir};

/// A Secret `s` of these keys, mounted by root.
#[track_caller]
fn mounted(keys: Keys<'_>) -> Playground {
    Playground::new(Way::NewApi, &secret("s", keys), &["secret/s"])
}

/// Bytes of every value, in no order: longer than a page, than a pipe and than what readers read at once.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(300_001).collect()
}

/// Runs a program that must succeed and have nothing to complain of.
#[track_caller]
fn quietly(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success() && output.stderr.is_empty(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8 on standard output")
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn cat_head_wc_and_sha256sum_read_exactly_the_bytes() {
    let noise = noise();
    let playground = mounted(&[("empty", b""), ("line", b"one\ntwo\n"), ("no-newline", b"x"), ("noise", &noise)]);
    for (key, value) in [("empty", &b""[..]), ("line", b"one\ntwo\n"), ("no-newline", b"x"), ("noise", &noise)] {
        let output = run(Command::new("cat").arg(playground.path(key)));
        assert!(output.status.success() && output.stdout == value, "cat {key}: {}", said(&output));
    }
    assert_eq!(quietly(Command::new("head").args(["-n", "1"]).arg(playground.path("line"))), "one\n");
    let beginning = run(Command::new("head").args(["-c", "5000"]).arg(playground.path("noise"))).stdout;
    assert_eq!(beginning, noise[..5000]);
    // wc asks for the size and reads nothing.
    assert_eq!(quietly(Command::new("wc").arg("-c").arg(playground.path("noise"))).split(' ').next(), Some("300001"));
    let copy = playground.dir.path().join("copy");
    std::fs::write(&copy, &noise).expect("write");
    let sum = |path: &Path| quietly(Command::new("sha256sum").arg(path)).split(' ').next().map(str::to_owned);
    assert_eq!(sum(&playground.path("noise")), sum(&copy));
}

#[test]
fn ls_and_stat_show_links_modes_and_true_sizes() {
    let playground = mounted(&[("a", b"12345"), ("b", b"")]);
    let listed = quietly(Command::new("ls").args(["-lA", "--time-style=+"]).arg(playground.path("")));
    let listed: Vec<String> =
        listed.lines().map(|line| line.split(' ').map(plain).collect::<Vec<_>>().join(" ")).collect();
    let generation = std::fs::read_link(playground.path("..data")).expect("readlink").as_os_str().len();
    assert_eq!(
        listed,
        [
            "total 0",
            "drwx------ 2 root root 80  ..TS",
            &format!("lrwxrwxrwx 1 root root {generation}  ..data -> ..TS"),
            "lrwxrwxrwx 1 root root  8  a -> ..data/a",
            "lrwxrwxrwx 1 root root  8  b -> ..data/b",
        ]
    );
    let stat = |path: &Path| quietly(Command::new("stat").args(["-L", "-c", "%F, %s bytes, %a, %h"]).arg(path));
    assert_eq!(stat(&playground.path("a")), "regular file, 5 bytes, 400, 1\n");
    assert_eq!(stat(&playground.path("b")), "regular empty file, 0 bytes, 400, 1\n");
    assert_eq!(stat(&playground.path("..data")), "directory, 80 bytes, 700, 2\n");
    // ls decides by the mode whether to colour and to mark.
    assert_eq!(quietly(Command::new("ls").args(["-FL", "--color=never"]).arg(playground.path(""))), "a\nb\n");
}

#[test]
fn df_du_and_findmnt_show_what_is_mounted_and_how_large() {
    let playground = mounted(&[("a", &[b'x'; 5000]), ("b", b"y")]);
    let root = playground.path("");
    let findmnt =
        quietly(Command::new("findmnt").args(["-n", "-o", "SOURCE,FSTYPE,VFS-OPTIONS", "--mountpoint"]).arg(&root));
    let shown = ["secretfs:default/secret/s", "fuse.secretfs", "ro,nosuid,nodev,noexec,relatime"];
    assert_eq!(findmnt.split_whitespace().collect::<Vec<_>>(), shown);
    let df =
        quietly(Command::new("df").args(["--block-size=1", "--output=source,fstype,used,iused,target"]).arg(&root));
    let row: Vec<&str> = df.lines().nth(1).expect("a row").split_whitespace().collect();
    // Two pages and one; the root, a generation, its two files, ..data and two links.
    let expected = ["secretfs:default/secret/s", "fuse.secretfs", "12288", "7", root.to_str().expect("UTF-8")];
    assert_eq!(row, expected);
    // df leaves it out of an overview of disks, as it does tmpfs when asked to.
    let du = |flags: &[&str]| quietly(Command::new("du").args(flags).arg(playground.path("..data/")));
    assert_eq!(du(&["-s", "--block-size=1"]).split('\t').next(), Some("12288"));
    assert_eq!(du(&["-s", "--apparent-size", "--block-size=1"]).split('\t').next(), Some("5081"));
}

#[test]
fn find_and_grep_r_walk_the_whole_tree() {
    let two = [secret("one", &[("k", "a needle")]), secret("two", &[("k", "hay"), ("l", "hay\nneedle\n")])];
    let playground = Playground::new(Way::NewApi, &two.join("\n---\n"), &[]);
    let root = playground.path("");
    let walked = |command: &mut Command| {
        let prefix = format!("{}/", root.display());
        let paths = quietly(command).replace(&prefix, "");
        let parts = |path: &str| path.split('/').map(plain).collect::<Vec<_>>().join("/");
        lines(&paths.lines().map(parts).collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(
        walked(Command::new("find").arg(&root).args(["-type", "f"])),
        ["default/one/..TS/k", "default/two/..TS/k", "default/two/..TS/l"]
    );
    assert_eq!(walked(Command::new("find").arg(&root).args(["-type", "l", "-name", "l"])), ["default/two/l"]);
    assert_eq!(walked(Command::new("find").arg("-L").arg(&root).args(["-name", "k", "-size", "-4c"])).len(), 3);
    assert_eq!(
        walked(Command::new("grep").args(["-rl", "needle"]).arg(&root)),
        ["default/one/..TS/k", "default/two/..TS/l"]
    );
    // With -R it follows links, so that it sees each key three times.
    assert_eq!(walked(Command::new("grep").args(["-Rl", "needle"]).arg(&root)).len(), 6);
}

/// What a copy must share with the original: not the size of directories, which is each file system's own.
fn essence(dir: &Path) -> BTreeMap<String, (u32, u32, u32, Vec<u8>)> {
    let entry = |entry: Entry| (entry.mode, entry.uid, entry.gid, entry.content);
    snapshot(dir).into_iter().map(|(name, found)| (name, entry(found))).collect()
}

#[test]
fn tar_packs_links_or_files_and_neither_shrinks_nor_pads_one() {
    let noise = noise();
    let playground = mounted(&[("a", b"1"), ("empty", b""), ("noise", &noise)]);
    let archive = playground.dir.path().join("archive.tar");

    let pack =
        |flags: &str| quietly(Command::new("tar").arg(flags).arg(&archive).arg("-C").arg(playground.path("")).arg("."));
    let unpack = |dir: &Path| quietly(Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(dir));
    pack("-cf");
    let copy = playground.mkdir("copy");
    unpack(&copy);
    assert_eq!(essence(&copy), essence(&playground.path("")));
    // Sizes and bytes once more, by tar itself.
    quietly(Command::new("tar").arg("-df").arg(&archive).arg("-C").arg(playground.path("")));

    pack("-chf");
    let copy = playground.mkdir("followed");
    unpack(&copy);
    for (key, value) in [("a", &b"1"[..]), ("empty", b""), ("noise", &noise)] {
        for name in [key.to_owned(), format!("..data/{key}")] {
            let found = std::fs::symlink_metadata(copy.join(&name)).expect("stat");
            assert!(found.is_file() && found.len() == value.len() as u64, "{name}");
            assert_eq!(std::fs::read(copy.join(&name)).expect("read"), value, "{name}");
        }
    }
}

#[test]
fn cp_a_copies_everything_with_times() {
    let noise = noise();
    let playground = mounted(&[("a", b"1"), (".hidden", b""), ("noise", &noise)]);
    let copy = playground.dir.path().join("copy");
    quietly(Command::new("cp").arg("-a").arg(playground.path("")).arg(&copy));
    assert_eq!(essence(&copy), essence(&playground.path("")));
    let times = |path: &Path| {
        let found = std::fs::metadata(path).expect("stat");
        (found.mtime(), found.mtime_nsec())
    };
    for name in ["..data", "..data/a", "..data/noise"] {
        assert_eq!(times(&copy.join(name)), times(&playground.path(name)), "{name}");
    }
}

#[test]
fn rsync_a_copies_everything_and_finds_no_difference_afterwards() {
    let noise = noise();
    let playground = mounted(&[("a", b"1"), ("empty", b""), ("noise", &noise)]);
    let copy = playground.mkdir("copy");
    let rsync = |flags: &[&str]| {
        let from = format!("{}/", playground.path("").display());
        quietly(Command::new("rsync").args(flags).arg(from).arg(&copy))
    };
    rsync(&["-a"]);
    assert_eq!(essence(&copy), essence(&playground.path("")));
    assert_eq!(rsync(&["-a", "--checksum", "--itemize-changes", "--delete"]), "");
    // And after a rotation it takes over the new bytes, nothing old staying behind.
    playground.rewrite(&secret("s", &[("a", &b"2"[..]), ("noise", &noise)]));
    crate::support::wait_until("the update", || std::fs::read(playground.path("a")).expect("read") == b"2");
    rsync(&["-a", "--delete"]);
    assert_eq!(essence(&copy), essence(&playground.path("")));
}

/// A self-signed pair for this host name: certificate and key in PEM, key of the kind that `openssl rsa` reads.
fn tls_pair(name: &str) -> (Vec<u8>, Vec<u8>) {
    let dir = tempdir();
    let (key, certificate) = (dir.path().join("key"), dir.path().join("crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
    succeed(
        openssl
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    (std::fs::read(certificate).expect("read"), std::fs::read(key).expect("read"))
}

fn tls_secret(pair: &(Vec<u8>, Vec<u8>)) -> String {
    typed_secret("kubernetes.io/tls", "web-tls", &[("tls.crt", &pair.0), ("tls.key", &pair.1)])
}

#[test]
fn openssl_reads_checks_and_serves_a_tls_secret() {
    let playground = Playground::new(Way::NewApi, &tls_secret(&tls_pair("old.example")), &["secret/web-tls"]);
    let (certificate, key) = (playground.path("tls.crt"), playground.path("tls.key"));
    let subject = || quietly(Command::new("openssl").args(["x509", "-noout", "-subject", "-in"]).arg(&certificate));
    assert_eq!(subject(), "subject=CN = old.example\n");
    let modulus =
        |verb: &str, path: &Path| quietly(Command::new("openssl").args([verb, "-noout", "-modulus", "-in"]).arg(path));
    assert_eq!(modulus("x509", &certificate), modulus("rsa", &key));
    let checked = succeed(Command::new("openssl").args(["rsa", "-noout", "-check", "-in"]).arg(&key));
    assert_eq!(checked, "RSA key ok\n");

    // A certificate that is renewed: both files change at once, and the next server has the new pair.
    playground.rewrite(&tls_secret(&tls_pair("new.example")));
    crate::support::wait_until("the new certificate", || subject() == "subject=CN = new.example\n");
    let mut server = Command::new("openssl");
    server.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-quiet", "-cert"]).arg(&certificate);
    let mut server = Running::start(server.arg("-key").arg(&key).arg("-www"));
    server.close_stdin();
    // With -quiet it does not say its port.
    let port = crate::support::wait_for("the server's port", || listening_port(server.pid()));
    let mut client = Command::new("openssl");
    client.args([
        "s_client",
        "-connect",
        &format!("127.0.0.1:{port}"),
        "-verify_return_error",
        "-verify_hostname",
        "new.example",
    ]);
    let client = run(client.arg("-CAfile").arg(&certificate).stdin(std::process::Stdio::null()));
    let text = String::from_utf8_lossy(&client.stdout);
    assert!(client.status.success() && text.contains("Verification: OK"), "{}\n{}", said(&client), server.err.text());
}

/// The TCP port on which a process listens.
fn listening_port(pid: u32) -> Option<u16> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let sockets: Vec<String> = fds
        .filter_map(|fd| {
            std::fs::read_link(fd.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]);
        listens.then(|| u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok())?
    })
}

#[test]
fn ssh_keygen_takes_a_private_key_because_nobody_else_may_read_it() {
    let dir = tempdir();
    let file = dir.path().join("id");
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&file));
    let (private, public) =
        (std::fs::read(&file).expect("read"), std::fs::read_to_string(file.with_extension("pub")).expect("read"));
    let content = typed_secret("kubernetes.io/ssh-auth", "git", &[("ssh-privatekey", &private)]);
    for way in [Way::NewApi, Way::Fusermount] {
        let playground = Playground::new(way, &content, &["secret/git"]);
        let key = playground.path("ssh-privatekey");
        let user = playground.mount.user;
        let derived = succeed(user.runs(Command::new("ssh-keygen").args(["-y", "-f"]).arg(&key)));
        assert_eq!(derived, public);
    }
    // It does look: the kubelet's modes it refuses.
    let playground = Playground::new(Way::NewApi, &content, &["--owner", "kubelet", "secret/git"]);
    let (_, text) =
        fail(Command::new("ssh-keygen").args(["-y", "-P", "", "-f"]).arg(playground.path("ssh-privatekey")));
    assert!(text.contains("too open"), "{text}");
}

#[test]
fn inotifywait_sees_the_kubelets_events_of_a_rotation() {
    let playground = mounted(&[("password", b"old"), ("user", b"me")]);
    let watch = |path: &Path| {
        let running = Running::start(
            Command::new("inotifywait")
                .args(["-m", "-e", "create,delete,move,attrib,delete_self", "--format", "%e %f"])
                .arg(path),
        );
        running.err.wait_for("Watches established");
        running
    };
    let (dir, key) = (watch(&playground.path("")), watch(&playground.path("password")));
    playground.rewrite(&secret("s", &[("password", "new"), ("user", "me")]));
    let seen = dir.out.wait("the old generation's end", |text| text.contains("DELETE,ISDIR"));
    let seen: Vec<String> = seen.lines().map(|line| line.split(' ').map(plain).collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "CREATE,ISDIR ..TS",
        "ATTRIB,ISDIR ..TS",
        "CREATE ..data_tmp",
        "MOVED_FROM ..data_tmp",
        "MOVED_TO ..data",
        "DELETE,ISDIR ..TS",
    ];
    assert_eq!(seen, expected);
    assert_eq!(key.out.wait_for("DELETE_SELF").lines().map(str::trim).collect::<Vec<_>>(), ["ATTRIB", "DELETE_SELF"]);
    assert_eq!(quietly(Command::new("cat").arg(playground.path("password"))), "new");
}

#[test]
fn inotifywait_on_one_key_ends_when_it_is_rotated() {
    let playground = mounted(&[("password", b"old")]);
    let mut waiting = Running::start(
        Command::new("sh")
            .args(["-c", "inotifywait -e delete_self \"$0\" && cat \"$0\""])
            .arg(playground.path("password")),
    );
    waiting.err.wait_for("Watches established");
    playground.rewrite(&secret("s", &[("password", b"new")]));
    assert!(waiting.wait().success());
    let text = waiting.out.wait_end();
    assert!(text.ends_with("DELETE_SELF \nnew"), "{text}");
}

#[test]
fn tail_f_follows_a_key_by_name() {
    for layout in ["kubelet", "flat"] {
        let playground =
            Playground::new(Way::NewApi, &secret("s", &[("log", b"one\n")]), &["--layout", layout, "secret/s"]);
        let tail = Running::start(Command::new("tail").args(["-s", "0.1", "-F"]).arg(playground.path("log")));
        tail.out.wait_for("one\n");
        for value in ["two\n", "three\n"] {
            playground.rewrite(&secret("s", &[("log", value.as_bytes())]));
            tail.out.wait_for(value);
        }
        assert_eq!(tail.out.text(), "one\ntwo\nthree\n");
        assert!(!tail.err.text().contains("cannot"), "the key was away for a moment: {}", tail.err.text());
    }
}

const WATCHDOG: &str = r#"
import sys
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

class Reload(FileSystemEventHandler):
    def on_moved(self, event):
        # What programs made for Kubernetes wait for.
        if event.dest_path.endswith("/..data"):
            print("reloaded", open(sys.argv[1] + "/" + sys.argv[2]).read(), flush=True)

observer = Observer()
observer.schedule(Reload(), sys.argv[1])
observer.start()
print("started", open(sys.argv[1] + "/" + sys.argv[2]).read(), flush=True)
sys.stdin.read()
observer.stop()
observer.join()
"#;

#[test]
fn python_with_watchdog_reloads_at_each_rotation() {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/watchdog/bin/python3");
    assert!(Path::new(python).exists(), "./test puts watchdog there");
    let playground = mounted(&[("password", b"first")]);
    let mut program =
        Running::start(Command::new(python).args(["-c", WATCHDOG]).arg(playground.path("")).arg("password"));
    program.out.wait_for("started first\n");
    for value in ["second", "third"] {
        playground.rewrite(&secret("s", &[("password", value.as_bytes())]));
        program.out.wait_for(&format!("reloaded {value}\n"));
    }
    assert!(program.wait().success());
    assert_eq!(program.out.wait_end(), "started first\nreloaded second\nreloaded third\n");
}

/// A Go program with viper, which follows `key`; each value comes with the settings that it means.
fn viper_follows(layout: &str, key: &str, format: &str, values: &[(&str, serde_json::Value)]) {
    let content = |value: &str| secret("s", &[(key, value.as_bytes()), ("other", b"1")]);
    let playground = Playground::new(Way::NewApi, &content(values[0].0), &["--layout", layout, "secret/s"]);
    let mut command = Command::new(cluster::binary());
    let mut program = Running::start(command.args(["follow", "--format", format]).arg(playground.path(key)));
    for (value, settings) in values {
        playground.rewrite(&content(value));
        // It may read the new file more than once.
        program.out.wait(&settings.to_string(), |text| {
            text.lines().next_back().and_then(|line| serde_json::from_str(line).ok()) == Some(settings.clone())
        });
    }
    assert!(program.wait().success());
}

#[test]
fn go_with_viper_reloads_yaml_at_each_rotation() {
    use serde_json::json;
    for layout in ["kubelet", "flat"] {
        viper_follows(
            layout,
            "settings.yaml",
            "yaml",
            &[
                ("db:\n  host: one\n", json!({"db": {"host": "one"}})),
                ("db:\n  host: two\n  port: 5432\n", json!({"db": {"host": "two", "port": 5432}})),
                ("debug: true\n", json!({"debug": true})),
            ],
        );
    }
}

#[test]
fn go_with_viper_reloads_an_env_file_at_each_rotation() {
    use serde_json::json;
    let values = [
        ("PASSWORD=old\n", json!({"password": "old"})),
        ("PASSWORD=new\nUSER=me\n", json!({"password": "new", "user": "me"})),
    ];
    viper_follows("kubelet", ".env", "env", &values);
}
