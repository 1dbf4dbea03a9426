//! Arguments that several verbs share.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;

use super::source_arg::SourceArg;
use super::{complete, source};
use crate::exit::{Code, Failure};
use crate::object::selector::{InvalidSelector, Selector};
use crate::object::{Kind, Namespace};

/// What is shown, and where: the operands of `mount` and `sync`.
#[derive(clap::Args, Debug)]
pub struct Operands {
    /// What to show (SOURCE, see below), and the directory to show it in, which must exist
    #[arg(value_name = "[SOURCE] DIR", num_args = 1..=2, required = true, add = complete::mount_operand())]
    operands: Vec<OsString>,
}

impl Operands {
    /// SOURCE and DIR.
    pub fn read(&self) -> Result<(SourceArg, PathBuf), Failure> {
        match &self.operands[..] {
            [dir] => Ok((SourceArg::Cluster, dir.into())),
            [source, dir] => {
                let text = source.to_str().ok_or_else(|| Failure::new(Code::Usage, "SOURCE is not valid UTF-8"))?;
                Ok((source::parse_whole(Some(text))?, dir.into()))
            }
            _ => Err(Failure::new(Code::Usage, "give [SOURCE] DIR")),
        }
    }
}

/// Where objects come from, in kubectl's words.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Where objects come from")]
pub struct SourceArgs {
    /// Read manifests instead of a cluster: a file, a directory, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-")]
    pub manifests: Vec<PathBuf>,
    /// Namespace of SOURCE, and of manifests that name none [default: the context's, or "default"]; for a whole cluster
    /// whose namespaces may not be listed, those to show: may be repeated, or a,b
    #[arg(short, long = "namespace", value_name = "NAME", value_delimiter = ',', add = complete::namespace())]
    pub namespaces: Vec<Namespace>,
    /// Show only objects whose labels match: a=b,c!=d,e in (x,y),!f
    #[arg(short = 'l', long, value_name = "SELECTOR", value_parser = selector)]
    pub selector: Option<String>,
    /// Kinds to show; more than one adds a directory level: secrets,configmaps,pods
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "secrets", value_parser = kind_parser())]
    pub kinds: Vec<Kind>,
    /// Context of the kubeconfig, fixed for the life of the mount [default: the current one]
    #[arg(long, value_name = "NAME", conflicts_with = "manifests")]
    pub context: Option<String>,
    /// Kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// Cluster of the kubeconfig, instead of the context's
    #[arg(long, value_name = "NAME", conflicts_with = "manifests")]
    pub cluster: Option<String>,
    /// User of the kubeconfig, instead of the context's
    #[arg(long, value_name = "NAME", conflicts_with = "manifests")]
    pub user: Option<String>,
    /// User to impersonate
    #[arg(long = "as", value_name = "USER", conflicts_with = "manifests")]
    pub impersonate: Option<String>,
    /// Group to impersonate; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", conflicts_with = "manifests")]
    pub impersonate_groups: Vec<String>,
    /// Uid to impersonate
    #[arg(long = "as-uid", value_name = "UID", conflicts_with = "manifests")]
    pub impersonate_uid: Option<String>,
    /// Deadline of one request to the API server, body included: 500ms, 5s, 1m
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    /// How often to ask again where watching is not allowed
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub poll: Duration,
}

fn kind_parser() -> impl TypedValueParser<Value = Kind> {
    clap::builder::NonEmptyStringValueParser::new().try_map(|text| match text.parse::<Kind>() {
        Ok(kind) if Kind::SHOWN.contains(&kind) => Ok(kind),
        _ => Err(format!("{text:?} is no kind to show: use secrets, configmaps or pods")),
    })
}

/// A selector that makes sense, as typed: the API server gets it so.
fn selector(text: &str) -> Result<String, InvalidSelector> {
    Selector::parse(text).map(|_| text.to_owned())
}

/// A duration as kubectl writes it: `1h30m`, `5s`, `500ms`, `1.5s`. Source: Go's time.ParseDuration, without sign, and without
/// units below the millisecond.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration: write for example 500ms, 30s or 1m30s");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(bad()),
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?).ok_or_else(bad)?;
        rest = &rest[unit..];
    }
    if total.is_zero() { Err(bad()) } else { Ok(total) }
}

/// A number of bytes as kubectl writes quantities: `64Mi`, `1Gi`, `500k`, `67108864`. A `B` after it is accepted.
pub fn bytes(text: &str) -> Result<usize, String> {
    let bad = || format!("{text:?} is not a size: write for example 64Mi, 1Gi or 500M");
    let number = text.strip_suffix('B').unwrap_or(text);
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let unit: usize = match &number[digits..] {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(bad()),
    };
    let count: usize = number[..digits].parse().map_err(|_| bad())?;
    count.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(bad)
}

/// A user by name or number. Source: passwd(5) and what nsswitch.conf(5) adds.
pub fn uid(text: &str) -> Result<u32, String> {
    let named = || nix::unistd::User::from_name(text).ok().flatten().map(|user| user.uid.as_raw());
    text.parse().ok().or_else(named).ok_or_else(|| format!("there is no user {text:?} on this host"))
}

/// A group by name or number.
pub fn gid(text: &str) -> Result<u32, String> {
    let named = || nix::unistd::Group::from_name(text).ok().flatten().map(|group| group.gid.as_raw());
    text.parse().ok().or_else(named).ok_or_else(|| format!("there is no group {text:?} on this host"))
}

/// The name of a unit of systemd (systemd.unit(5)).
pub fn unit(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if text.is_empty() || text.starts_with('-') || !text.chars().all(plain) {
        return Err(format!("{text:?} is not the name of a unit: write for example nginx.service"));
    }
    Ok(text.to_owned())
}

/// Permission bits as chmod takes them: up to four octal digits.
pub fn octal_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o1777 && !text.starts_with('+') => Ok(mode),
        _ => Err(format!("{text:?} is not a mode: write octal digits, for example 0400")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_kubectl_reads_them() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("1m30s", 90_000), ("1.5s", 1_500), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "5x", "-1s", "0s", "1..5s", "99999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_as_kubectl_reads_quantities() {
        for (text, size) in [("64Mi", 64 << 20), ("64MiB", 64 << 20), ("500k", 500_000), ("7", 7), ("1Gi", 1 << 30)] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "0", "Mi", "-1", "1.5Mi", "1m", "64 Mi", "99999999999999999999Gi"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn users_and_groups_have_numbers_and_names() {
        assert_eq!((uid("0"), uid("root"), uid("4294967295")), (Ok(0), Ok(0), Ok(u32::MAX)));
        assert_eq!((gid("0"), gid("root")), (Ok(0), Ok(0)));
        for text in ["", "-1", "no such user"] {
            assert!(uid(text).is_err() && gid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal_mode("0400"), Ok(0o400));
        assert_eq!(octal_mode("755"), Ok(0o755));
        for text in ["", "8", "0o400", "-1", "+7", "07777", "rw"] {
            assert!(octal_mode(text).is_err(), "{text}");
        }
    }
}
