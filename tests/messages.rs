//! docs/TROUBLESHOOTING.md quotes messages as the program prints them, and docs/SECURITY.md and docs/SEMANTICS.md name tests
//! that exist.

use std::path::{Path, PathBuf};

const TROUBLESHOOTING: &str = include_str!("../docs/TROUBLESHOOTING.md");
const SECURITY: &str = include_str!("../docs/SECURITY.md");
const SEMANTICS: &str = include_str!("../docs/SEMANTICS.md");

/// All sources below a directory of the package.
fn sources(dir: &str) -> Vec<String> {
    let mut dirs: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    let mut sources = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("readdir").flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(std::fs::read_to_string(path).expect("a source"));
            }
        }
    }
    sources
}

/// What stands between backquotes in a column of the document's tables.
fn quoted(document: &str, column: usize) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split(" | ").nth(column));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// A string literal may go on in the next line.
fn joined(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

/// Whether the parts of the message, between its gaps, are in the source in this order and near each other.
fn says(source: &str, message: &str) -> bool {
    let parts: Vec<&str> = message.split('…').map(str::trim_end).filter(|part| part.trim().len() > 1).collect();
    let Some(first) = parts.first() else { return false };
    source.match_indices(first).any(|(at, _)| {
        let mut rest = source[at..].chars().take(600).collect::<String>();
        parts.iter().all(|part| match rest.find(part) {
            Some(found) => {
                rest = rest.split_off(found + part.len());
                true
            }
            None => false,
        })
    })
}

#[test]
fn troubleshooting_quotes_what_the_program_says() {
    let sources: Vec<String> = sources("src").iter().map(|source| joined(source)).collect();
    let messages = quoted(TROUBLESHOOTING, 0);
    let messages: Vec<&str> = messages.into_iter().map(|message| message.trim_start_matches("| ")).collect();
    assert!(messages.len() > 30, "{messages:?}");
    for message in messages {
        assert!(sources.iter().any(|source| says(source, message)), "nothing in src/ says {message:?}");
    }
}

#[test]
fn each_promise_of_the_security_document_has_its_tests() {
    let tests = quoted(section(SECURITY, "What is promised"), 1);
    assert!(tests.len() > 15, "{tests:?}");
    are_tests(&tests);
}

#[test]
fn each_error_of_the_semantics_has_its_test() {
    let errors = section(SEMANTICS, "Errors");
    for row in errors.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = quoted(row, 2);
        assert!(!tests.is_empty(), "no test is named: {row}");
        are_tests(&tests);
    }
}

/// The text under a heading of a document.
#[track_caller]
fn section<'d>(document: &'d str, heading: &str) -> &'d str {
    let (_, section) = document.split_once(&format!("\n## {heading}\n")).expect("that section");
    section.split("\n## ").next().unwrap_or_default()
}

#[track_caller]
fn are_tests(names: &[&str]) {
    let sources = [sources("src"), sources("tests")].concat();
    for name in names {
        assert!(sources.iter().any(|source| source.contains(&format!("fn {name}("))), "there is no test {name}");
    }
}
