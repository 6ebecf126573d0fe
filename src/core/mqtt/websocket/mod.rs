//! The server's side of MQTT over WebSocket (RFC 6455, and section 6 of MQTT 5), without a socket.
//!
//! A connection begins with a request that [`handshake::judge`] answers. From then on [`frames::Frames`] takes what the client sends, and
//! what the gateway sends has a [`frames::header`] before it. To MQTT the frames' payloads are one stream of bytes: packets may begin and end
//! anywhere in a frame, so no message is ever put together here. No extension is agreed to.

pub mod frames;
pub mod handshake;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
