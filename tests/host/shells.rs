//! Completion in real shells, and manual pages.

use std::process::Command;

use crate::support::host::Host;
use crate::support::{run, said, succeed};

const MANIFEST: &str = include_str!("../../examples/example-secret.yaml");
const POD: &str = include_str!("../../examples/example-pod.yaml");
const PAYLOAD: &str = "some-base64-encoded-payload";

/// Types into a program on a terminal: arguments are the program, `--`, and pairs of what to type and what to wait for.
const TYPE: &str = r#"
import os, pty, select, sys, time
at = sys.argv.index("--")
program, steps = sys.argv[1:at], sys.argv[at + 1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(program[0], program)
screen = b""
def wait(text):
    global screen
    deadline = time.monotonic() + 20
    while text.encode() not in screen:
        ready = select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            sys.exit(f"waited in vain for {text!r}, the screen is {screen!r}")
        screen += os.read(terminal, 65536).replace(b"\a", b"")
    screen = screen.split(text.encode(), 1)[1]
for keys, text in zip(steps[::2], steps[1::2]):
    os.write(terminal, keys.encode())
    wait(text)
os.close(terminal)
"#;

/// In this shell, TAB completes a verb, a source and a key, and the command that comes of it works.
#[track_caller]
fn completes(shell: &[&str], load: &str) {
    let host = Host::new();
    host.sandbox.write("secret.yaml", format!("{MANIFEST}\n---\n{POD}"));
    let mut command = Command::new("python3");
    command.args(["-c", TYPE]).args(shell).arg("--");
    command.args([&format!("{load}; echo load''ed\n"), "loaded"]);
    // What has been completed stands on the line before anything more is typed.
    command.args(["secretfs cat -f secret.yaml sec\t", "secret/", "my\t", "mysecret/"]);
    command.args(["\t", "my-super-secret-key", "\n", PAYLOAD]);
    command.args(["secretfs cat -f secret.yaml po\t", "pod/", "se\t", "secretstest/", "\t", "awebserver/"]);
    command.args(["\t", "tmp/", "\t", "mysec/", "\t", "my-super-secret-key", "\n", PAYLOAD]);
    host.sandbox.runs(&mut command);
    let path = std::env::var("PATH").expect("PATH");
    command.env("PATH", format!("{}:{path}", host.path("bin"))).env("HOME", host.sandbox.dir()).env("TERM", "dumb");
    let output = run(&mut command);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn bash_completes_a_source_and_a_key() {
    completes(&["bash", "--norc", "-i"], "source <(secretfs completion bash)");
}

#[test]
fn zsh_completes_a_source_and_a_key() {
    completes(&["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source <(secretfs completion zsh)");
}

#[test]
fn fish_completes_sources_and_keys() {
    let host = Host::new();
    host.sandbox.write("secret.yaml", MANIFEST);
    let script = "secretfs completion fish | source
        complete -C 'secretfs umo'; complete -C 'secretfs ls -f secret.yaml secret/'
        complete -C 'secretfs cat -f secret.yaml secret/mysecret/'";
    let printed = succeed(&mut host.bash(&format!("fish --no-config -c \"{script}\"")));
    let words: Vec<&str> = printed.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(words, ["umount", "secret/mysecret", "secret/mysecret/my-super-secret-key"]);
}

#[test]
fn completion_is_silent_about_what_cannot_be_asked() {
    let host = Host::new();
    let script = "secretfs completion bash > loads; source ./loads
        COMP_WORDS=(secretfs cat --kubeconfig /nonexistent secret/); COMP_CWORD=4; COMP_TYPE=9
        _clap_complete_secretfs secretfs secret/ --kubeconfig; echo \"<${COMPREPLY[*]-}>\"
        COMP_WORDS=(secretfs cat -f - secret/); _clap_complete_secretfs secretfs secret/ -; echo \"<${COMPREPLY[*]-}>\"";
    let output = run(&mut host.bash(script));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "<>\n<>\n");
}

#[test]
fn manual_pages_are_there_for_every_verb_and_without_faults() {
    let host = Host::new();
    host.sandbox.mkdir("man");
    let script =
        "secretfs man ./man; cd man; ls; for page in *.1 *.8; do man --warnings=all -P cat -l $page > $page.txt; done";
    let output = run(host.bash(script).env("MANWIDTH", "100"));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    let verbs = succeed(&mut host.bash("secretfs --help"));
    let (_, verbs) = verbs.split_once("Commands:\n").expect("a list of verbs");
    let verbs: Vec<&str> = verbs.lines().map_while(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    assert!(verbs.len() > 8, "{verbs:?}");
    for verb in verbs.iter().filter(|verb| **verb != "help") {
        let page = std::fs::read_to_string(host.sandbox.path(format!("man/secretfs-{verb}.1.txt"))).expect(verb);
        assert!(page.contains("SYNOPSIS") && page.contains("DESCRIPTION"), "{page}");
    }
    let page = std::fs::read_to_string(host.sandbox.path("man/secretfs-mount.1.txt")).expect("the page of mount");
    let helper =
        std::fs::read_to_string(host.sandbox.path("man/mount.secretfs.8.txt")).expect("the page of the helper");
    assert!(helper.contains("mount.secretfs(8)") && helper.contains("x-secretfs.NAME=VALUE"), "{helper}");
    assert!(page.contains("--kubeconfig") && page.contains("helm template . | secretfs mount"), "{page}");
}
