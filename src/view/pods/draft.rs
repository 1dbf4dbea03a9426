//! A pod worked out from what is known now: its volumes, its containers, and what to change where it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::places::{Content, Contents, Path, Work};
use super::skeleton::{Below, Outlook, container};
use super::{Knowledge, Life, Look, PodProblem, Shown, Stage, State, VolumeState};
use crate::object::ObjectId;
use crate::object::pod::{PodVolume, VolumeSource};
use crate::pod::{self, Mount, Mounts, Problem, Subject};
use crate::store::Store;
use crate::view::{Options, generation_name};
use crate::volume::{Backing, Clash, Layout, NewNode, Ownership, Payload};

/// All mounts of a pod by container, and what is wrong with some.
#[derive(Default)]
struct AllMounts {
    by_container: BTreeMap<Arc<str>, Vec<Mount>>,
    /// Each with its container.
    problems: Vec<(Arc<str>, Problem)>,
}

impl AllMounts {
    fn of(subject: &Subject, knowledge: &Knowledge) -> Self {
        let mut all = AllMounts::default();
        for (_, container) in subject.pod.spec.all_containers() {
            let Mounts { mounts, problems } = pod::mounts(subject, container, knowledge);
            let name: Arc<str> = container.name.as_str().into();
            all.problems.extend(problems.into_iter().map(|problem| (name.clone(), problem)));
            all.by_container.insert(name, mounts);
        }
        all
    }

    /// The volumes that any container mounts: the kubelet sets up no others.
    fn volumes<'a>(&self, subject: &'a Subject) -> impl Iterator<Item = &'a PodVolume> {
        let mounted: BTreeSet<&str> = self.by_container.values().flatten().map(|mount| mount.volume.as_str()).collect();
        let volumes = subject.pod.spec.volumes.iter().filter(|volume| mounted.contains(&*volume.name));
        volumes.collect::<Vec<_>>().into_iter()
    }

    /// The parts of a volume that containers mount.
    fn parts<'a>(&'a self, volume: &'a str) -> impl Iterator<Item = &'a str> {
        let of_volume = self.by_container.values().flatten().filter(move |mount| mount.volume == volume);
        of_volume.map(|mount| mount.sub_path.as_str()).filter(|part| !part.is_empty())
    }
}

impl State {
    /// Works the pod out for the first time, or anew although its directory is still empty. Gives what its directory holds.
    pub fn children(&mut self, subject: &Subject, store: &Store, options: &Options) -> Vec<(Arc<str>, NewNode)> {
        let Some(mut shown) = self.shown.remove(&subject.id) else { return Vec::new() };
        let (skeleton, contents) = self.work_out(&mut shown, subject, store, options);
        let children = shown.places.children(&Path::new(), &skeleton, &contents);
        shown.skeleton = skeleton;
        self.shown.insert(subject.id.clone(), shown);
        children
    }

    /// Works the pod out anew. Gives what to do below its directory.
    pub fn changes(&mut self, subject: &Subject, store: &Store, options: &Options) -> Vec<Work> {
        let Some(mut shown) = self.shown.remove(&subject.id) else { return Vec::new() };
        let (skeleton, contents) = self.work_out(&mut shown, subject, store, options);
        let mut works = shown.places.rebuild(&Path::new(), &shown.skeleton, &skeleton, &contents);
        shown.skeleton = skeleton;
        for (name, content) in &contents {
            let withdrawn = shown.volumes.get(name).is_some_and(|volume| volume.withdrawn);
            works.extend(if withdrawn { shown.places.clear(name) } else { shown.places.write(name, content) });
        }
        self.shown.insert(subject.id.clone(), shown);
        works
    }

    fn work_out(&self, shown: &mut Shown, subject: &Subject, store: &Store, options: &Options) -> (Below, Contents) {
        let knowledge = Knowledge { store, state: self };
        let mounts = AllMounts::of(subject, &knowledge);
        let life = Arc::new(Life::of(subject));
        let fs_group = subject.pod.spec.security_context.fs_group;
        let ownership = Ownership { fs_group, ..options.ownership };
        let mut known = std::mem::take(&mut shown.volumes);
        let mut contents = Contents::new();
        let mut outlooks = BTreeMap::new();
        for volume in mounts.volumes(subject) {
            let (name, mut state) = known
                .remove_entry(&*volume.name)
                .unwrap_or_else(|| (volume.name.as_str().into(), VolumeState::default()));
            let (backing, layout) = match &volume.source {
                // Nothing is written there.
                VolumeSource::Other { in_memory: true, .. } => (Backing::Memory, Layout::Flat),
                VolumeSource::Other { .. } => (Backing::Disk, Layout::Flat),
                _ => (pod::backing(volume).unwrap_or(Backing::Memory), options.layout),
            };
            let look = Look { backing, layout, ownership };
            let is_another = state.life.as_ref() != Some(&life);
            let can_write = |payload: &Payload| shown.places.can_write(&name, payload);
            // A pod that begins has nothing in the way of its files.
            let check = |payload: &Payload| if is_another { payload.check() } else { can_write(payload) };
            let (payload, nested) = state.work_out(subject, volume, &knowledge, check);
            let is_foreign = state.foreign.is_some();
            if let Some(payload) = payload {
                let is_fixed = options.strict.parts || can_write(&payload).is_err();
                state.take(&life, payload, look, is_fixed);
            }
            if state.payload.is_some() && !state.started {
                let (nested, files) = (nested.clone(), state.files(options));
                let outlook = Outlook { is_foreign, nested, files, ..Outlook::default() };
                // In the generation a directory would go with the generation.
                let lasts = |part: &&str| is_foreign || !outlook.is_in_generation(part);
                state.made = outlook.missing(mounts.parts(&name)).filter(lasts).map(str::to_owned).collect();
                state.started = true;
            }
            let (number, made) = (state.number, state.made.clone());
            let outlook = Outlook { number, is_foreign, nested, made, files: state.files(options) };
            let (payload, generation) = (state.payload.clone(), state.generation.clone());
            contents.insert(name.clone(), Content { look: state.look.unwrap_or(look), payload, generation });
            outlooks.insert(name.clone(), outlook);
            shown.volumes.insert(name, state);
        }
        if shown.stage != Stage::Filled {
            tell_foreign(subject, shown);
        }
        if shown.problems != mounts.problems {
            for (container, problem) in &mounts.problems {
                tracing::warn!("{}", PodProblem::of_container(&subject.id, container, problem));
            }
            shown.problems.clone_from(&mounts.problems);
        }
        let containers = mounts.by_container.iter().map(|(name, mounts)| (name.clone(), container(mounts, &outlooks)));
        (containers.collect(), contents)
    }

    /// What a pod needs now.
    pub fn needs(&self, subject: &Subject, store: &Store) -> pod::Needs {
        let knowledge = Knowledge { store, state: self };
        let mut needs = pod::Needs::default();
        for volume in AllMounts::of(subject, &knowledge).volumes(subject) {
            let pod::Needs { objects, tokens, bundles } = pod::needs(subject, volume);
            needs.objects.extend(objects);
            needs.tokens.extend(tokens);
            needs.bundles |= bundles;
        }
        for (_, container) in subject.pod.spec.all_containers() {
            needs.objects.extend(pod::mount_needs(subject, container));
        }
        needs
    }
}

/// Says once which volumes of a pod are not shown.
fn tell_foreign(subject: &Subject, shown: &Shown) {
    let foreign =
        shown.volumes.iter().filter_map(|(name, volume)| Some(format!("{name} ({})", volume.foreign.as_ref()?)));
    let foreign: Vec<String> = foreign.collect();
    if !foreign.is_empty() {
        tracing::warn!(
            "{}: shown as empty directories, as no API server has their files: {}",
            subject.id,
            foreign.join(", ")
        );
    }
}

impl VolumeState {
    /// Works the volume out, and gives the paths in it at which others are mounted. If that fails it keeps its payload.
    fn work_out(
        &mut self,
        subject: &Subject,
        volume: &PodVolume,
        knowledge: &Knowledge,
        check: impl Fn(&Payload) -> Result<(), Clash>,
    ) -> (Option<Payload>, BTreeSet<String>) {
        let nested = pod::nested(subject, &volume.name);
        self.foreign = match &volume.source {
            VolumeSource::Other { kind, .. } => Some(kind.clone()),
            _ => None,
        };
        if self.foreign.is_some() {
            return (Some(Payload::default()), nested.unwrap_or_default());
        }
        let payload = pod::collect(subject, volume, knowledge).and_then(|payload| {
            check(&payload).map_err(|clash| vec![clash.into()])?;
            Ok(payload)
        });
        let (payload, nested, problems) = match (payload, nested) {
            (Ok(payload), Ok(nested)) => (Some(payload), nested, Vec::new()),
            (Ok(_), Err(problem)) => (None, BTreeSet::new(), vec![problem]),
            (Err(problems), nested) => (None, nested.unwrap_or_default(), problems),
        };
        self.withdrawn = false;
        if payload.is_none() && pod::needs(subject, volume).objects.iter().any(|id| knowledge.store.is_withdrawn(id)) {
            self.withdrawn = true;
            self.payload = None;
        }
        if problems != self.problems {
            warn(&subject.id, &volume.name, &problems, self.payload.is_some());
            self.problems = problems;
        }
        (payload, nested)
    }

    /// Shows a payload from now on. What says the same as before stays as it is, with its modes and owners, as long as the
    /// pod is the same. `is_fixed`: what another pod had cannot be made like this payload where it is.
    fn take(&mut self, life: &Arc<Life>, payload: Payload, look: Look, is_fixed: bool) {
        let says_the_same = self.payload.as_ref().is_some_and(|old| old.says_the_same(&payload));
        let is_another = self.life.as_ref() != Some(life);
        if is_another {
            let looks_the_same = self.look == Some(look) && (!says_the_same || self.payload.as_ref() == Some(&payload));
            if self.payload.is_some() && (!looks_the_same || is_fixed) {
                self.number += 1;
            }
            self.life = Some(life.clone());
            self.look = Some(look);
            self.first = Some(payload.iter().map(|(path, _)| path.clone()).collect());
            self.started = false;
        }
        if is_another || !says_the_same {
            self.payload = Some(payload);
        }
        if !says_the_same {
            self.generation = generation_name();
        }
    }

    /// The paths that decide what mounted parts are.
    fn files(&self, options: &Options) -> Option<BTreeSet<Arc<str>>> {
        if options.strict.parts {
            return self.first.clone();
        }
        self.payload.as_ref().map(|payload| payload.iter().map(|(path, _)| path.clone()).collect())
    }
}

fn warn(pod: &ObjectId, volume: &str, problems: &[Problem], has_content: bool) {
    for problem in problems {
        tracing::warn!("{}", PodProblem::of_volume(pod, volume, problem, has_content));
    }
    if problems.is_empty() {
        tracing::info!("{pod}: volume {volume} is complete again");
    }
}
