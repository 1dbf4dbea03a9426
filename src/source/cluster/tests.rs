//! The source against a scripted server: one file for each thing that it does.

mod connecting;
mod crawling;
mod following;
mod gathering;
mod lies;
mod listing;
mod needing;
mod requests;
mod rotation;
mod tokens;
