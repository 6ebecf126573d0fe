//! The real binary, over real sockets, on 127.0.0.1. Every test has its own folder and its own ports.

#![allow(clippy::unwrap_used)]

mod archive;
mod client;
mod gateway;

mod admin;
mod alerts;
mod attack;
mod clients;
mod config;
mod demo;
mod hostile;
mod kill;
mod mqtt;
mod schema;
mod source;
