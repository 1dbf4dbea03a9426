//! The files of a volume (`collectData` and `MakePayload` of the kubelet's volume plugins).

use super::path::file_path;
use super::{Have, Lookup, Problem, Subject, downward, keys, trust, user};
use crate::object::pod::{PodVolume, Projected, Projection, TokenSource, VolumeSource};
use crate::object::{Kind, TokenAsk, Value};
use crate::volume::{DEFAULT_MODE, File, Payload};

/// What is made for one volume may have this many bytes in sum. Values of Secrets and ConfigMaps do not count, which all
/// volumes share; the description of a pod does, which a volume can repeat as often as it has items.
const MAX_MADE: usize = 16 << 20;

/// What `volume` holds: paths are clean, no path is a file and a directory at once.
///
/// If any of its sources cannot be had, there is nothing at all, as with the kubelet, which writes a volume whole or not; then
/// all problems of all sources are told. Files of later sources take the place of earlier ones of the same path.
pub fn collect(subject: &Subject, volume: &PodVolume, lookup: &dyn Lookup) -> Result<Payload, Vec<Problem>> {
    let mut files = Files {
        subject,
        lookup,
        mode: DEFAULT_MODE,
        user: None,
        payload: Payload::default(),
        made: 0,
        problems: Vec::new(),
    };
    match &volume.source {
        VolumeSource::Secret(source) => {
            files.defaults(source.default_mode, source.default_user);
            keys::add(&mut files, Kind::Secret, source);
        }
        VolumeSource::ConfigMap(source) => {
            files.defaults(source.default_mode, source.default_user);
            keys::add(&mut files, Kind::ConfigMap, source);
        }
        VolumeSource::DownwardApi(source) => {
            files.defaults(source.default_mode, source.default_user);
            downward::add(&mut files, source);
        }
        VolumeSource::Projected(source) => projected(&mut files, source),
        VolumeSource::Other { kind, .. } => {
            files.problem(Problem::OtherStorage { volume: volume.name.clone(), kind: kind.clone() });
        }
    }
    if files.problems.is_empty() {
        files.payload.check().unwrap_or_else(|clash| files.problems.push(clash.into()));
    }
    if files.problems.is_empty() { Ok(files.payload) } else { Err(files.problems) }
}

fn projected(files: &mut Files, source: &Projected) {
    files.defaults(source.default_mode, source.default_user);
    for source in &source.sources {
        match source {
            Projection { secret: Some(source), .. } => keys::add(files, Kind::Secret, source),
            Projection { config_map: Some(source), .. } => keys::add(files, Kind::ConfigMap, source),
            Projection { downward_api: Some(source), .. } => downward::add(files, source),
            Projection { service_account_token: Some(source), .. } => token(files, source),
            Projection { cluster_trust_bundle: Some(source), .. } => trust::add(files, source),
            Projection { pod_certificate: true, .. } => {
                files.problem(Problem::Unsupported { what: "podCertificate" });
            }
            // The kubelet passes over a source that says nothing.
            _ => {}
        }
    }
}

fn token(files: &mut Files, source: &TokenSource) {
    let ask = match TokenAsk::of(files.subject, source) {
        Ok(ask) => ask,
        Err(problem) => return files.problem(problem),
    };
    let account = ask.account();
    match files.lookup.token(&ask) {
        Have::Ready(None) => {}
        Have::Ready(Some(token)) => files.insert_private(&source.path, source.user, token),
        Have::Missing => files.problem(Problem::Missing { object: account }),
        Have::Refused(why) => files.problem(Problem::NoToken { account, why }),
        Have::Unknown => files.problem(Problem::Unknown { what: format!("a token for {account}") }),
    }
}

/// A volume while it is being filled.
pub(super) struct Files<'a> {
    pub(super) subject: &'a Subject,
    pub(super) lookup: &'a dyn Lookup,
    /// The volume's defaults.
    mode: u32,
    user: Option<u32>,
    payload: Payload,
    made: usize,
    problems: Vec<Problem>,
}

impl Files<'_> {
    /// A manifest may leave the mode out, which the API server then fills in.
    fn defaults(&mut self, mode: Option<u32>, user: Option<u32>) {
        self.mode = mode.unwrap_or(DEFAULT_MODE);
        self.user = user;
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Puts a file at `path`, with mode and owner of its own if it has them.
    pub(super) fn insert(&mut self, path: &str, mode: Option<u32>, user: Option<u32>, bytes: Value) {
        let mode = mode.unwrap_or(self.mode);
        let uid = user.or(self.user);
        match file_path(path) {
            Ok(_) if mode > 0o777 => self.problem(Problem::BadMode { path: path.to_owned(), mode }),
            Ok(clean) => self.payload.insert(clean, File { bytes, mode, uid }),
            Err(problem) => self.problem(problem),
        }
    }

    /// Puts a file at `path` that is meant for the containers' user.
    pub(super) fn insert_private(&mut self, path: &str, user: Option<u32>, bytes: Value) {
        let (uid, mode) = user::private(&self.subject.pod.spec, user, self.user, self.mode);
        self.insert(path, Some(mode), uid, bytes);
    }

    /// Whether there is room for `bytes` more that were made for this volume alone.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.made = self.made.saturating_add(bytes);
        if self.made <= MAX_MADE {
            return true;
        }
        let problem = Problem::TooLarge { what: "the volume".to_owned(), limit: MAX_MADE };
        if self.problems.last() != Some(&problem) {
            self.problem(problem);
        }
        false
    }
}
