//! Store, view, tree and publisher through the real kernel against a small reference model: a map from paths to bytes.
//! After each random change the whole mount is compared, read through caches that earlier reads have filled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use proptest::prelude::*;
use secretfs::daemon::{OnChange, Plan, Ready, log, serve};
use secretfs::mount;
use secretfs::object::{Body, Data, Key, Kind, Meta, Name, Namespace, Object, ObjectId, Value};
use secretfs::source::{Scope, Source};
use secretfs::store::{Known, Refusal, Store};
use secretfs::view::{Options, Shape, View};
use secretfs::volume::{Layout, Owner, Ownership};

use crate::support::{subdir, tempdir, wait_for};

/// What there is: namespaces, in them objects, in them keys.
type Model = BTreeMap<u8, BTreeMap<u8, BTreeMap<u8, String>>>;

#[derive(Clone, Debug)]
enum Op {
    /// Make an object, or give it other content.
    Put {
        namespace: u8,
        name: u8,
        keys: BTreeMap<u8, String>,
    },
    Remove {
        namespace: u8,
        name: u8,
    },
    AddNamespace(u8),
    RemoveNamespace(u8),
    /// Read everything, so that the kernel holds all of it.
    Warm,
    /// Look at names that may not be there, so that the kernel remembers their absence.
    Miss {
        namespace: u8,
        name: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let keys = prop::collection::btree_map(0..4u8, "[a-z]{0,4}", 0..4);
    prop_oneof![
        4 => (0..3u8, 0..3u8, keys).prop_map(|(namespace, name, keys)| Op::Put { namespace, name, keys }),
        2 => (0..3u8, 0..3u8).prop_map(|(namespace, name)| Op::Remove { namespace, name }),
        1 => (0..3u8).prop_map(Op::AddNamespace),
        1 => (0..3u8).prop_map(Op::RemoveNamespace),
        1 => Just(Op::Warm),
        2 => (0..3u8, 0..3u8).prop_map(|(namespace, name)| Op::Miss { namespace, name }),
    ]
}

/// A source that does what the test says.
struct Scripted {
    store: Arc<Store>,
    model: Mutex<Model>,
    version: Mutex<u64>,
}

fn namespace(number: u8) -> Namespace {
    Namespace::new(&format!("ns{number}")).expect("a name")
}

fn id(space: u8, name: u8) -> ObjectId {
    ObjectId { namespace: namespace(space), kind: Kind::Secret, name: Name::new(&format!("s{name}")).expect("a name") }
}

impl Scripted {
    fn object(&self, id: &ObjectId) -> Option<Object> {
        let number = |text: &str| text.bytes().last().map(|byte| byte - b'0');
        let model = self.model.lock().expect("no panic");
        let keys = model.get(&number(id.namespace.as_str())?)?.get(&number(id.name.as_str())?)?;
        let data = keys
            .iter()
            .map(|(key, value)| (Key::new(&format!("k{key}")).expect("a key"), Value::copy_of(value.as_bytes())));
        let version = format!("{}", self.version.lock().expect("no panic"));
        let meta = Meta { id: id.clone(), uid: "u".into(), version: version.into(), created: SystemTime::UNIX_EPOCH };
        Some(Object { meta, body: Body::Data(Data { values: data.collect(), ..Data::default() }) })
    }

    /// Changes the model and tells the store, as a source would.
    fn apply(&self, op: &Op) {
        *self.version.lock().expect("no panic") += 1;
        match op {
            Op::Put { namespace: space, name, keys } => {
                self.model.lock().expect("no panic").entry(*space).or_default().insert(*name, keys.clone());
                self.store.add_namespace(namespace(*space));
                let id = id(*space, *name);
                let object = self.object(&id).expect("just made");
                match self.store.get(&id) {
                    Some(Known::Loaded(_)) => drop(self.store.put(object)),
                    _ => self.store.put_name(object.meta),
                }
            }
            Op::Remove { namespace: space, name } => {
                if let Some(objects) = self.model.lock().expect("no panic").get_mut(space) {
                    objects.remove(name);
                }
                self.store.remove(&id(*space, *name));
            }
            Op::AddNamespace(space) => {
                self.model.lock().expect("no panic").entry(*space).or_default();
                self.store.add_namespace(namespace(*space));
            }
            Op::RemoveNamespace(space) => {
                self.model.lock().expect("no panic").remove(space);
                self.store.remove_namespace(&namespace(*space));
            }
            Op::Warm | Op::Miss { .. } => {}
        }
    }

    /// Every file there should be, by path.
    fn files(&self) -> BTreeMap<String, String> {
        let model = self.model.lock().expect("no panic");
        let mut files = BTreeMap::new();
        for (space, objects) in &*model {
            files.insert(format!("ns{space}"), "dir".into());
            for (name, keys) in objects {
                files.insert(format!("ns{space}/s{name}"), "dir".into());
                for (key, value) in keys {
                    files.insert(format!("ns{space}/s{name}/k{key}"), format!("={value}"));
                }
            }
        }
        files
    }
}

impl Source for Scripted {
    fn list(&self, _scope: Scope) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }

    fn follow(&self, id: ObjectId) -> BoxFuture<'_, Result<Arc<Object>, Refusal>> {
        Box::pin(async move {
            let object = self.object(&id).ok_or_else(|| Refusal::NotFound { what: id.to_string() })?;
            Ok(self.store.put(object))
        })
    }

    fn describe(&self) -> String {
        "a script".into()
    }
}

/// What the mount shows: directories and the files that visible names lead to.
fn shown(root: &Path) -> BTreeMap<String, String> {
    fn add(path: &Path, name: &str, all: &mut BTreeMap<String, String>) {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if file.starts_with("..") {
                continue;
            }
            let below = if name.is_empty() { file } else { format!("{name}/{file}") };
            let path = entry.path();
            if path.is_dir() {
                all.insert(below.clone(), "dir".into());
                add(&path, &below, all);
            } else {
                // A link whose file has just gone shows as such, and the comparison is repeated.
                let text =
                    std::fs::read_to_string(&path).map_or_else(|error| error.to_string(), |text| format!("={text}"));
                all.insert(below, text);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(root, "", &mut all);
    all
}

fn run(layout: Layout, ops: &[Op]) {
    let dir = tempdir();
    let point = subdir(dir.path(), "mnt");
    let store = Store::new();
    let source = Arc::new(Scripted { store: store.clone(), model: Mutex::default(), version: Mutex::new(0) });
    let shape = Shape::Names { namespace: None, kinds: vec![Kind::Secret], selector: None };
    let ownership = Ownership::of(Owner::Me { uid: 0, gid: 0 });
    let options = Options::new(layout, ownership, crate::support::PATIENCE);
    let view = View::new(shape, options, store.clone(), source.clone());
    let request = mount::Request {
        target: point.clone(),
        source: "secretfs:model".into(),
        allow_other: false,
        default_permissions: true,
        allow_nonempty: false,
        method: None,
    };
    let plan = Plan { request, view, source: source.clone(), store, name: "*".into(), on_change: OnChange::default() };
    let (usable, is_usable) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let until = async {
                let _ = usable.send(());
                let _ = ended.await;
            };
            serve(plan, &mut Ready::nobody(), &log::Log::default(), || until).await
        })
    });
    is_usable.recv().expect("a usable mount");
    let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for op in ops {
            source.apply(op);
            if let Op::Miss { namespace, name } = op {
                let _ = std::fs::metadata(point.join(format!("ns{namespace}/s{name}/k0")));
                let _ = std::fs::metadata(point.join(format!("ns{namespace}/s{name}")));
                let _ = std::fs::metadata(point.join(format!("ns{namespace}")));
                continue;
            }
            let expected = source.files();
            // Between two reads of a tree that changes anything may be seen; what counts is where it comes to rest.
            let mut last = BTreeMap::new();
            let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                wait_for("the mount to show the model", || {
                    last = shown(&point);
                    (last == expected).then_some(())
                });
            }));
            if waited.is_err() {
                assert_eq!(last, expected, "after {op:?}");
            }
        }
    }));
    let _ = end.send(());
    let served = daemon.join().expect("no panic");
    let _ = std::process::Command::new("umount").args(["-f", "-l"]).arg(&point).output();
    if let Err(panic) = compared {
        std::panic::resume_unwind(panic);
    }
    served.expect("a clean end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_mount_shows_what_the_source_says_whatever_happens(ops in prop::collection::vec(op(), 1..30)) {
        run(Layout::Kubelet, &ops);
    }

    #[test]
    fn the_flat_layout_does_too(ops in prop::collection::vec(op(), 1..30)) {
        run(Layout::Flat, &ops);
    }
}
