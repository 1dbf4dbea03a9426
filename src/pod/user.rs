//! Whose a file is that only one user should read: tokens and trust bundles.

use crate::object::pod::{Container, PodSpec};

/// The user that all containers run as, if the pod says so of each of them and it is the same. What images say does not
/// count. Source: `FsUserFrom`, pkg/volume/util/util.go.
pub(super) fn common(spec: &PodSpec) -> Option<u32> {
    let of = |container: &Container| container.security_context.run_as_user.or(spec.security_context.run_as_user);
    let mut users = spec.all_containers().map(|(_, container)| of(container));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

/// Owner and mode of such a file: `own` is what its source says, `default` what the volume says (KEP-5936), and both go
/// before the containers' common user. With a user, or a group that will get its bits later, the volume's mode does not
/// count. Source: `resolveFsUser` and `collectData`, pkg/volume/projected/projected.go.
pub(super) fn private(spec: &PodSpec, own: Option<u32>, default: Option<u32>, mode: u32) -> (Option<u32>, u32) {
    let user = own.or(default).or_else(|| common(spec));
    let is_private = user.is_some() || spec.security_context.fs_group.is_some();
    (user, if is_private { 0o600 } else { mode })
}
