//! TestGetNestedMountpoints of pkg/volume/util/nested_volumes_test.go.

use serde_json::json;

use crate::pod::testing::subject;
use crate::pod::{Problem, nested};

fn found(containers: &[&[(&str, &str)]], init: &[(&str, &str)]) -> Result<Vec<String>, Problem> {
    let container = |mounts: &[(&str, &str)]| {
        let mount = |(path, name): &(&str, &str)| json!({"mountPath": path, "name": name});
        json!({"name": "c", "volumeMounts": mounts.iter().map(mount).collect::<Vec<_>>()})
    };
    let containers: Vec<_> = containers.iter().map(|mounts| container(mounts)).collect();
    let pod = subject(json!({"spec": {"containers": containers, "initContainers": [container(init)]}}));
    Ok(nested(&pod, "vol1")?.into_iter().collect())
}

#[test]
fn mounts_below_a_volume_are_directories_in_it() {
    assert_eq!(found(&[&[("/dir", "vol1")]], &[]).unwrap(), [""; 0]);
    assert_eq!(found(&[&[("/dir", "vol1"), ("/dir/nested", "vol2")]], &[]).unwrap(), ["nested"]);
    let unsorted = [
        ("/dir/nested/double", "vol3"),
        ("/ignore", "vol4"),
        ("/dir/nested", "vol2"),
        ("/ignore2", "vol5"),
        ("/dir", "vol1"),
        ("/dir/nested-vol", "vol6"),
        ("/dir/nested.vol", "vol7"),
        ("/dir/nested2/double", "vol8"),
        ("/dir/nested2", "vol3"),
    ];
    assert_eq!(found(&[&unsorted], &[]).unwrap(), ["nested", "nested-vol", "nested.vol", "nested2"]);
    let twice = [
        ("/dir", "vol1"),
        ("/dir/nested", "vol2"),
        ("/ignore", "vol4"),
        ("/other", "vol1"),
        ("/other/nested2", "vol3"),
    ];
    assert_eq!(found(&[&twice], &[]).unwrap(), ["nested", "nested2"]);
    let big = [
        ("/mnt", "vol1"),
        ("/ignore", "vol2"),
        ("/mnt/sub1/sub2/sub3", "vol3"),
        ("/mnt/sub1/sub2/sub4", "vol4"),
        ("/mnt/sub1/sub2/sub4/skip", "vol5"),
        ("/mnt/sub1/sub2/sub4/skip2", "vol5a"),
        ("/mnt/sub1/sub2/sub6", "vol6"),
        ("/mnt7", "vol7"),
    ];
    let init = [("/mnt/dir", "vol1"), ("/mnt/dir_ignore", "vol8"), ("/ignore", "vol9"), ("/mnt/dir/sub", "vol11")];
    assert_eq!(found(&[&big], &init).unwrap(), ["sub", "sub1/sub2/sub3", "sub1/sub2/sub4", "sub1/sub2/sub6"]);
    // Each container by itself: what another one mounts below is nothing to this one.
    assert_eq!(found(&[&[("/dir", "vol1")], &[("/dir/nested", "vol2")]], &[]).unwrap(), [""; 0]);
}

#[test]
fn a_mount_outside_of_the_root_is_refused() {
    let naughty = [("foo/../../dir", "vol1"), ("foo/../../dir/skip", "vol10")];
    let problem = Problem::BadMountPath { container: "c".into(), path: "foo/../../dir".into() };
    assert_eq!(found(&[&naughty], &[]), Err(problem));
}
