//! Integration tests: real API server, real kernel, real programs. One binary, a folder of modules by capability.
//!
//! `./test` does the set-up that these need (packages, an ordinary user, the control plane) and runs them.

mod credentials;
mod dead;
mod filesystem;
mod manifests;
mod model;
mod secrecy;
mod support;
