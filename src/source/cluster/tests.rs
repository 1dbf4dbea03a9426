//! The source against a scripted server: one file for each thing that it does.

mod connecting;
mod crawling;
mod following;
mod lies;
mod listing;
mod requests;
mod rotation;
