//! The documents hold to the letter: their examples print what they say, `--help` knows their options, and the exit codes
//! are those of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::sandbox::Sandbox;
use crate::support::{run, said, secretfs, succeed};

const README: &str = include_str!("../README.md");
const SEMANTICS: &str = include_str!("../docs/SEMANTICS.md");
const CONFIGURATION: &str = include_str!("../docs/CONFIGURATION.md");

/// A command of a document and what the document says that it prints.
struct Example {
    line: usize,
    command: String,
    output: String,
}

/// The examples in a document's blocks of language `console`, in order.
fn examples(document: &str) -> Vec<Example> {
    let mut examples = Vec::new();
    let mut inside = false;
    for (at, line) in document.lines().enumerate() {
        match line.strip_prefix("$ ") {
            _ if line.starts_with("```") => inside = line == "```console",
            _ if !inside => {}
            Some(command) => examples.push(Example { line: at + 1, command: command.into(), output: String::new() }),
            None => {
                let example: &mut Example = examples.last_mut().expect("a block begins with a command");
                example.output += &format!("{line}\n");
            }
        }
    }
    examples
}

/// Runs a document's examples one after the other in one directory.
#[track_caller]
fn holds(name: &str, document: &str) {
    let sandbox = Sandbox::new();
    for example in ["example-secret.yaml", "demo.yaml"] {
        let from = format!("{}/examples/{example}", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(from, sandbox.path(example)).expect("copy");
    }
    let examples = examples(document);
    assert!(examples.len() > 5, "{name}: only {} examples were found", examples.len());
    for Example { line, command, output } in examples {
        let ran = run(&mut sandbox.bash(&command));
        assert!(ran.status.success() && ran.stderr.is_empty(), "{name}:{line}: {command}: {}", said(&ran));
        // A document shows lines; that a value has no line break at its end it cannot show.
        let mut printed = String::from_utf8_lossy(&ran.stdout).into_owned();
        if !printed.is_empty() && !printed.ends_with('\n') {
            printed.push('\n');
        }
        assert_eq!(printed, output, "{name}:{line}: {command}");
    }
    sandbox.is_clean();
}

#[test]
fn the_examples_of_the_readme_print_what_it_says() {
    holds("README.md", README);
}

#[test]
fn the_examples_of_the_semantics_print_what_it_says() {
    holds("docs/SEMANTICS.md", SEMANTICS);
}

/// `--help` of each verb.
fn helps() -> BTreeMap<String, String> {
    let own = succeed(secretfs().arg("--help"));
    let commands = own.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let verbs = commands.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
    verbs.map(|verb| (verb.to_owned(), succeed(secretfs().args([verb, "--help"])))).collect()
}

/// The options that a help text lists.
fn listed(help: &str) -> BTreeSet<String> {
    definitions(help).into_iter().flatten().collect()
}

/// The names of each option that a help text lists, which are one or two.
fn definitions(help: &str) -> Vec<BTreeSet<String>> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let names = lines.map(|line| options(line.split("  ").next().unwrap_or_default()));
    // What is left out are possible values.
    names.filter(|names| !names.is_empty()).collect()
}

/// The options in a piece of a command line: `-n`, `--kinds`.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| c.is_whitespace() || ",[]=".contains(c));
    let long =
        |word: &str| word.strip_prefix("--").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    let short =
        |word: &str| word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
    // -vv is twice -v, and what follows = is a value.
    words
        .filter_map(|word| if long(word) { word.split('=').next() } else { word.get(..2).filter(|start| short(start)) })
        .map(str::to_owned)
        .collect()
}

/// What a document shows as code: its blocks line by line, and what is within backquotes.
fn code(document: &str) -> Vec<&str> {
    let mut inside = false;
    let pieces = document.lines().flat_map(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        match (fence, inside) {
            (true, _) => Vec::new(),
            (false, true) => vec![line],
            (false, false) => line.split('`').skip(1).step_by(2).collect(),
        }
    });
    pieces.collect()
}

/// The options that a document uses, each with the verb if it names one.
fn used(document: &str) -> BTreeSet<(Option<String>, String)> {
    let mut used = BTreeSet::new();
    for piece in code(document) {
        let piece = piece.split(" #").next().unwrap_or_default();
        if piece.starts_with('-') {
            used.extend(options(piece).into_iter().map(|option| (None, option)));
        }
        for command in piece.split(['|', '&', ';']) {
            let Some((_, rest)) = command.split_once("secretfs ") else { continue };
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if !verb.is_empty() && verb.chars().all(|c| c.is_ascii_lowercase()) {
                let ours = rest.split(" -- ").next().unwrap_or_default();
                used.extend(options(ours).into_iter().map(|option| (Some(verb.to_owned()), option)));
            }
        }
    }
    used
}

#[test]
fn help_names_every_option_that_a_document_uses() {
    let helps = helps();
    for (name, document) in [("README.md", README), ("SEMANTICS.md", SEMANTICS), ("CONFIGURATION.md", CONFIGURATION)] {
        let used = used(document);
        assert!(used.len() > 3, "{name}: only {used:?} were found");
        for (verb, option) in used {
            let known = helps.iter().filter(|(name, _)| verb.as_ref().is_none_or(|verb| verb == *name));
            let known = known.map(|(_, help)| listed(help)).any(|options| options.contains(&option));
            assert!(known, "{name} has {option}, --help of {} has not", verb.as_deref().unwrap_or("any verb"));
        }
    }
}

#[test]
fn the_page_on_configuration_has_every_option_that_several_verbs_share() {
    let described = code(CONFIGURATION).iter().flat_map(|piece| options(piece)).collect::<BTreeSet<_>>();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for help in helps().values() {
        for names in definitions(help) {
            // One name of an option is enough.
            let name = names.iter().find(|name| described.contains(*name)).or(names.first()).expect("a name");
            *count.entry(name.clone()).or_default() += 1;
        }
    }
    let shared = count.iter().filter(|(name, count)| **count > 1 && !["--help", "-h"].contains(&name.as_str()));
    let missing: Vec<_> = shared.map(|(name, _)| name).filter(|name| !described.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/CONFIGURATION.md lacks {missing:?}");
}

#[test]
fn every_verb_explains_itself_with_examples() {
    for (verb, help) in helps() {
        assert!(help.contains(&format!("Usage: secretfs {verb}")), "{verb}:\n{help}");
        assert!(help.contains("Examples:\n") && help.contains(&format!("\n  secretfs {verb}")), "{verb}:\n{help}");
    }
}

#[test]
fn the_exit_codes_of_the_documents_are_those_of_the_program() {
    let source = include_str!("../src/exit.rs");
    let body = source.split_once("pub enum Code {").expect("the enum").1.split_once("\n}").expect("its end").0;
    let number = |line: &str| line.split_once(" = ")?.1.trim_end_matches(',').parse::<u8>().ok();
    let codes: Vec<u8> = body.lines().filter_map(number).collect();

    let section = CONFIGURATION.split_once("## Exit codes").expect("the section").1;
    let section = section.split("\n## ").next().expect("its text");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(' ')?.0.parse::<u8>().ok());
    assert_eq!(rows.collect::<Vec<_>>(), codes);

    let help = succeed(secretfs().arg("--help"));
    let section = help.split_once("Exit codes:\n").expect("the section").1;
    let numbers = section.split_whitespace().filter_map(|word| word.parse::<u8>().ok());
    assert_eq!(numbers.collect::<Vec<_>>(), codes);
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = |document: &'static str| document.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for (dir, document) in [("", README), ("docs", SEMANTICS), ("docs", CONFIGURATION)] {
        for link in links(document).filter(|link| !link.contains("://")) {
            assert!(root.join(dir).join(link).is_file(), "there is no {link}");
        }
    }
}
