//! The daemon from outside: real processes, real sockets, real clients.

mod harness;

mod endpoints;
