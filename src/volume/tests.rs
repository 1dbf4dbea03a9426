use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    let mut payload = Payload::default();
    for (path, bytes) in files {
        payload.insert(*path, File { bytes: Value::copy_of(bytes.as_bytes()), mode: 0o644, uid: None });
    }
    payload
}

fn volume(layout: Layout) -> Volume {
    Volume::new(Backing::Memory, layout, Ownership::of(Owner::Kubelet))
}

/// The steps as one word each, for comparison with the kubelet's order.
fn words(steps: &[Step]) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Mkdir { name, .. } => format!("mkdir {name}"),
        Step::Mkfile { name, .. } => format!("file {name}"),
        Step::Symlink { name, node: NewNode { body: NewBody::Link(target), .. } } => format!("link {name} {target}"),
        Step::Symlink { .. } => panic!("a link without a target"),
        Step::Rename { from, to } => format!("rename {from} {to}"),
        Step::Unlink { name } => format!("unlink {name}"),
        Step::RemoveAll { name } => format!("rm -r {name}"),
    };
    steps.iter().map(word).collect()
}

#[test]
fn a_first_write_shows_all_keys_after_the_switch() {
    let steps = volume(Layout::Kubelet).write(payload(&[("a", "1"), ("b", "2")]), "..1".into());
    assert_eq!(
        words(&steps),
        ["mkdir ..1", "link ..data_tmp ..1", "rename ..data_tmp ..data", "link a ..data/a", "link b ..data/b"]
    );
}

#[test]
fn an_empty_payload_still_has_a_generation() {
    let steps = volume(Layout::Kubelet).write(payload(&[]), "..1".into());
    assert_eq!(words(&steps), ["mkdir ..1", "link ..data_tmp ..1", "rename ..data_tmp ..data"]);
}

#[test]
fn links_appear_and_vanish_between_the_switch_and_the_removal_of_the_old_generation() {
    let mut volume = volume(Layout::Kubelet);
    volume.write(payload(&[("keep", "1"), ("gone", "2")]), "..1".into());
    let steps = volume.write(payload(&[("keep", "1"), ("new", "3")]), "..2".into());
    assert_eq!(
        words(&steps),
        [
            "mkdir ..2",
            "link ..data_tmp ..2",
            "rename ..data_tmp ..data",
            "link new ..data/new",
            "unlink gone",
            "rm -r ..1"
        ]
    );
}

#[test]
fn equal_content_is_no_update_even_in_other_modes() {
    let mut volume = volume(Layout::Kubelet);
    volume.write(payload(&[("a", "1")]), "..1".into());
    let mut other = Payload::default();
    other.insert("a", File { bytes: Value::copy_of(b"1"), mode: 0o400, uid: None });
    assert!(volume.write(other, "..2".into()).is_empty());
    assert!(!volume.write(payload(&[("a", "2")]), "..2".into()).is_empty());
}

#[test]
fn nested_paths_have_one_link_and_real_directories() {
    let steps = volume(Layout::Kubelet).write(payload(&[("d/x", "1"), ("d/e/y", "2"), ("f", "3")]), "..1".into());
    let Step::Mkdir { node: NewNode { body: NewBody::Dir(children), .. }, .. } = &steps[0] else { panic!() };
    let names: Vec<&str> = children.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["f", "d"]);
    assert_eq!(words(&steps)[3..], ["link d ..data/d", "link f ..data/f"]);
}

#[test]
fn a_flat_volume_replaces_changed_files_only_and_by_rename() {
    let mut volume = volume(Layout::Flat);
    let steps = volume.write(payload(&[("a", "1"), ("b", "2"), ("c", "3")]), "..1".into());
    assert_eq!(words(&steps), ["file a", "file b", "file c"]);
    let steps = volume.write(payload(&[("a", "1"), ("b", "9"), ("d", "4")]), "..2".into());
    assert_eq!(words(&steps), ["file ..new", "rename ..new b", "file d", "unlink c"]);
}
