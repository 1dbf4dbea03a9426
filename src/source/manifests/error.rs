//! What can be wrong with manifests. No message holds a value or a piece of a file: only names, places and fixed reasons.

use crate::object::{Key, MAX_DATA_BYTES};

use super::node::Place;

/// Why manifests cannot be read, with the place to look at and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Indicates a file, a directory or a standard input that cannot be read at all.
    #[error("cannot read {file}: {why}")]
    Unreadable { file: String, why: Unreadable },
    /// Indicates a document that is neither YAML nor JSON, or one beyond a limit.
    #[error("{file}, document {document}, line {line}, column {column}: {why}")]
    Syntax { file: String, document: usize, line: u32, column: u32, why: Malformed },
    /// Indicates an object that kubectl or the API server would refuse.
    #[error("{file}, document {document}, line {line}: {object}: {why}")]
    Object { file: String, document: usize, line: u32, object: String, why: Refused },
}

impl ManifestError {
    /// The file, directory or standard input that it is about.
    pub fn file(&self) -> &str {
        match self {
            ManifestError::Unreadable { file, .. }
            | ManifestError::Syntax { file, .. }
            | ManifestError::Object { file, .. } => file,
        }
    }
}

/// Why a file cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("there is no such file or directory: check the path given with -f")]
    Missing,
    #[error("permission denied: run as a user who may read it")]
    Denied,
    #[error("it is a directory: name the files in it, or the directory itself with -f")]
    Directory,
    #[error("it is neither a regular file nor a directory any more: put the file back")]
    NotAFile,
    #[error("it is larger than {} MiB: split it into several files", super::input::MAX_FILE_BYTES >> 20)]
    TooLarge,
    #[error("{0}: check the file system")]
    Io(String),
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Unreadable::Missing,
            ErrorKind::PermissionDenied => Unreadable::Denied,
            ErrorKind::IsADirectory => Unreadable::Directory,
            // The kind's own words; the error itself might hold a path that we print already.
            kind => Unreadable::Io(kind.to_string()),
        }
    }
}

/// Why a document has no meaning. A closed list of sentences: a parser's own messages quote the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("this is not valid JSON: correct the syntax here or just before")]
    Json,
    #[error("this is not valid YAML: correct the syntax here or just before")]
    Yaml,
    #[error("a tab stands where only spaces may indent: use spaces")]
    Tab,
    #[error("a quote is not closed: add the closing quote")]
    UnclosedQuote,
    #[error("a bracket or brace is not closed or does not match: balance them")]
    UnclosedBracket,
    #[error("the indentation does not fit what is above: align it")]
    Indentation,
    #[error("an escape in a quoted string is not one that YAML 1.1 knows: correct it, or use single quotes")]
    Escape,
    #[error("a control character is not allowed here: remove it, or put the value in base64 under data")]
    ControlCharacter,
    #[error("only a comment may follow the document separator ---: put the rest on the next line")]
    Separator,
    #[error("the document has a line separator (U+2028 or U+2029) outside of quotes: remove it, or quote the value")]
    LineSeparator,
    #[error("within brackets kubectl takes '?' and ':' in an unquoted value for syntax: quote the value")]
    FlowPlain,
    #[error("within brackets a key and its ':' must stand on one line: join the lines")]
    KeyLine,
    #[error("the name of an anchor or alias has other characters than letters, digits, '_' and '-': rename it")]
    AnchorName,
    #[error("this alias (*name) has no anchor (&name) before it: define the anchor first")]
    UnknownAnchor,
    #[error("an anchor contains an alias to itself: write the value out")]
    Recursive,
    #[error("aliases make far more of this document than it says: write the values out")]
    ExcessiveAliases,
    #[error("lists and mappings are nested too deeply: {} levels are the limit", super::node::MAX_DEPTH)]
    TooDeep,
    #[error("the document holds more than {} values: split it", super::node::MAX_NODES)]
    TooManyValues,
    #[error("a value does not fit its tag (!!int, !!bool, ...): correct the value or remove the tag")]
    Tag,
    #[error("the key of a mapping is null, a list or a mapping: use a string")]
    MapKey,
    #[error("<< needs a mapping or a list of mappings: correct the alias after it")]
    Merge,
    #[error("JSON has no infinite numbers and no .nan: put the value in quotes")]
    NotJsonNumber,
}

/// Why an object cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the document is {found}, not a mapping: a manifest begins with apiVersion and kind")]
    NotAMapping { found: &'static str },
    #[error("{0} is missing: add it")]
    Missing(&'static str),
    #[error("{field} is {found}, not {wanted}: correct it{}", quotes_hint(.wanted))]
    WrongType { field: &'static str, found: &'static str, wanted: &'static str },
    #[error("the value of {key} in {field} is {found}, not a string: put it in quotes")]
    NotAString { field: &'static str, key: Label, found: &'static str },
    #[error("the value of {key} in {field} is not base64: encode it, or move it to {plain} as it is")]
    NotBase64 { field: &'static str, key: Label, plain: &'static str },
    #[error("this field does not exist in {of}: correct its name or indentation")]
    UnknownField { of: &'static str },
    #[error("it is encrypted by SOPS: decrypt it first (sops -d FILE | secretfs mount -f - ...)")]
    Sops,
    #[error(
        "a key of {field} is not valid: use at most 253 letters, digits, '-', '_' and '.', not '.' and not beginning with '..'"
    )]
    InvalidKey { field: &'static str },
    #[error("the name is not valid: {rule}")]
    InvalidName { rule: &'static str },
    #[error("the namespace is not valid: {rule}")]
    InvalidNamespace { rule: &'static str },
    #[error("a label is not valid: use keys and values of at most 63 letters, digits, '-', '_' and '.'")]
    InvalidLabel,
    #[error("the annotations are not valid: use label-like keys, at most 256 KiB together")]
    InvalidAnnotations,
    #[error("the key {0} is in both data and binaryData: remove one")]
    KeyTwice(Key),
    #[error("the values are larger than {MAX_DATA_BYTES} bytes together, the API server's limit: make several objects")]
    TooLarge,
    #[error("the objects of this file are larger than {} MiB together: split it", super::decode::MAX_DECODED_BYTES >> 20)]
    FileTooLarge,
    #[error("a Secret of type {kind} needs {needs}: add it, or remove the type")]
    TypeNeeds { kind: &'static str, needs: &'static str },
}

fn quotes_hint(wanted: &str) -> &'static str {
    if wanted.starts_with("a string") { " (yes, 0400 and 1.5 need quotes to be strings)" } else { "" }
}

/// A key as messages show it: by name only if it is a valid key, since a value that slipped out of its indentation
/// becomes a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(pub Option<Key>);

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(key) => write!(f, "key {key}"),
            None => f.write_str("a key"),
        }
    }
}

/// A part of an object, or why the object is refused and on which line.
pub(super) type Checked<T> = Result<T, (u32, Refused)>;

/// A malformed document and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub place: Place,
    pub why: Malformed,
}

impl Fault {
    pub fn new(place: Place, why: Malformed) -> Self {
        Fault { place, why }
    }
}
