//! Who owns the files and what they may do with them.

/// Permission bits (with set-id and sticky bits, without the file type) and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// Whose files they are, before single overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// All belongs to this user, and nobody else may look at it: bits of group and others are dropped. The files lose
    /// their write bits too: a read-only file that its owner may open for writing can be scribbled on in the page
    /// cache by mmap where the mount itself cannot be made read-only (fusermount3).
    Me { uid: u32, gid: u32 },
    /// As in the pod: root, with the modes that the kubelet gives.
    Kubelet,
}

/// How modes and owners of a volume are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub owner: Owner,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// The pod's fsGroup: all in the volume belongs to that group, which may read it.
    pub fs_group: Option<u32>,
    /// Replaces the mode of every file.
    pub file_mode: Option<u32>,
    /// Replaces the mode of every directory.
    pub dir_mode: Option<u32>,
    /// The sticky bit of a root-owned directory would keep a publisher without CAP_FOWNER from renaming in it.
    pub without_sticky: bool,
}

impl Ownership {
    pub fn of(owner: Owner) -> Self {
        Ownership {
            owner,
            uid: None,
            gid: None,
            fs_group: None,
            file_mode: None,
            dir_mode: None,
            without_sticky: false,
        }
    }

    /// Whether the kernel, if it checks modes, would keep `uid` without privileges from changing the directories.
    pub fn hinders(&self, uid: u32) -> bool {
        let dir = self.dir(0o755);
        dir.uid != uid || dir.mode & 0o300 != 0o300
    }

    fn ids(&self) -> (u32, u32) {
        let (uid, gid) = match self.owner {
            Owner::Me { uid, gid } => (uid, gid),
            Owner::Kubelet => (0, self.fs_group.unwrap_or(0)),
        };
        (self.uid.unwrap_or(uid), self.gid.unwrap_or(gid))
    }

    /// What the kubelet's walk for fsGroup adds to a mode (`changeFilePermission`, pkg/volume/volume_linux.go, for a
    /// read-only volume).
    fn grouped(&self, mode: u32, added: u32) -> u32 {
        if self.fs_group.is_some() { mode | added } else { mode }
    }

    /// A file that the kubelet gives `mode`, and an owner if the volume names one (KEP-5936).
    pub fn file(&self, mode: u32, owner: Option<u32>) -> Attr {
        let (uid, gid) = self.ids();
        let mode = self.grouped(mode, 0o440);
        let mode = match self.owner {
            Owner::Me { .. } => mode & 0o500,
            Owner::Kubelet => mode,
        };
        let uid = match self.owner {
            Owner::Kubelet if self.uid.is_none() => owner.unwrap_or(uid),
            _ => uid,
        };
        Attr { mode: self.file_mode.unwrap_or(mode), uid, gid }
    }

    /// A directory that the kubelet gives `mode`.
    pub fn dir(&self, mode: u32) -> Attr {
        let (uid, gid) = self.ids();
        let mode = self.grouped(mode, 0o2550);
        let mode = match self.owner {
            Owner::Me { .. } => mode & 0o700,
            Owner::Kubelet if self.without_sticky => mode & !0o1000,
            Owner::Kubelet => mode,
        };
        Attr { mode: self.dir_mode.unwrap_or(mode), uid, gid }
    }

    /// A symbolic link; Linux shows all of them as 0777.
    pub fn link(&self, owner: Option<u32>) -> Attr {
        Attr { mode: 0o777, ..self.file(0, owner) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mine_are_readable_by_me_alone() {
        let mine = Ownership::of(Owner::Me { uid: 1000, gid: 100 });
        assert_eq!(mine.file(0o644, None), Attr { mode: 0o400, uid: 1000, gid: 100 });
        assert_eq!(mine.file(0o755, Some(7)), Attr { mode: 0o500, uid: 1000, gid: 100 });
        assert_eq!(mine.dir(0o1777), Attr { mode: 0o700, uid: 1000, gid: 100 });
        assert_eq!(mine.link(None), Attr { mode: 0o777, uid: 1000, gid: 100 });
    }

    #[test]
    fn the_kubelets_are_roots_unless_the_volume_names_a_user() {
        let kubelets = Ownership::of(Owner::Kubelet);
        assert_eq!(kubelets.file(0o644, None), Attr { mode: 0o644, uid: 0, gid: 0 });
        assert_eq!(kubelets.file(0o600, Some(7)), Attr { mode: 0o600, uid: 7, gid: 0 });
        assert_eq!(kubelets.dir(0o1777).mode, 0o1777);
    }

    /// Modes before and after the walk.
    #[test]
    fn the_group_of_the_pod_may_read() {
        let grouped = Ownership { fs_group: Some(2000), ..Ownership::of(Owner::Kubelet) };
        for (before, after) in [(0o644, 0o644), (0o400, 0o440), (0o600, 0o640), (0, 0o440), (0o711, 0o751)] {
            assert_eq!(grouped.file(before, None), Attr { mode: after, uid: 0, gid: 2000 });
        }
        for (before, after) in [(0o755, 0o2755), (0o1777, 0o3777), (0o777, 0o2777)] {
            assert_eq!(grouped.dir(before), Attr { mode: after, uid: 0, gid: 2000 });
        }
        assert_eq!(grouped.link(Some(7)), Attr { mode: 0o777, uid: 7, gid: 2000 });
    }

    #[test]
    fn what_the_user_sets_wins() {
        let set = Ownership {
            uid: Some(5),
            gid: Some(6),
            file_mode: Some(0o440),
            dir_mode: Some(0o550),
            ..Ownership::of(Owner::Kubelet)
        };
        assert_eq!(set.file(0o644, Some(7)), Attr { mode: 0o440, uid: 5, gid: 6 });
        assert_eq!(set.dir(0o1777), Attr { mode: 0o550, uid: 5, gid: 6 });
    }
}
