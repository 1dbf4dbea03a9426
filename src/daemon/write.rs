//! One directory of real files that is kept, from beginning to end.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::background::Ready;
use super::control::{Kept, Socket, Status, seconds};
use super::log::Log;
use super::notify::Notify;
use super::on_change::OnChange;
use crate::exit::{Code, Failure};
use crate::source::Source;
use crate::store::Store;
use crate::sync::{Mirror, Rules};
use crate::view::View;

/// All that is needed to keep a directory.
pub struct Writing {
    pub dir: PathBuf,
    pub rules: Rules,
    pub view: Arc<View>,
    pub source: Arc<dyn Source>,
    pub store: Arc<Store>,
    /// SOURCE in the fstab form.
    pub name: String,
    pub on_change: OnChange,
    /// Write, and leave it there.
    pub once: bool,
}

/// Writes the files, reports them usable, keeps them current until what `until` gives ends, and removes them.
///
/// Errors: what kept them from being written. What an earlier process wrote is left then, and nothing else.
pub async fn write<U: Future<Output = ()>>(
    plan: Writing,
    ready: &mut Ready,
    log: &Log,
    until: impl FnOnce() -> U,
) -> Result<(), Failure> {
    let mirror = Mirror::open(&plan.dir, plan.rules)?;
    if mirror.may_be_swapped() {
        tracing::warn!(
            "the files in {} may get into swap: mount a tmpfs with -o noswap there (Linux 6.4), or use a ramfs or no swap",
            mirror.path().display()
        );
    }
    if let Err(failure) = begin(&plan, &mirror).await {
        if !mirror.is_taken_over() {
            mirror.clean()?;
        }
        return Err(failure);
    }
    if plan.once {
        return Ok(());
    }
    let until = until();
    plan.view.go_to_files(mirror.clone());
    let since = SystemTime::now();
    let socket = Socket::bind();
    if let Err(error) = &socket {
        tracing::warn!("secretfs status will not know this directory: {error}");
    }
    let mut notify = Notify::default();
    match ready.usable() {
        Ok(true) => log.detach(),
        Ok(false) => {
            tracing::info!(dir = ?mirror.path(), source = plan.name, "written");
            notify = Notify::of_environment();
            notify.ready(&format!("{} in {}", plan.name, mirror.path().display()));
        }
        Err(error) => {
            mirror.clean()?;
            return Err(Failure::new(Code::Failed, format!("cannot go to the background: {error}")));
        }
    }
    let answer = async {
        match &socket {
            Ok(socket) => socket.answer(|| status(&plan, &mirror, since)).await,
            Err(_) => std::future::pending().await,
        }
    };
    let on_change = async {
        match plan.on_change.commands.is_empty() {
            true => std::future::pending().await,
            false => plan.on_change.follow(mirror.path().to_owned(), plan.view.updates()).await,
        }
    };
    let tree = plan.view.tree();
    tokio::select! {
        () = on_change => {}
        () = notify.keep_alive() => {}
        () = until => {}
        () = plan.view.clone().run() => {}
        () = mirror.mend(&tree) => {}
        () = answer => {}
    }
    notify.stopping();
    drop(socket);
    plan.view.retire();
    Ok(mirror.clean()?)
}

async fn begin(plan: &Writing, mirror: &Arc<Mirror>) -> Result<(), Failure> {
    plan.view.load().await?;
    Ok(mirror.bring(&plan.view.tree()).await?)
}

fn status(plan: &Writing, mirror: &Mirror, since: SystemTime) -> Status {
    let kept = Kept { source: &*plan.source, store: &plan.store, view: &plan.view, name: &plan.name, since };
    let mut status = kept.status(mirror.path());
    if let Some((since, why)) = mirror.trouble() {
        (status.trouble_since, status.trouble) = (Some(seconds(since)), Some(why));
    }
    status
}
