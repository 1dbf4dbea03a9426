//! Integration tests: real API server, real kernel, real programs. One binary, a folder of modules by capability.
//!
//! `./test` does the set-up that these need (packages, an ordinary user, the control plane) and runs them.

mod check;
mod cluster;
mod credentials;
mod dead;
mod documents;
mod examples;
mod filesystem;
mod host;
mod input;
mod kubelet;
mod manifests;
mod messages;
mod model;
mod packaging;
mod pods;
mod programs;
mod rbac;
mod rights;
mod scale;
mod secrecy;
mod support;
mod sync;
