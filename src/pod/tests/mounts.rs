//! `makeMounts` of pkg/kubelet/kubelet_pods.go, and the order of containerd's `orderedMounts`.

use serde_json::{Value as Json, json};

use crate::pod::testing::{Known, subject};
use crate::pod::{Mounts, Problem, mount_needs, mounts};

fn found(volume_mounts: Json) -> Mounts {
    let pod = subject(json!({"spec": {
        "containers": [{"name": "c", "volumeMounts": volume_mounts}], "volumes": [{"name": "v", "secret": {}}, {"name": "w"}],
    }}));
    assert!(mount_needs(&pod, &pod.pod.spec.containers[0]).is_empty());
    mounts(&pod, &pod.pod.spec.containers[0], &Known::default())
}

/// Path, volume and subPath of each mount.
fn listed(volume_mounts: Json) -> Vec<(String, String, String)> {
    let found = found(volume_mounts);
    assert_eq!(found.problems, []);
    found.mounts.into_iter().map(|mount| (mount.path, mount.volume, mount.sub_path)).collect()
}

#[test]
fn outer_mounts_come_first() {
    let found = listed(json!([
        {"name": "v", "mountPath": "/a/b/c"}, {"name": "w", "mountPath": "/z"}, {"name": "v", "mountPath": "/a/b"},
        {"name": "w", "mountPath": "/a"},
    ]));
    let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(paths, ["z", "a", "a/b", "a/b/c"]);
}

#[test]
fn paths_are_made_absolute_and_clean() {
    for (written, path) in [
        ("/etc/x", "etc/x"),
        ("etc/x", "etc/x"),
        ("/etc//x/", "etc/x"),
        ("/a/../../b", "b"),
        ("a/../b", "b"),
        ("..", ""),
        ("../a", ""),
        ("foo/../../dir", ""),
        ("/", ""),
        ("", ""),
        (".", ""),
        ("/a\0b", ""),
    ] {
        let found = found(json!([{"name": "v", "mountPath": written}]));
        match path {
            "" => {
                let problem = Problem::BadMountPath { container: "c".into(), path: written.into() };
                assert_eq!(found, Mounts { mounts: vec![], problems: vec![problem] });
            }
            path => assert_eq!((found.mounts[0].path.as_str(), found.problems), (path, vec![]), "{written}"),
        }
    }
}

#[test]
fn sub_paths_stay_within_the_volume() {
    let with = |sub_path: &str| json!([{"name": "v", "mountPath": "/m", "subPath": sub_path}]);
    for (written, expected) in
        [("a", "a"), ("a//b/", "a/b"), (".", ""), ("", ""), ("./a", "a"), ("$(X)", "$(X)"), ("..a", "..a")]
    {
        assert_eq!(listed(with(written))[0].2, expected);
    }
    for bad in ["/a", "..", "a/../b", "a\0", &"a".repeat(256)] {
        let found = found(with(bad));
        assert!(found.mounts.is_empty() && matches!(&found.problems[..], [Problem::BadSubPath { .. }]), "{bad}");
    }
}

#[test]
fn two_mounts_at_one_path_are_told_or_cover_each_other() {
    let found = found(json!([{"name": "v", "mountPath": "/m"}, {"name": "w", "mountPath": "/m"}]));
    assert_eq!(found.problems, [Problem::MountedTwice { container: "c".into(), path: "/m".into() }]);
    assert_eq!((found.mounts.len(), found.mounts[0].volume.as_str()), (1, "v"));
    // The API server compares what is written.
    let covered = listed(json!([{"name": "v", "mountPath": "/m"}, {"name": "w", "mountPath": "/m/"}]));
    assert_eq!(covered, [("m".to_owned(), "w".to_owned(), String::new())]);
}

#[test]
fn other_mounts_are_there_beside_a_bad_one() {
    let found = found(json!([{"name": "x", "mountPath": "/x"}, {"name": "v", "mountPath": "/v"}]));
    assert_eq!(found.problems, [Problem::UnknownVolume { container: "c".into(), volume: "x".into() }]);
    assert_eq!(found.mounts.len(), 1);
}
