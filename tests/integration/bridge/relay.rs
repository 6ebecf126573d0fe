//! The way to another broker: it can break, and it can go on without letting anything through.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Passes on connections.
pub struct Relay {
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    way: Mutex<Way>,
    opened: Condvar,
}

#[derive(Default)]
struct Way {
    /// Connections that began in an earlier one are black holes.
    era: u64,
    is_swallowing: bool,
    sockets: Vec<TcpStream>,
}

impl Relay {
    /// It ends with the process.
    pub fn start(to: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&relay.state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), Arc::clone(&state));
                std::thread::spawn(move || serve(client, to, &state));
            }
        });
        relay
    }

    /// Every connection breaks.
    pub fn cut(&self) {
        for socket in self.state.way.lock().unwrap().sockets.drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// From now on nothing comes out of any connection, and none ends.
    pub fn swallow(&self) {
        let mut way = self.state.way.lock().unwrap();
        way.era += 1;
        way.is_swallowing = true;
    }

    /// Connections that begin now work, and those that waited for it. What was swallowed stays away, and its connection dead.
    pub fn open(&self) {
        self.state.way.lock().unwrap().is_swallowing = false;
        self.state.opened.notify_all();
    }
}

fn serve(client: TcpStream, to: SocketAddr, state: &Arc<State>) {
    let mut way = state.opened.wait_while(state.way.lock().unwrap(), |way| way.is_swallowing).unwrap();
    // Whoever waits for a broker that is away is told so by the end of the connection.
    let Ok(server) = TcpStream::connect(to) else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (state, era) = (Arc::clone(state), way.era);
        std::thread::spawn(move || pass_on(from, to, &state, era));
    }
    way.sockets.extend([client, server]);
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, state: &State, era: u64) {
    let is_passing = || state.way.lock().unwrap().era == era;
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if is_passing() && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    if is_passing() {
        // The other end may be gone, too.
        let _ = to.shutdown(Shutdown::Both);
    }
}
