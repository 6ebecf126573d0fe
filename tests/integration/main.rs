//! The real binary, over real sockets, on 127.0.0.1. Every test has its own folder and its own ports.

#![allow(clippy::unwrap_used)]

mod archive;
mod client;
mod gateway;
mod in_process;
mod narrow;
mod proxy;
mod vfs;

mod acknowledge;
mod admin;
mod alerts;
mod attack;
mod backlog;
mod clearing;
mod clients;
mod clocks;
mod commits;
mod config;
mod crowd;
mod damaged;
mod demo;
mod descriptors;
mod detection;
mod devices;
mod docs;
mod durability;
mod ending;
mod from_store;
mod full;
mod growth;
mod hostile;
mod http;
mod kill;
mod kinesis;
mod limits;
mod listeners;
mod log;
mod migration;
mod mqtt;
mod operate;
mod profiles;
mod recorded;
mod rules;
mod schema;
mod shares;
mod silence;
mod source;
mod stalls;
mod streams;
mod unstorable;
mod version_1;
mod version_5;
