//! Paths as Go and the kubelet treat them.

use super::Problem;

/// The longest path and name, in bytes. Source: `maxPathLength` and `maxFileNameLength`, pkg/volume/util/atomic_writer.go.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;

/// Go's `filepath.Clean`: the shortest name of the same path, judged by its text alone. It may be `.`, or begin with `..`.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// The clean path of a file of a volume. Source: `validatePath`, pkg/volume/util/atomic_writer.go, and what its writing
/// fails at: a path that is the directory itself, and a null byte.
pub(super) fn file_path(path: &str) -> Result<String, Problem> {
    let bad = |why| Err(Problem::BadPath { path: path.to_owned(), why });
    if path.is_empty() {
        return bad("is empty");
    }
    if path.starts_with('/') {
        return bad("is not relative");
    }
    if path.len() > MAX_PATH {
        return Err(Problem::BadPath { path: shortened(path), why: "has more than 4096 bytes" });
    }
    if path.split('/').any(|part| part == "..") {
        return bad("has a '..' in it");
    }
    if path.split('/').any(|part| part.len() > MAX_NAME) {
        return Err(Problem::BadPath { path: shortened(path), why: "has a name of more than 255 bytes in it" });
    }
    if path.contains('\0') {
        return bad("has a null byte in it");
    }
    let clean = clean(path);
    // What passes there as `./..name` is shown as it is there, but for the volume's own names.
    let reserved = |name: &str| matches!(name, "..data" | "..data_tmp" | "..new");
    if path.starts_with("..") || reserved(clean.split('/').next().unwrap_or_default()) {
        return bad("begins with '..'");
    }
    if clean == "." {
        return bad("names the volume itself");
    }
    Ok(clean)
}

fn shortened(path: &str) -> String {
    path.chars().take(64).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Go's src/path/filepath/path_test.go.
    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        let table = [
            ("abc", "abc"),
            ("abc/def", "abc/def"),
            ("a/b/c", "a/b/c"),
            (".", "."),
            ("..", ".."),
            ("../..", "../.."),
            ("../../abc", "../../abc"),
            ("/abc", "/abc"),
            ("/", "/"),
            ("", "."),
            ("abc/", "abc"),
            ("abc/def/", "abc/def"),
            ("./", "."),
            ("../", ".."),
            ("../../", "../.."),
            ("/abc/", "/abc"),
            ("abc//def//ghi", "abc/def/ghi"),
            ("abc//", "abc"),
            ("abc/./def", "abc/def"),
            ("/./abc/def", "/abc/def"),
            ("abc/.", "abc"),
            ("abc/def/ghi/../jkl", "abc/def/jkl"),
            ("abc/def/../ghi/../jkl", "abc/jkl"),
            ("abc/def/..", "abc"),
            ("abc/def/../..", "."),
            ("/abc/def/../..", "/"),
            ("abc/def/../../..", ".."),
            ("/abc/def/../../..", "/"),
            ("abc/def/../../../ghi/jkl/../../../mno", "../../mno"),
            ("/../abc", "/abc"),
            ("a/../b:/../../c", "../c"),
            ("abc/./../def", "def"),
            ("abc//./../def", "def"),
            ("abc/../../././../def", "../../def"),
        ];
        for (path, cleaned) in table {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    /// TestValidatePath and TestValidatePayload, atomic_writer_test.go.
    #[test]
    fn file_paths_are_those_that_the_kubelet_takes() {
        let component = "a".repeat(255);
        let deep = vec!["ab"; 1365].join("/") + "/x";
        assert_eq!(deep.len(), 4096);
        for (good, clean) in [
            ("i/am/well/behaved.txt", "i/am/well/behaved.txt"),
            ("foo////bar", "foo/bar"),
            ("bar///bar/zab.txt", "bar/bar/zab.txt"),
            ("./foo", "foo"),
            ("foo/", "foo"),
            (".dotfile", ".dotfile"),
            ("dir/..x", "dir/..x"),
            ("a b\n", "a b\n"),
            (&component, &component),
            (&deep, &deep),
        ] {
            assert_eq!(file_path(good).as_deref(), Ok(clean), "{good}");
        }
        let (long, long_name) = ("a/".repeat(2048) + "b", "a".repeat(256));
        for bad in [
            "",
            "/dev/null",
            "..sneaky.txt",
            "...",
            "..",
            "hello/there/../../../../../../../etc/passwd",
            "hello/../etc/somethingbad",
            "foo/..",
            ".",
            "./.",
            "./..data",
            "a\0b",
            &long,
            &long_name,
        ] {
            let message = file_path(bad).expect_err(bad).to_string();
            assert!(message.len() < 300, "{message}");
        }
    }
}
