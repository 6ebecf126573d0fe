//! The handshake of WebSocket, before the first packet.

use std::cell::RefCell;
use std::future::poll_fn;

use tokio::io::ReadBuf;

use super::transport::{Transport, write_all};
use crate::core::mqtt::websocket::handshake;

/// Reads the request and answers it. The error says what is wrong with it.
pub(super) async fn accept(transport: Transport, origins: &[String]) -> Result<Transport, String> {
    let transport = RefCell::new(transport);
    let mut request = Vec::new();
    let upgrade = loop {
        let mut bytes = [0; 1024];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read = poll_fn(|context| transport.borrow_mut().poll_read(context, &mut buffer)).await;
        read.map_err(|error| error.to_string())?;
        if buffer.filled().is_empty() {
            return Err("the connection was lost".to_owned());
        }
        request.extend_from_slice(buffer.filled());
        match handshake::judge(&request, origins) {
            Ok(None) => {}
            Ok(Some(upgrade)) => break upgrade,
            Err(refusal) => {
                // It is refused either way.
                let _ = write_all(&transport, &refusal.response).await;
                transport.borrow_mut().try_shutdown();
                return Err(refusal.text);
            }
        }
    };
    if upgrade.used < request.len() {
        return Err("it did not wait for the answer to its request".to_owned());
    }
    write_all(&transport, &upgrade.response).await.map_err(|error| error.to_string())?;
    Ok(transport.into_inner().framed())
}
