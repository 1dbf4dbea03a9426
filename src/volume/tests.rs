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

/// A directory for another volume's mount is where the link would be: the kubelet makes none, and removes none.
#[test]
fn a_name_that_a_mount_point_has_is_shown_below_data_only() {
    let mut volume = volume(Layout::Kubelet);
    volume.take_names(["a".into()]);
    let children = volume.contents(payload(&[("a", "1"), ("b", "2")]), "..1".into());
    let names: Vec<&str> = children.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["..1", "..data", "b"]);
    let steps = volume.write(payload(&[]), "..2".into());
    assert_eq!(words(&steps)[3..], ["unlink b", "rm -r ..1"]);
    let steps = volume.write(payload(&[("a", "3")]), "..3".into());
    assert_eq!(words(&steps)[3..], ["rm -r ..2"]);
    assert_eq!(words(&volume.clear()), ["unlink ..data", "rm -r ..3"]);
}

/// What `AtomicWriter.Write` fails at: ENOTDIR when a file is to be a directory, EISDIR when a
/// directory is to be a file.
#[test]
fn a_path_cannot_be_a_file_and_a_directory() {
    let clash = |path: &str| Err(Clash { path: path.to_owned() });
    let fresh = volume(Layout::Kubelet);
    assert_eq!(fresh.can_write(&payload(&[("a", ""), ("a.b", ""), ("b/a", "")])), Ok(()));
    assert_eq!(fresh.can_write(&payload(&[("foo", ""), ("foo/bar", "")])), clash("foo"));
    assert_eq!(fresh.can_write(&payload(&[("a/b/c", ""), ("a/b", "")])), clash("a/b"));
    assert_eq!(payload(&[("foo", ""), ("foo/bar", "")]).check(), clash("foo"));

    let mut shown = volume(Layout::Kubelet);
    shown.write(payload(&[("foo", "1"), ("dir/sub/x", "2")]), "..1".into());
    assert_eq!(shown.can_write(&payload(&[("foo", "2"), ("dir/sub/y", "2")])), Ok(()));
    assert_eq!(shown.can_write(&payload(&[("foo/bar", "1")])), clash("foo"));
    assert_eq!(shown.can_write(&payload(&[("dir", "1")])), clash("dir"));
    assert_eq!(shown.can_write(&payload(&[("dir/sub", "1")])), clash("dir/sub"));
    // Once it has been emptied, everything can come.
    shown.write(payload(&[]), "..2".into());
    assert_eq!(shown.can_write(&payload(&[("foo/bar", "1"), ("dir", "1")])), Ok(()));

    // Without generations the old files are in nobody's way.
    let mut flat = volume(Layout::Flat);
    flat.write(payload(&[("foo", "1")]), "..1".into());
    assert_eq!(flat.can_write(&payload(&[("foo/bar", "1")])), Ok(()));
    assert_eq!(flat.can_write(&payload(&[("foo", ""), ("foo/bar", "1")])), clash("foo"));
}

/// The names and modes below a directory.
fn tree(node: &NewNode) -> Vec<String> {
    fn walk(path: &str, node: &NewNode, out: &mut Vec<String>) {
        let attr = node.attr;
        out.push(format!("{path} {:o} {}:{}", attr.mode, attr.uid, attr.gid));
        if let NewBody::Dir(children) = &node.body {
            children.iter().for_each(|(name, child)| walk(&format!("{path}/{name}"), child, out));
        }
    }
    let mut out = Vec::new();
    walk("", node, &mut out);
    out
}

/// The rows "secret, fsGroup 2000" and "token, runAsUser 1000 + fsGroup 3000" of what was seen on a node.
#[test]
fn a_volume_of_a_pods_group_belongs_to_it() {
    let mut files = payload(&[("d/k", "1")]);
    files.insert("token", File { bytes: Value::copy_of(b"t"), mode: 0o600, uid: Some(1000) });
    let ownership = Ownership { fs_group: Some(3000), ..Ownership::of(Owner::Kubelet) };
    let mut volume = Volume::new(Backing::Memory, Layout::Kubelet, ownership);
    assert_eq!(volume.directory_attr(), Attr { mode: 0o2755, uid: 0, gid: 3000 });
    assert_eq!(
        tree(&volume.loaded(files, "..1".into())),
        [
            " 3777 0:3000",
            "/..1 2755 0:3000",
            "/..1/token 640 1000:3000",
            "/..1/d 2755 0:3000",
            "/..1/d/k 644 0:3000",
            "/..data 777 0:3000",
            "/d 777 0:3000",
            "/token 777 1000:3000",
        ]
    );
    let disk = Volume::new(Backing::Disk, Layout::Kubelet, ownership);
    assert_eq!(disk.root_attr(), Attr { mode: 0o2777, uid: 0, gid: 3000 });
}

#[test]
fn a_flat_volume_makes_changed_directories_anew() {
    let mut volume = volume(Layout::Flat);
    let steps = volume.write(payload(&[("d/x", "1"), ("d/e/y", "2"), ("f", "3"), ("same/x", "4")]), "..1".into());
    assert_eq!(words(&steps), ["mkdir d", "file f", "mkdir same"]);
    let steps = volume.write(payload(&[("d/x", "1"), ("d/e/y", "9"), ("f", "3"), ("same/x", "4")]), "..2".into());
    assert_eq!(words(&steps), ["rm -r d", "mkdir d"]);
    let Step::Mkdir { node, .. } = &steps[1] else { panic!() };
    assert_eq!(tree(node), [" 755 0:0", "/x 644 0:0", "/e 755 0:0", "/e/y 644 0:0"]);
    // A file in it comes or goes.
    let steps = volume.write(payload(&[("d/x", "1"), ("f", "3"), ("same/x", "4")]), "..3".into());
    assert_eq!(words(&steps), ["rm -r d", "mkdir d"]);
    // A directory becomes a file and the other way round.
    let steps = volume.write(payload(&[("d", "1"), ("f/g", "3"), ("same/x", "4")]), "..4".into());
    assert_eq!(words(&steps), ["rm -r d", "file d", "unlink f", "mkdir f"]);
    let steps = volume.write(payload(&[]), "..5".into());
    assert_eq!(words(&steps), ["unlink d", "rm -r f", "rm -r same"]);
}

/// Names that only begin alike are no directories of each other.
#[test]
fn a_flat_directory_is_not_touched_for_a_neighbour() {
    let mut volume = volume(Layout::Flat);
    volume.write(payload(&[("d/x", "1"), ("d.e/x", "1")]), "..1".into());
    let steps = volume.write(payload(&[("d/x", "1"), ("d.e/x", "2")]), "..2".into());
    assert_eq!(words(&steps), ["rm -r d.e", "mkdir d.e"]);
}

#[test]
fn an_update_names_the_files_that_change() {
    for layout in [Layout::Kubelet, Layout::Flat] {
        let mut volume = volume(layout);
        let names = |update: Update| update.changed.iter().map(|path| path.to_string()).collect::<Vec<_>>();
        assert_eq!(
            names(volume.write(payload(&[("a", "1"), ("b", "2"), ("d/e", "3")]), "..1".into())),
            ["a", "b", "d/e"]
        );
        assert_eq!(
            names(volume.write(payload(&[("a", "1"), ("c", "2"), ("d/e", "4")]), "..2".into())),
            ["b", "c", "d/e"]
        );
        assert_eq!(
            names(volume.write(payload(&[("a", "1"), ("c", "2"), ("d/e", "4")]), "..3".into())),
            [] as [&str; 0]
        );
        assert_eq!(names(volume.clear()), ["a", "c", "d/e"]);
    }
}
