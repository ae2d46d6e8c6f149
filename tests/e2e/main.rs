//! The daemon from outside: real processes, real sockets, real clients.

mod harness;

mod admin;
mod auth;
mod bench;
mod commands;
mod console;
mod corpus;
mod crowd;
mod endpoints;
mod faults;
mod gate;
mod history;
mod hostile_feed;
mod hostile_frames;
mod hostile_head;
mod idle;
mod many_jobs;
mod messages;
mod overrun;
mod package;
mod program;
mod prometheus;
mod proxy;
mod publishers;
mod recordings;
mod reload;
mod restart;
mod resume;
mod service;
mod slow;
mod systemd;
mod tls;
mod tools;
mod until_end;
