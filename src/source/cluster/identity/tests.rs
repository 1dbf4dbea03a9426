use super::*;

fn user(yaml: &str) -> AuthInfo {
    serde_saphyr::from_str(yaml).unwrap()
}

fn header(yaml: &str) -> Option<String> {
    let identity = read(user(yaml), Vec::new()).unwrap();
    identity.authorization.map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn each_sort_of_credential_becomes_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "from-file\n").unwrap();
    assert_eq!(header("{}"), None);
    assert_eq!(header("token: abc").as_deref(), Some("Bearer abc"));
    assert_eq!(header("{username: u, password: p}").as_deref(), Some("Basic dTpw"));
    assert_eq!(header(&format!("tokenFile: {}", file.display())).as_deref(), Some("Bearer from-file"));
    assert_eq!(header(&format!("{{token: abc, tokenFile: {}}}", file.display())).as_deref(), Some("Bearer abc"));
    let legacy = "auth-provider: {name: oidc, config: {id-token: idt, refresh-token: x}}";
    assert_eq!(header(legacy).as_deref(), Some("Bearer idt"));
}

#[test]
fn the_header_is_marked_so_that_nothing_prints_it() {
    let identity = read(user("token: planted"), Vec::new()).unwrap();
    assert!(!format!("{:?}", identity.authorization).contains("planted"));
}

#[test]
fn credentials_that_cannot_be_used_are_named_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, " \n").unwrap();
    for bad in [
        "token: \"planted\\n\"".to_owned(),
        format!("tokenFile: {}", empty.display()),
        "tokenFile: /nonexistent/token".to_owned(),
        "client-certificate-data: cGxhbnRlZA==".to_owned(),
        "client-key-data: cGxhbnRlZA==".to_owned(),
        "{client-key-data: 'planted!', client-certificate-data: aGk=}".to_owned(),
        "auth-provider: {name: gcp, config: {access-token: planted}}".to_owned(),
    ] {
        let error = read(user(&bad), Vec::new()).err().unwrap_or_else(|| panic!("{bad}"));
        assert!(!format!("{error} {error:?}").contains("planted"), "{error:?}");
    }
}

#[test]
fn a_file_that_changes_is_noticed_and_one_that_vanishes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "one").unwrap();
    let identity = read(user(&format!("tokenFile: {}", path.display())), Vec::new()).unwrap();
    assert!(!identity.files[0].has_changed());
    fs::remove_file(&path).unwrap();
    assert!(!identity.files[0].has_changed());
    // As a projected volume does it: another file under the name.
    fs::write(folder.path().join("new"), "two").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    assert!(identity.files[0].has_changed());
}
