//! The daemon from outside: real processes, real sockets, real clients.

mod harness;

mod corpus;
mod crowd;
mod endpoints;
mod history;
mod many_jobs;
mod messages;
mod publishers;
mod slow;
