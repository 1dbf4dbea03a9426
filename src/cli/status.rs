//! `secretfs status`.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use super::output;
use crate::daemon::control::{self, Fresh, Status};
use crate::exit::{Code, Failure};

/// List the mounts of this user; as root, of this host.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  secretfs status
  secretfs status -o wide
  secretfs status -o json | jq -r '.[].mountpoint'
  secretfs status -o json | jq -e 'all(.problems == [])'    # false: some pod's files are not complete")]
pub struct Args {
    /// Output format
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// All that is known, for programs
    Json,
    /// More columns, and below them how fresh each list and object is
    Wide,
}

/// How many problems are named below each mount.
const REMARKS: usize = 10;

/// Runs the verb.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let all = control::ask_all()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot look for running mounts: {error}")))?;
    if args.output == Some(Format::Json) {
        let text = serde_json::to_string_pretty(&all).map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
        return output::lines([text]);
    }
    if all.is_empty() {
        output::say("no mounts");
        return Ok(0);
    }
    let wide = args.output == Some(Format::Wide);
    let mut rows = vec![header(wide)];
    rows.extend(all.iter().map(|status| row(status, wide)));
    let mut table = columns(&rows).into_iter();
    let mut lines: Vec<String> = table.next().into_iter().collect();
    for (line, status) in table.zip(&all) {
        lines.push(line);
        lines.extend(remarks(status).map(|remark| format!("  {}", remark.replace(char::is_control, "?"))));
    }
    let mut rows = vec![["KNOWN", "FRESHNESS", "CONFIRMED", "MOUNTPOINT"].map(str::to_owned).to_vec()];
    rows.extend(all.iter().filter(|_| wide).flat_map(fresh_rows));
    if rows.len() > 1 {
        lines.push(String::new());
        lines.extend(columns(&rows));
    }
    output::lines(lines)
}

/// What a mount of pods does not show as the pods have it.
fn remarks(status: &Status) -> impl Iterator<Item = String> {
    let more = status.problems_more + status.problems.len().saturating_sub(REMARKS);
    let problems = status.problems.iter().take(REMARKS).map(ToString::to_string);
    let more = (more > 0).then(|| format!("and {more} more: secretfs status -o json"));
    let kinds = status.shown_empty.iter().map(|(kind, count)| format!("{kind} ({count})")).collect::<Vec<_>>();
    let empty = (!kinds.is_empty())
        .then(|| format!("shown as empty directories, as no API server has their files: {}", kinds.join(", ")));
    problems.chain(more).chain(empty)
}

/// One row for each list and object that a mount keeps.
fn fresh_rows(status: &Status) -> Vec<Vec<String>> {
    let place = output::path(Path::new(&status.mountpoint));
    let row = |fresh: &Fresh| {
        let ago = |age| format!("{} ago", self::age(Duration::try_from_secs_f64(age).unwrap_or_default()));
        let ago = fresh.age.map_or("never".into(), ago);
        vec![fresh.what.replace(char::is_control, "?"), format!("{:?}", fresh.state).to_lowercase(), ago, place.clone()]
    };
    let mut rows: Vec<_> = status.lists.iter().chain(&status.kept).map(row).collect();
    if status.kept_more > 0 {
        let more = format!("{} more objects, none less fresh", status.kept_more);
        rows.push(vec![more, String::new(), String::new(), place.clone()]);
    }
    rows
}

fn header(wide: bool) -> Vec<String> {
    let mut columns = vec!["MOUNTPOINT", "SOURCE", "FROM", "STATE", "OBJECTS", "LOADED", "AGE"];
    if wide {
        columns.extend(["PID", "HOW", "FUSE", "API", "WATCHES", "BYTES", "TROUBLE"]);
    }
    columns.into_iter().map(str::to_owned).collect()
}

fn row(status: &Status, wide: bool) -> Vec<String> {
    let since = UNIX_EPOCH + Duration::from_secs(status.since);
    let mut columns = vec![
        output::path(Path::new(&status.mountpoint)),
        status.source.clone(),
        status.from.clone(),
        state(status),
        status.objects.to_string(),
        status.loaded.to_string(),
        age(SystemTime::now().duration_since(since).unwrap_or_default()),
    ];
    if wide {
        columns.push(status.pid.to_string());
        columns.push(status.method.clone());
        columns.push(status.requests_answered.to_string());
        let api = |name: &str| status.api.get(name).copied().unwrap_or_default();
        columns.push((api("gets") + api("lists") + api("watches")).to_string());
        columns.push(api("open_watches").to_string());
        columns.push(status.bytes.to_string());
        columns.push(status.trouble.clone().unwrap_or_default());
    }
    columns
}

/// Whether the source can be asked now; if not, since when not.
fn state(status: &Status) -> String {
    match (&status.trouble, status.trouble_since) {
        (None, _) => "ok".into(),
        (Some(_), since) => {
            let since = UNIX_EPOCH + Duration::from_secs(since.unwrap_or(status.since));
            format!("stale {}", age(SystemTime::now().duration_since(since).unwrap_or_default()))
        }
    }
}

/// As kubectl writes ages: the two largest units at most.
fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [(5, "5s"), (119, "119s"), (120, "2m"), (7_300, "2h1m"), (200_000, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
