//! The figures of docs/PERFORMANCE.md, each beside its rival in the same run: see `./bench`.
//!
//! The parts are in the order of [`PARTS`]; [`rounds`] interleaves the contestants, [`report`] prints and judges, [`bare`]
//! is the bare client and [`ordinary`] the ordinary FUSE file system that secretfs is measured against.

mod bare;
mod first_read;
mod hot;
mod load;
mod machine;
mod node;
mod ordinary;
mod process;
mod report;
mod rounds;
mod small;
mod update;

// The tests' mounts, control plane and directories; a bench needs only some of them.
#[path = "../tests/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::process::ExitCode;

use report::Report;

struct Part {
    name: &'static str,
    run: fn(&mut Report),
    /// Whether it runs when no part is named.
    usual: bool,
}

const PARTS: [Part; 6] = [
    Part { name: "hot", run: hot::run, usual: true },
    Part { name: "first-read", run: first_read::run, usual: true },
    Part { name: "update", run: update::run, usual: true },
    Part { name: "small", run: small::run, usual: true },
    Part { name: "node", run: node::run, usual: true },
    Part { name: "load", run: load::run, usual: false },
];

fn main() -> ExitCode {
    // cargo adds --bench.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [role, source, target] = &args[..]
        && role == ordinary::ROLE
    {
        ordinary::serve(source.as_ref(), target.as_ref());
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = args.iter().find(|arg| PARTS.iter().all(|part| part.name != **arg)) {
        let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        eprintln!("bench: there is no part {unknown:?}: name some of {}", names.join(", "));
        return ExitCode::from(2);
    }
    let mut report = Report::new();
    machine::describe(&mut report);
    for part in &PARTS {
        if args.contains(&part.name.to_owned()) || (args.is_empty() && part.usual) {
            (part.run)(&mut report);
        }
    }
    report.close();
    ExitCode::SUCCESS
}
