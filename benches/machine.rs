//! The machine that the figures belong to.

use std::path::Path;

use crate::report::Report;

/// Prints program, date, processors, kernel, memory and what else the machine is busy with.
pub fn describe(report: &mut Report) {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model = field(&info, "model name", ':').unwrap_or("unknown processor").to_owned();
    let memory = read("/proc/meminfo");
    let kilobytes: f64 = field(&memory, "MemTotal", ':')
        .and_then(|value| value.split(' ').next())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0.0);
    let load = read("/proc/loadavg");
    report.say(format!("secretfs {}, {}", env!("CARGO_PKG_VERSION"), today()));
    report.say(format!(
        "{processors} cores ({model}), Linux {}, {:.1} GiB of memory, load {} at the start",
        read("/proc/sys/kernel/osrelease").trim(),
        kilobytes / f64::from(1 << 20),
        load.split(' ').next().unwrap_or_default(),
    ));
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `NAME: VALUE`.
pub fn field<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(separator));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

fn today() -> String {
    let output = std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
