use super::*;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn environment(&self) -> Environment {
        Environment { home: Some(self.folder.path().to_path_buf()), ..Environment::default() }
    }

    fn find(&self, options: &ClusterOptions) -> Result<Target, ConnectError> {
        Target::find(options, &self.environment())
    }
}

fn kubeconfig(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
         clusters: [{{name: {name}, cluster: {{server: 'https://{name}.example.com:6443'}}}}]\n\
         contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}, namespace: ns-{name}}}}}]\n\
         users: [{{name: {name}, user: {{token: planted-{name}}}}}]\n"
    )
}

fn with(context: &str) -> ClusterOptions {
    ClusterOptions { context: Some(context.into()), ..ClusterOptions::default() }
}

#[test]
fn the_home_kubeconfig_is_the_default() {
    let home = Home::new();
    home.write(".kube/config", &kubeconfig("dev"));
    let target = home.find(&ClusterOptions::default()).unwrap();
    assert_eq!(target.description, "context dev (https://dev.example.com:6443)");
    assert_eq!(target.namespace.as_str(), "ns-dev");
    let typed = ClusterOptions { namespaces: vec![Namespace::new("typed").unwrap()], ..ClusterOptions::default() };
    assert_eq!(home.find(&typed).unwrap().namespace.as_str(), "typed");
}

#[test]
fn a_list_of_files_is_merged_and_missing_ones_are_skipped() {
    let home = Home::new();
    let first = home.write("one", &kubeconfig("one"));
    let second = home.write("two", &format!("{}# another one is not used\n", kubeconfig("two")));
    let missing = home.folder.path().join("missing");
    let list = env::join_paths([&missing, &first, Path::new(""), &second]).unwrap();
    let environment = Environment { kubeconfig: Some(list), ..home.environment() };
    let find = |options: &ClusterOptions| Target::find(options, &environment);
    assert!(find(&ClusterOptions::default()).unwrap().description.contains("context one"), "the first one's wins");
    assert!(find(&with("two")).unwrap().description.contains("two.example.com"));

    let explicit = ClusterOptions { kubeconfig: Some(second), ..ClusterOptions::default() };
    assert!(find(&explicit).unwrap().description.contains("context two"));
    let explicit = ClusterOptions { kubeconfig: Some(missing), ..ClusterOptions::default() };
    assert!(matches!(find(&explicit), Err(ConnectError::Read { .. })), "a file that is named must be there");
}

#[test]
fn without_a_kubeconfig_the_message_says_where_was_looked() {
    let home = Home::new();
    let message = home.find(&ClusterOptions::default()).unwrap_err().to_string();
    assert!(message.contains(".kube/config") && message.contains("-f"), "{message}");
    let nowhere = Target::find(&ClusterOptions::default(), &Environment::default()).unwrap_err().to_string();
    assert!(nowhere.contains("HOME"), "{nowhere}");
}

#[test]
fn a_context_that_is_not_there_is_refused_with_those_that_are() {
    let home = Home::new();
    home.write(".kube/config", &kubeconfig("dev"));
    let message = home.find(&with("prod")).unwrap_err().to_string();
    assert!(message.contains("\"prod\"") && message.contains("dev"), "{message}");
    home.write(".kube/config", &kubeconfig("dev").replace("current-context: dev", ""));
    let message = home.find(&ClusterOptions::default()).unwrap_err().to_string();
    assert!(message.contains("--context") && message.contains("dev"), "{message}");
}

#[test]
fn a_context_that_names_what_is_not_there_is_refused() {
    let home = Home::new();
    home.write(".kube/config", &kubeconfig("dev").replace("users: [{name: dev", "users: [{name: other"));
    assert!(matches!(home.find(&ClusterOptions::default()), Err(ConnectError::Dangling { what: "user", .. })));
    home.write(".kube/config", &kubeconfig("dev").replace("clusters: [{name: dev", "clusters: [{name: other"));
    assert!(matches!(home.find(&ClusterOptions::default()), Err(ConnectError::Dangling { what: "cluster", .. })));
    let options = ClusterOptions { cluster: Some("other".into()), ..ClusterOptions::default() };
    assert!(home.find(&options).unwrap().description.contains("dev.example.com"));
}

#[test]
fn no_message_shows_what_a_kubeconfig_holds() {
    let home = Home::new();
    let good = kubeconfig("dev");
    let broken = [
        good.replace("users: [{", "users: [{token: planted-twice, "),
        good.replace("planted-dev}", "planted-dev, token: planted-again}"),
        good.replace("planted-dev", "planted-dev: ]["),
        good.replace("token: planted-dev", "token: [planted-dev]"),
        good.replace("token:", "\ttoken\u{1}:"),
        "planted".to_owned(),
        format!("{good}---\nplanted: [\n"),
    ];
    for text in broken {
        let path = home.write(".kube/config", &text);
        let Err(error) = home.find(&ClusterOptions::default()) else { continue };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("planted"), "{shown}");
        assert!(shown.contains(&*path.to_string_lossy()) || matches!(error, ConnectError::Invalid { .. }), "{shown}");
    }
    let path = home.write(".kube/config", &good.replace("planted-dev", "planted-dev: ]["));
    let message = home.find(&ClusterOptions::default()).unwrap_err().to_string();
    assert!(message.contains(" line 6 "), "{message}");
    assert!(message.contains(&*path.to_string_lossy()), "{message}");
    let target_shown = {
        home.write(".kube/config", &good);
        format!("{:?}", home.find(&ClusterOptions::default()).unwrap())
    };
    assert!(!target_shown.contains("planted"), "{target_shown}");
}

#[test]
fn a_server_must_be_a_plain_url() {
    for (server, good) in [
        ("https://a.example.com", true),
        ("a.example.com:6443", true),
        ("https://gate.example.com/k8s/clusters/c-1", true),
        ("http://127.0.0.1:8001", true),
        ("", false),
        ("ftp://a", false),
        ("https://", false),
        ("https://user:planted@a", false),
        ("https://a?b=planted", false),
    ] {
        let result = server_uri(Some(server));
        assert_eq!(result.is_ok(), good, "{server}");
        if let Err(error) = result {
            assert!(!format!("{error:?}").contains("planted"), "{error:?}");
        }
    }
    assert_eq!(server_uri(Some("a.example.com")).unwrap().scheme_str(), Some("https"), "never in clear by default");
}

#[test]
fn an_authority_is_inline_or_a_file_beside_the_kubeconfig() {
    let home = Home::new();
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap().pem();
    home.write(".kube/ca.crt", &pem);
    let config = kubeconfig("dev");
    let place = "server: 'https://dev.example.com:6443'";
    let find = |more: &str| {
        home.write(".kube/config", &config.replace(place, &format!("{place}, {more}")));
        home.find(&ClusterOptions::default())
    };
    let target = find("certificate-authority: ca.crt, tls-server-name: other.example.com").unwrap();
    assert_eq!(target.trust.roots.unwrap().len(), 1);
    assert!(target.trust.roots_file.unwrap().ends_with(".kube/ca.crt"));
    assert_eq!(target.trust.server_name.as_deref(), Some("other.example.com"));
    let inline = STANDARD.encode(format!("{pem}{pem}"));
    assert_eq!(find(&format!("certificate-authority-data: {inline}")).unwrap().trust.roots.unwrap().len(), 2);
    assert!(find("insecure-skip-tls-verify: true").unwrap().trust.accept_anything);
    for bad in ["certificate-authority-data: '%%%'", "certificate-authority-data: aGk=", "certificate-authority: no"] {
        assert!(find(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_no_proxy_names_the_cluster() {
    let home = Home::new();
    home.write(".kube/config", &kubeconfig("dev"));
    let mut environment = home.environment();
    environment.proxy.https_proxy = Some("http://user:planted@proxy:3128".into());
    let find = |environment: &Environment| Target::find(&ClusterOptions::default(), environment).unwrap();
    assert!(find(&environment).proxy.is_some());
    assert!(!find(&environment).description.contains("planted"));
    environment.proxy.no_proxy = Some("localhost,,.example.com,".into());
    assert!(find(&environment).proxy.is_none());
}
