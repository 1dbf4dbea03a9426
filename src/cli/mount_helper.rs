//! `mount.secretfs`, which mount(8) runs for `mount -t secretfs SOURCE DIR -o OPTIONS` and for lines of fstab.
//!
//! `-o` carries two kinds of options: the generic ones of mount(8), which ask for nothing here, and our own, which are
//! the long options of `secretfs mount`. Both become the command line of that verb, so that there is one place in which
//! they are read.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgAction, CommandFactory, Parser};

use super::mount::{self, Caller};
use super::{Cli, Verb, fstab, output};
use crate::exit::{Code, Failure};

/// Exit codes of mount(8), section EXIT STATUS.
mod status {
    pub const USAGE: u8 = 1;
    pub const SYSTEM: u8 = 2;
    pub const FAILED: u8 = 32;
}

/// What the helper's help and its manual page say. The words themselves are read by [`read`], for mount(8) has its own
/// order of them.
pub fn command() -> clap::Command {
    let flag = |name: &'static str, letter: char, help: &'static str| {
        Arg::new(name).short(letter).action(ArgAction::SetTrue).help(help)
    };
    clap::Command::new("mount.secretfs")
        .disable_version_flag(true)
        .about("Mounts Kubernetes Secrets and ConfigMaps as files, for mount(8) and fstab(5)")
        .arg(
            Arg::new("SOURCE")
                .required(true)
                .help("As for `secretfs mount`; none for a whole cluster or all manifests"),
        )
        .arg(Arg::new("DIR").required(true).help("The directory to mount at"))
        .arg(
            Arg::new("OPTION")
                .short('o')
                .value_delimiter(',')
                .help("Options of mount(8), and those of `secretfs mount` as name=value"),
        )
        .args([
            flag("fake", 'f', "Check everything, but do not mount"),
            flag("no-mtab", 'n', "Write no /etc/mtab: accepted, there is none"),
            flag("sloppy", 's', "Pass over unknown options"),
            flag("verbose", 'v', "Log more, if given twice"),
        ])
        .after_help(OPTIONS)
}

const OPTIONS: &str = "\
mount(8) runs it for: mount -t secretfs SOURCE DIR -o OPTIONS, and for lines of /etc/fstab such as

  prod/secret/web-tls  /run/web-tls  secretfs  kubeconfig=/etc/secretfs/kubeconfig,uid=www-data,mode=0400,_netdev,nofail

OPTIONS are the long options of `secretfs mount`, with - or _, except
  manifests=FILE       for -f FILE
  kube-context=NAME    for --context NAME: mount(8) takes context= for a label of SELinux
  kube-user=NAME       for --user NAME: user= is mount(8)'s
A value with commas stands in double quotes. x-secretfs.NAME=VALUE in /etc/fstab is the same as NAME=VALUE. mount(8)'s own options
are accepted and ask for nothing: a mount is ro,nosuid,nodev,noexec in any case.

The credentials are those of kubeconfig=, else of ~/.kube/config of the user who mounts, by the password database: neither
KUBECONFIG nor HOME is looked at.

Exit codes are those of mount(8): 0 done, 1 wrong options, 2 an error of the system, 32 the mount failed.";

/// Generic options of mount(8) that ask for nothing here: section FILESYSTEM-INDEPENDENT MOUNT OPTIONS. A mount is
/// read-only for everybody, nosuid, nodev and noexec in any case.
const GENERIC: &[&str] = &[
    "async",
    "atime",
    "auto",
    "default_permissions",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "group",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "noauto",
    "nodev",
    "nodiratime",
    "noexec",
    "nofail",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "noowner",
    "nogroup",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "nouser",
    "nousers",
    "owner",
    "relatime",
    "ro",
    "rw",
    "silent",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "user",
    "users",
    "_netdev",
    "comment",
    "helper",
    "uhelper",
];

/// Options of the verb that make no sense where mount(8) decides.
const UNFIT: &[&str] = &["private", "foreground", "help", "user", "context"];

/// A command line of mount(8).
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    source: String,
    dir: OsString,
    options: Vec<String>,
    /// `-f`: all but the mount.
    fake: bool,
    /// `-s`: unknown options are no errors.
    sloppy: bool,
    verbose: usize,
}

/// Runs the helper. Returns an exit code of mount(8).
pub fn run(words: &[OsString]) -> ExitCode {
    if words.iter().any(|word| word == "-h" || word == "--help") {
        return match output::lines([command().render_long_help().to_string().trim_end()]) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(status::SYSTEM),
        };
    }
    match read(words).and_then(|asked| mount(&asked)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(match failure.code {
                Code::Usage => status::USAGE,
                Code::Failed => status::SYSTEM,
                _ => status::FAILED,
            })
        }
    }
}

fn mount(asked: &Asked) -> Result<u8, Failure> {
    environment();
    let mut args = arguments(asked)?;
    // The mount table shows SOURCE to the letter: by that `mount -a` knows what is mounted already.
    args.asked_by(Caller::Mount { source: asked.source.clone() });
    if asked.fake { mount::check(&args).map(|()| 0) } else { mount::run(&args) }
}

/// mount(8) takes HOME and PATH away, and whoever types `mount` may have a KUBECONFIG that is not there at boot: what is
/// mounted must not depend on who mounts when.
fn environment() {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let home = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.dir);
    // SAFETY: this process has one thread.
    #[allow(unsafe_code)]
    unsafe {
        std::env::remove_var("KUBECONFIG");
        std::env::set_var("HOME", home.unwrap_or_else(|| "/nonexistent".into()));
        std::env::set_var("PATH", PATH);
    }
}

/// Reads what mount(8) passes: `SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`.
fn read(words: &[OsString]) -> Result<Asked, Failure> {
    let usage = |what: String| Failure::new(Code::Usage, what);
    let mut asked = Asked::default();
    let mut operands = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let flags = match word.to_str() {
            Some(text) if text.len() > 1 => text.strip_prefix('-'),
            _ => None,
        };
        let Some(flags) = flags else {
            operands.push(word);
            continue;
        };
        for (at, flag) in flags.char_indices() {
            match flag {
                'f' => asked.fake = true,
                's' => asked.sloppy = true,
                'v' => asked.verbose += 1,
                'n' | 'r' | 'w' => {}
                'o' | 't' | 'N' => {
                    let attached = OsString::from(&flags[at + 1..]);
                    let value = if attached.is_empty() { words.next().cloned() } else { Some(attached) };
                    let value = value.ok_or_else(|| usage(format!("-{flag} needs a value")))?;
                    match flag {
                        'o' => asked.options.extend(split(&value)?),
                        't' => {}
                        _ => {
                            return Err(usage(
                                "-N is not supported: run mount in that namespace, with nsenter(1)".into(),
                            ));
                        }
                    }
                    break;
                }
                _ => return Err(usage(format!("unknown option -{flag}; see mount.secretfs --help"))),
            }
        }
    }
    let [source, dir] = operands[..] else {
        return Err(usage("give SOURCE and DIR; see mount.secretfs --help".into()));
    };
    asked.source = source.to_str().ok_or_else(|| usage("SOURCE is not valid UTF-8".into()))?.to_owned();
    asked.dir = dir.clone();
    Ok(asked)
}

/// Splits at commas, but not at those in double quotes or after a backslash (mount(8), "quoted options"; overlayfs and
/// others use the backslash).
fn split(options: &std::ffi::OsStr) -> Result<Vec<String>, Failure> {
    let text = options.to_str().ok_or_else(|| Failure::new(Code::Usage, "the options are not valid UTF-8"))?;
    let (mut all, mut option) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                if !matches!(c, ',' | '\\' | '"') {
                    option.push('\\');
                }
                option.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut option)),
            _ => option.push(c),
        }
    }
    all.push(option);
    if quoted || escaped {
        return Err(Failure::new(Code::Usage, format!("the options end in the middle of a quotation: {text:?}")));
    }
    all.retain(|option| !option.is_empty());
    Ok(all)
}

/// The arguments of the verb.
fn arguments(asked: &Asked) -> Result<mount::Args, Failure> {
    // mount(8) keeps x-* options to itself; those of ours are read where they stand.
    let own = fstab::own_options(asked.dir.as_ref());
    let mut line: Vec<OsString> = vec!["secretfs".into(), "mount".into()];
    for option in asked.options.iter().chain(&own) {
        match translate(option) {
            Ok(translated) => line.extend(translated.map(Into::into)),
            Err(_) if asked.sloppy => {}
            Err(failure) => return Err(failure),
        }
    }
    line.extend(std::iter::repeat_n(OsString::from("--verbose"), asked.verbose.saturating_sub(1)));
    match asked.source.strip_prefix("secretfs:").unwrap_or(&asked.source) {
        "*" | "none" | "secretfs" => {}
        source => line.push(source.into()),
    }
    line.push(asked.dir.clone());
    match Cli::try_parse_from(line) {
        Ok(Cli { verb: Verb::Mount(args) }) => Ok(*args),
        Ok(_) => Err(Failure::new(Code::Usage, "SOURCE and DIR make no sense")),
        Err(error) => Err(Failure::new(Code::Usage, output::usage(&error))),
    }
}

/// An option of mount(8) as one of the verb; `None` for one that asks for nothing.
fn translate(option: &str) -> Result<Option<String>, Failure> {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let bad = |why: String| Failure::new(Code::Usage, why);
    // `owner` alone is mount(8)'s, `owner=me` ours.
    let ours = name == "owner" && value.is_some();
    if GENERIC.contains(&name) && !ours {
        return Ok(None);
    }
    let name = match name.strip_prefix("x-secretfs.") {
        Some(name) => name,
        None if name.starts_with("x-") || name.starts_with("X-") => return Ok(None),
        None => name,
    };
    if matches!(name, "remount" | "bind" | "rbind" | "move") {
        return Err(bad(format!("{name} is not possible: umount it, then mount it anew")));
    }
    let dashed = name.replace('_', "-");
    let long = match dashed.as_str() {
        "manifests" => "filename",
        "kube-context" => "context",
        "kube-user" => "user",
        unfit if UNFIT.contains(&unfit) => return Err(bad(format!("the option {name} cannot be used here"))),
        other => other,
    };
    let command = Cli::command();
    let known = command.find_subcommand("mount").into_iter().flat_map(clap::Command::get_arguments);
    let Some(argument) = known.into_iter().find(|argument| argument.get_long() == Some(long)) else {
        return Err(bad(format!("unknown option {name:?}; see mount.secretfs --help")));
    };
    match (argument.get_action().takes_values(), value) {
        (true, Some(value)) => Ok(Some(format!("--{long}={value}"))),
        (true, None) => Err(bad(format!("the option {name} needs a value: {name}=..."))),
        (false, None) => Ok(Some(format!("--{long}"))),
        (false, Some(_)) => Err(bad(format!("the option {name} takes no value"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(Into::into).collect()
    }

    fn options(text: &str) -> Vec<String> {
        split(text.as_ref()).unwrap()
    }

    #[test]
    fn what_mount_passes_is_read_in_any_order() {
        let asked = read(&words("a/secret/b /m -fnsv -v -o rw,kinds=cm -omode=0400 -t secretfs")).unwrap();
        assert_eq!((asked.source.as_str(), asked.dir.to_str()), ("a/secret/b", Some("/m")));
        assert_eq!(asked.options, ["rw", "kinds=cm", "mode=0400"]);
        assert!(asked.fake && asked.sloppy && asked.verbose == 2);
        for bad in ["/m", "a /m b", "a /m -o", "a /m -x", "a /m -N 1"] {
            assert_eq!(read(&words(bad)).unwrap_err().code, Code::Usage, "{bad}");
        }
    }

    #[test]
    fn commas_can_be_quoted() {
        assert_eq!(options(r#"a,b="x,y",c=1\,2,,d\e"#), ["a", "b=x,y", "c=1,2", r"d\e"]);
        assert!(split(r#"a="x"#.as_ref()).is_err() && split(r"a\".as_ref()).is_err());
    }

    #[test]
    fn each_option_is_generic_ours_or_an_error() {
        for generic in ["ro", "_netdev", "x-systemd.automount", "X-mount.mkdir", "comment=a", "user=joe", "owner"] {
            assert_eq!(translate(generic).unwrap(), None, "{generic}");
        }
        for (option, line) in [
            ("owner=kubelet", "--owner=kubelet"),
            ("dir_mode=0500", "--dir-mode=0500"),
            ("dir-mode=0500", "--dir-mode=0500"),
            ("manifests=/etc/a.yaml", "--filename=/etc/a.yaml"),
            ("kube_context=prod", "--context=prod"),
            ("allow_other", "--allow-other"),
            ("selector=a=b", "--selector=a=b"),
            ("x-secretfs.layout=flat", "--layout=flat"),
        ] {
            assert_eq!(translate(option).unwrap().as_deref(), Some(line));
        }
        for bad in ["what", "private", "context=prod", "remount", "mode", "allow_other=yes", "x-secretfs.what"] {
            assert_eq!(translate(bad).unwrap_err().code, Code::Usage, "{bad}");
        }
    }
}
