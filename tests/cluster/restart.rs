//! An API server that is stopped, killed, started again, and restored from an old backup.

use super::{Mounted, Secrets};
use crate::support::kubeconfig::Context;
use crate::support::server::Server;
use crate::support::{in_time, wait_until};

/// Both kinds of mounts of a Secret in the namespace `default`.
struct Scene {
    server: Server,
    named: Mounted,
    view: Mounted,
}

impl Scene {
    fn new() -> Scene {
        let server = Server::start();
        let secrets = Secrets::of(&server, "default");
        secrets.create("s", &[("k", "first")]);
        secrets.create("unread", &[("k", "unread")]);
        let context = Context {
            name: "own".into(),
            server: server.url.clone(),
            ca: server.ca(),
            token: server.token(),
            namespace: "default".into(),
        };
        let args = ["--timeout", "1s", "--poll", "1s"];
        let named = Mounted::new(context.clone(), &[&args[..], &["secret/s"]].concat());
        let view = Mounted::new(context, &[&args[..], &["ns/default"]].concat());
        let scene = Scene { server, named, view };
        scene.assert_shown("first");
        scene
    }

    /// Its API; made anew, because the server may have been started again.
    fn secrets(&self) -> Secrets {
        Secrets::of(&self.server, "default")
    }

    #[track_caller]
    fn assert_shown(&self, value: &str) {
        assert_eq!((self.named.read("k"), self.view.read("s/k")), (value.into(), value.into()));
    }

    #[track_caller]
    fn wait_shown(&self, value: &str) {
        let shown = |mounted: &Mounted, name: &str| mounted.try_read(name) == Ok(value.into());
        wait_until(&format!("{value:?}"), || shown(&self.named, "k") && shown(&self.view, "s/k"));
    }
}

#[test]
fn a_stopped_server_keeps_nobody_waiting_beyond_the_deadline() {
    let scene = Scene::new();
    scene.server.stop();
    scene.assert_shown("first");
    let path = scene.view.path("unread/k");
    let read = in_time("a reader hangs", move || std::fs::read_to_string(path));
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(Some(libc::ETIMEDOUT)));
    assert_eq!(scene.view.names(""), ["s", "unread"]);
    scene.server.go_on();
    scene.secrets().set("s", &[("k", "second")]);
    scene.wait_shown("second");
    wait_until("what could not be read", || scene.view.try_read("unread/k") == Ok("unread".into()));
}

#[test]
fn a_server_that_comes_back_is_followed_also_with_an_older_memory() {
    let mut scene = Scene::new();
    scene.server.end();
    scene.assert_shown("first");
    let backup = scene.server.backup();
    let path = scene.view.path("unread/k");
    let read = in_time("a reader hangs", move || std::fs::read_to_string(path));
    assert_eq!(read.map_err(|error| error.raw_os_error()), Err(Some(libc::EIO)));

    scene.server.start_again();
    let secrets = scene.secrets();
    secrets.set("s", &[("k", "second")]);
    scene.wait_shown("second");
    secrets.create("later", &[("k", "later")]);
    wait_until("the new one", || scene.view.try_read("later/k") == Ok("later".into()));

    // From here on the server knows nothing of the second time, and gives its versions to other changes.
    scene.server.end();
    scene.server.restore(&backup);
    scene.server.start_again();
    scene.wait_shown("first");
    wait_until("the names of then", || scene.view.names("") == ["s", "unread"]);
    scene.secrets().set("s", &[("k", "third")]);
    scene.wait_shown("third");
}
