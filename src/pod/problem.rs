//! Why the kubelet would not set up a volume, or not start a container with a mount.

use crate::object::{Kind, ObjectId};
use crate::volume::Clash;

/// One reason. Messages tell names, keys and paths as the pod has them, never a value; whoever shows them says which pod
/// and volume they are about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Indicates an object that does not exist.
    #[error("{object} does not exist: create it, or mark the reference to it as optional")]
    Missing { object: ObjectId },
    /// Indicates a name that no object can have.
    #[error("{name:?} cannot be the name of a {}: correct it in the pod", .kind.api_kind())]
    BadName { kind: Kind, name: String },
    /// Indicates an object without a key that the pod names.
    #[error("{object} has no key {key:?}: add it, or mark the reference to it as optional")]
    MissingKey { object: ObjectId, key: String },
    /// Indicates something that cannot be had; the message says what and why.
    #[error("{0}")]
    Refused(String),
    /// Indicates something that nobody has asked for yet.
    #[error("{what} has not been read yet: try again")]
    Unknown { what: String },
    /// Indicates a token that the API server does not give.
    #[error("no token for {account}: {why}")]
    NoToken { account: ObjectId, why: String },
    /// Indicates a path that no file of a volume can have.
    #[error("the path {path:?} {why}: correct it in the volume's source")]
    BadPath { path: String, why: &'static str },
    /// Indicates a mode that no file of a volume can have.
    #[error("the mode {mode:#o} of {path:?} is not within 0 to 0777: correct it in the volume's source")]
    BadMode { path: String, mode: u32 },
    /// Indicates two files of which one would have to be a directory.
    #[error("{0}: change one of the paths in the volume's sources")]
    Clash(#[from] Clash),
    /// Indicates more than a volume or variable is let hold.
    #[error("{what} would have more than {limit} bytes: make the pod ask for less")]
    TooLarge { what: String, limit: usize },
    /// Indicates a field that is not to be had.
    #[error("the field {field:?} cannot be shown here: use {allowed}")]
    UnknownField { field: String, allowed: &'static str },
    /// Indicates a field of a label or annotation whose key cannot exist.
    #[error("the field {field:?} names no valid key: a key is [PREFIX/]NAME, and labels have no upper-case prefix")]
    BadSubscript { field: String },
    /// Indicates a resource that is not to be had.
    #[error(
        "the resource {resource:?} cannot be shown: use limits. or requests. with cpu, memory, ephemeral-storage or hugepages-SIZE"
    )]
    UnknownResource { resource: String },
    /// Indicates a reference to a container that the pod does not have.
    #[error("there is no container {container:?}: correct containerName")]
    UnknownContainer { container: String },
    /// Indicates a quantity that cannot be read.
    #[error("{what} is not a quantity such as 500m or 1Gi: correct it")]
    BadQuantity { what: String },
    /// Indicates a limit that is the node's, when there is no node yet.
    #[error(
        "container {container:?} has no limit of {resource}, so it is the node's, and no node is chosen: set the limit"
    )]
    NoNode { container: String, resource: String },
    /// Indicates a projection of a trust bundle that does not say which.
    #[error("the clusterTrustBundle for {path:?} has neither name nor signerName: give it one")]
    UnnamedBundle { path: String },
    /// Indicates a selection of trust bundles that selects none.
    #[error("no ClusterTrustBundle of signer {signer:?} is selected: create one, or mark the source as optional")]
    NoBundle { signer: String },
    /// Indicates a label selector that cannot be used.
    #[error("the labelSelector for {path:?} is not valid: {why}")]
    BadSelector { path: String, why: String },
    /// Indicates a source whose content only a kubelet has.
    #[error("a {what} source is made by the pod's kubelet alone and cannot be shown: leave it out")]
    Unsupported { what: &'static str },
    /// Indicates a volume whose content is not the API server's to give.
    #[error("volume {volume:?} is of the kind {kind}, whose files are not in the API server")]
    OtherStorage { volume: String, kind: String },
    /// Indicates a mount of a volume that the pod does not have.
    #[error("container {container:?} mounts the volume {volume:?}, which the pod does not have: add it")]
    UnknownVolume { container: String, volume: String },
    /// Indicates two mounts at one path.
    #[error("container {container:?} has two mounts at {path:?}: give one of them another mountPath")]
    MountedTwice { container: String, path: String },
    /// Indicates a place at which nothing can be mounted.
    #[error(
        "container {container:?} cannot have a mount at {path:?}: use an absolute path other than / and without '..'"
    )]
    BadMountPath { container: String, path: String },
    /// Indicates a subPath or subPathExpr, as written, that cannot be used.
    #[error("container {container:?}: the subPath {sub_path:?} {why}: correct it")]
    BadSubPath { container: String, sub_path: String, why: &'static str },
    /// Indicates variables that a subPathExpr names and that have no value.
    #[error(
        "container {container:?}: the subPathExpr {sub_path:?} needs {variables}, which has no value: set it in env"
    )]
    NoValue { container: String, sub_path: String, variables: String },
}
