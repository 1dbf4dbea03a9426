//! The cluster as a source, without a mount: what is asked of it that no command asks yet alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secretfs::object::{Kind, Name, Namespace, ObjectId};
use secretfs::source::cluster::{Cluster, ClusterOptions};
use secretfs::store::Store;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A source and its store. Its tasks run in a thread of their own until it is dropped.
pub struct Library {
    pub source: Arc<Cluster>,
    pub store: Arc<Store>,
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Library {
    /// For the current context of a kubeconfig, polling every second.
    #[track_caller]
    pub fn new(kubeconfig: &Path) -> Library {
        let options =
            ClusterOptions { kubeconfig: Some(kubeconfig.into()), poll: Duration::from_secs(1), ..Default::default() };
        let (end, ended) = oneshot::channel::<()>();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let store = Store::new();
                let source = Cluster::connect(options, store.clone()).await.expect("a source");
                let _ = send.send((Arc::new(source), store, Handle::current()));
                let _ = ended.await;
            });
        });
        let (source, store, handle) = receive.recv().expect("a source");
        Library { source, store, handle, _end: end }
    }

    /// Waits for what the source answers.
    pub fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.handle.block_on(answer)
    }

    /// The version of an object in the store.
    pub fn version(&self, id: &ObjectId) -> Option<String> {
        self.store.get(id).map(|known| known.meta().version.to_string())
    }
}

/// What names an object; the namespace is empty for those that are in none.
pub fn id(kind: Kind, namespace: &str, name: &str) -> ObjectId {
    let namespace =
        if kind.is_namespaced() { Namespace::new(namespace).expect("a namespace") } else { Namespace::none() };
    ObjectId { namespace, kind, name: Name::of(kind, name).expect("a name") }
}
