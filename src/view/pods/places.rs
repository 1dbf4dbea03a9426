//! Where the volumes of a pod are shown, each place with what it shows: from skeletons to nodes and steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Look;
use super::skeleton::{Below, Is, Spot};
use crate::volume::{Layout, NewBody, NewNode, Outline, Ownership, Payload, Step, Update, Volume};

/// A path below the pod's directory.
pub(super) type Path = Vec<Arc<str>>;

/// Steps in one directory.
pub(super) type Work = (Path, Update);

/// One volume of a pod, as it is to be shown.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub look: Look,
    /// `None`: never set up.
    pub payload: Option<Payload>,
    /// The name of its newest generation.
    pub generation: Arc<str>,
}

/// A volume's name with its content.
pub(super) type Contents = BTreeMap<Arc<str>, Content>;

/// A place that shows a volume, or a part of it.
#[derive(Debug)]
struct Place {
    volume: Arc<str>,
    shown: Volume,
    part: Part,
    /// All of the volume as it was when this place was made.
    whole: Option<Outline>,
}

#[derive(Debug)]
enum Part {
    All,
    /// The files below this path.
    Dir(Arc<str>),
    /// This file, which is the last name of the place.
    File(Arc<str>),
}

/// All places of one pod.
#[derive(Debug)]
pub(super) struct Places {
    places: BTreeMap<Path, Place>,
    /// For what belongs to no volume.
    ownership: Ownership,
    /// Whether parts stay what they were when the container began, as bind mounts do.
    parts_are_fixed: bool,
}

impl Places {
    pub fn new(ownership: Ownership, parts_are_fixed: bool) -> Self {
        Places { places: BTreeMap::new(), ownership, parts_are_fixed }
    }

    /// What to do so that the directory at `path` has `new` in it and not `old`.
    pub fn rebuild(&mut self, path: &Path, old: &Below, new: &Below, contents: &Contents) -> Vec<Work> {
        let mut here = Vec::new();
        let mut further = Vec::new();
        for (name, spot) in old {
            let same = new.get(name).is_some_and(|new| new.is == spot.is);
            if !same {
                let at = joined(path, name);
                self.places.retain(|place, _| !place.starts_with(&at));
                let name = name.clone();
                here.push(match spot.is {
                    Is::File(..) => Step::Unlink { name },
                    _ => Step::RemoveAll { name },
                });
            }
        }
        for (name, spot) in new {
            let at = joined(path, name);
            match old.get(name) {
                Some(old) if old.is == spot.is => {
                    if let Some(place) = self.places.get_mut(&at) {
                        place.shown.take_names(spot.below.keys().cloned());
                    }
                    further.extend(self.rebuild(&at, &old.below, &spot.below, contents));
                }
                _ => {
                    let node = self.build(&at, spot, contents);
                    let name = name.clone();
                    here.push(match node.body {
                        NewBody::File(_) => Step::Mkfile { name, node },
                        _ => Step::Mkdir { name, node },
                    });
                }
            }
        }
        if !here.is_empty() {
            further.insert(0, (path.clone(), here.into()));
        }
        further
    }

    /// The children of a directory that has nothing in it yet.
    pub fn children(&mut self, path: &Path, below: &Below, contents: &Contents) -> Vec<(Arc<str>, NewNode)> {
        let child = |(name, spot): (&Arc<str>, &Spot)| (name.clone(), self.build(&joined(path, name), spot, contents));
        below.iter().map(child).collect()
    }

    fn build(&mut self, path: &Path, spot: &Spot, contents: &Contents) -> NewNode {
        let mut children = self.children(path, &spot.below, contents);
        let content = match &spot.is {
            Is::Dir => None,
            Is::Mountpoint(of) | Is::Made(of) | Is::Volume(of) | Is::Part(of, _) | Is::File(of, _) => {
                contents.get_key_value(&of.volume)
            }
        };
        let Some((volume, content)) = content else { return NewNode::dir(self.ownership.dir(0o755), children) };
        let (part, layout) = match &spot.is {
            Is::Part(_, part) => (Part::Dir(part.clone()), Layout::Flat),
            Is::File(_, part) => (Part::File(part.clone()), Layout::Flat),
            _ => (Part::All, content.look.layout),
        };
        let mut shown = Volume::new(content.look.backing, layout, content.look.ownership);
        shown.take_names(spot.below.keys().cloned());
        let (of_root, of_directory) = (shown.root_attr(), shown.directory_attr());
        match spot.is {
            Is::Mountpoint(_) => return NewNode::dir(of_directory, children),
            Is::Made(_) => return NewNode::dir(of_root, children),
            _ => {}
        }
        let mut attr = of_root;
        if let Some(payload) = &content.payload {
            let payload = part.of(payload, path);
            if matches!(&part, Part::Dir(part) if part.is_empty() || !payload.is_empty()) {
                attr = of_directory;
            }
            children.extend(shown.contents(payload, content.generation.clone()));
        }
        let volume = volume.clone();
        let is_file = matches!(part, Part::File(_));
        let whole = content.payload.as_ref().map(Outline::of);
        self.places.insert(path.clone(), Place { volume, shown, part, whole });
        if is_file && let Some((_, node)) = children.pop() {
            return node;
        }
        NewNode::dir(attr, children)
    }

    /// Whether a file system could hold the payload wherever the volume is shown as a whole.
    pub fn can_write(&self, volume: &str, payload: &Payload) -> Result<(), crate::volume::Clash> {
        let mut whole =
            self.places.values().filter(|place| &*place.volume == volume && matches!(place.part, Part::All));
        whole.try_for_each(|place| place.shown.can_write(payload))
    }

    /// What to do so that all places of a volume show its content.
    pub fn write(&mut self, volume: &str, content: &Content) -> Vec<Work> {
        let Some(payload) = &content.payload else { return Vec::new() };
        let fixed = self.parts_are_fixed;
        let of_volume = self.places.iter_mut().filter(|(_, place)| &*place.volume == volume);
        let works = of_volume.map(|(path, place)| match &place.part {
            Part::File(_) if fixed => (path.clone(), Update::default()),
            // Whatever has changed in the volume, the old generation's files are gone, and with them those of the directory
            // that is still mounted.
            Part::Dir(_) if fixed => match place.whole == Some(Outline::of(payload)) {
                true => (path.clone(), Update::default()),
                false => (path.clone(), place.shown.clear()),
            },
            part => {
                let update = place.shown.write(part.of(payload, path), content.generation.clone());
                let dir = if matches!(part, Part::File(_)) { path[..path.len() - 1].to_vec() } else { path.clone() };
                (dir, update)
            }
        });
        works.filter(|(_, update)| !update.is_empty()).collect()
    }

    /// What to do so that no place shows anything of a volume.
    pub fn clear(&mut self, volume: &str) -> Vec<Work> {
        let of_volume = self.places.iter_mut().filter(|(_, place)| &*place.volume == volume);
        let works = of_volume.map(|(path, place)| {
            let dir = if matches!(place.part, Part::File(_)) { path[..path.len() - 1].to_vec() } else { path.clone() };
            (dir, place.shown.clear())
        });
        works.filter(|(_, update)| !update.is_empty()).collect()
    }
}

impl Part {
    /// What of a volume's payload the place at `path` shows.
    fn of(&self, payload: &Payload, path: &Path) -> Payload {
        match self {
            Part::All => payload.clone(),
            Part::Dir(part) => payload.below(part),
            Part::File(part) => {
                let mut one = Payload::default();
                if let (Some(file), Some(name)) = (payload.get(part), path.last()) {
                    one.insert(name.clone(), file.clone());
                }
                one
            }
        }
    }
}

fn joined(path: &Path, name: &Arc<str>) -> Path {
    let mut longer = path.clone();
    longer.push(name.clone());
    longer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Value;
    use crate::view::pods::skeleton::Instance;
    use crate::volume::{Backing, DEFAULT_MODE, File, Owner};

    fn content(files: &[(&str, &str)]) -> Content {
        let mut payload = Payload::default();
        for (path, text) in files {
            let file = File { bytes: Value::copy_of(text.as_bytes()), mode: DEFAULT_MODE, uid: None };
            payload.insert(*path, file);
        }
        let (layout, ownership) = (Layout::Kubelet, Ownership::of(Owner::Kubelet));
        let look = Look { backing: Backing::Memory, layout, ownership };
        Content { look, payload: Some(payload), generation: "..g".into() }
    }

    #[test]
    fn a_fixed_part_empties_with_any_update_of_its_volume_and_once() {
        let first = content(&[("d/a", "1"), ("b", "2")]);
        let mut places = Places::new(first.look.ownership, true);
        let part = Spot { is: Is::Part(Instance { volume: "v".into(), number: 0 }, "d".into()), below: Below::new() };
        let contents = Contents::from([("v".into(), first.clone())]);
        assert_eq!(places.children(&Path::new(), &Below::from([("p".into(), part)]), &contents).len(), 1);
        assert!(places.write("v", &first).is_empty());
        let works = places.write("v", &content(&[("d/a", "1"), ("b", "3")]));
        assert!(
            matches!(&works[..], [(_, update)] if matches!(&update.steps[..], [Step::Unlink { name }] if &**name == "a"))
        );
        assert!(places.write("v", &content(&[("d/a", "4"), ("b", "3")])).is_empty());
    }
}
