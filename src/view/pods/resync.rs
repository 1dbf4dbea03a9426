//! When a pod's volumes are brought up to date: at once, or, if they are to be as late as the kubelet's, when the kubelet
//! would look at them.
//!
//! The kubelet does nothing about a Secret or ConfigMap that has changed. It looks at a pod's volumes when it syncs the pod:
//! when the pod itself has changed, and every minute or somewhat more; a volume that has never been set up is tried again
//! soon. Sources: `managePodLoop` and `completeWork` (pkg/kubelet/pod_workers.go), `ReprocessPod`
//! (pkg/kubelet/volumemanager/volume_manager.go).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Shown;
use crate::object::{Meta, Object};
use crate::view::View;

/// How often the kubelet syncs a pod. Source: `syncFrequency`, pkg/kubelet/apis/config/v1beta1/defaults.go.
pub const SYNC_PERIOD: Duration = Duration::from_secs(60);

/// By which part of the period a sync may be later, at random. Source: `workerResyncIntervalJitterFactor`,
/// pkg/kubelet/pod_workers.go.
const JITTER: f64 = 0.5;

/// When one pod was synced, and when it will be.
#[derive(Debug, Default)]
pub(super) struct Resync {
    last: Option<Sync>,
    timer: Option<AbortHandle>,
}

#[derive(Debug)]
struct Sync {
    /// The pod's uid and version then.
    of: (Arc<str>, Arc<str>),
    next: Instant,
}

impl Resync {
    /// Whether the pod is to be synced now.
    fn is_due(&self, pod: &Meta, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|last| last.of != (pod.uid.clone(), pod.version.clone()) || last.next <= now)
    }

    /// It is synced now. Gives when that will be done next, where `chance` is between 0 and 1.
    fn done(&mut self, pod: &Meta, now: Instant, period: Duration, chance: f64) -> Instant {
        let next = now + period.mul_f64(1.0 + JITTER * chance);
        self.last = Some(Sync { of: (pod.uid.clone(), pod.version.clone()), next });
        next
    }

    fn set_timer(&mut self, timer: AbortHandle) {
        if let Some(old) = self.timer.replace(timer) {
            old.abort();
        }
    }
}

impl Drop for Resync {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

impl Shown {
    /// Whether all volumes have been set up, so that the containers could begin.
    fn is_set_up(&self) -> bool {
        self.volumes.values().all(|volume| volume.started)
    }
}

impl View {
    /// Whether the pod's volumes are to be brought up to date now. If not, that will be looked at again.
    pub(super) fn may_sync(self: &Arc<Self>, object: &Object) -> bool {
        let Some(period) = self.options.strict.updates else { return true };
        let id = object.id();
        let mut state = self.pods.lock();
        let Some(shown) = state.shown.get_mut(id) else { return true };
        let now = Instant::now();
        if shown.is_set_up() && !shown.resync.is_due(&object.meta, now) {
            return false;
        }
        let next = shown.resync.done(&object.meta, now, period, crate::chance::fraction());
        let (view, id) = (Arc::downgrade(self), id.clone());
        let timer = tokio::spawn(async move {
            sleep_until(next).await;
            if let Some(view) = view.upgrade() {
                view.store.look_again(id);
            }
        });
        shown.resync.set_timer(timer.abort_handle());
        true
    }
}

#[cfg(test)]
mod tests;
