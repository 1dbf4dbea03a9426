//! /etc/fuse.conf, by which root binds ordinary users; fusermount3 is who obeys it.

/// Where it is.
pub const PATH: &str = "/etc/fuse.conf";

/// What it says (mount.fuse3(8), CONFIGURATION).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuseConf {
    /// How many FUSE mounts there may be when an ordinary user makes another one.
    pub mount_max: usize,
    /// Whether ordinary users may let others in.
    pub user_allow_other: bool,
}

/// Reads it; without a file the defaults hold.
pub fn read() -> FuseConf {
    parse(&std::fs::read_to_string(PATH).unwrap_or_default())
}

/// As `read_conf` in libfuse's util/fusermount.c.
fn parse(text: &str) -> FuseConf {
    let mut conf = FuseConf { mount_max: 1000, user_allow_other: false };
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if line == "user_allow_other" {
            conf.user_allow_other = true;
        }
        if let Some((name, value)) = line.split_once('=')
            && name.trim() == "mount_max"
            && let Ok(most) = value.trim().parse::<i64>()
        {
            // A negative number is no limit.
            conf.mount_max = usize::try_from(most).unwrap_or(usize::MAX);
        }
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_are_passed_over() {
        let conf = |mount_max, user_allow_other| FuseConf { mount_max, user_allow_other };
        assert_eq!(parse(""), conf(1000, false));
        assert_eq!(parse("# user_allow_other\n#mount_max = 5\n"), conf(1000, false));
        assert_eq!(parse("mount_max = 5 # few\n  user_allow_other  \n"), conf(5, true));
        assert_eq!(parse("mount_max=-1\nuser_allow_others\n"), conf(usize::MAX, false));
    }
}
