//! What MQTT demands of a server, without a socket: the session of one client, topics, and who is subscribed to them. And what it demands of
//! a client ([`client`]), which the gateway is where it sends to another broker.

pub mod access;
pub mod client;
pub mod inbound;
pub mod keeping;
pub mod outbound;
pub mod pace;
pub mod packet;
pub mod publishing;
pub mod rate;
pub mod session;
pub mod subscription;
pub mod template;
pub mod topic;
pub mod topic_tree;
pub mod websocket;
