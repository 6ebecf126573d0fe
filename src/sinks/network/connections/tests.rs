//! Connections, against small servers.

use http_body_util::BodyExt as _;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Answers each request on each connection, and counts what went over the sockets; a tunnel is answered like a request.
async fn serve(listener: TcpListener, answer: &'static str, seen: Arc<Mutex<(usize, u64, String)>>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        seen.lock().expect("no panic").0 += 1;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let is_end = text.ends_with("END") || text.starts_with("CONNECT");
                {
                    let mut seen = seen.lock().expect("no panic");
                    seen.1 += read as u64 + if is_end { answer.len() as u64 } else { 0 };
                    seen.2.push_str(&text);
                }
                if is_end {
                    stream.write_all(answer.as_bytes()).await.expect("open");
                }
            }
        });
    }
}

fn post(uri: &str) -> HttpRequest {
    let mut request = HttpRequest::new(SdkBody::from("body END"));
    request.set_method("POST").expect("known");
    request.set_uri(uri).expect("right");
    request
}

#[tokio::test]
async fn everything_on_the_socket_is_counted_and_a_connection_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::new(Mutex::default());
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    tokio::spawn(serve(listener, answer, Arc::clone(&seen)));
    let bytes = Arc::new(SocketBytes::default());
    let connector = connector(Duration::from_secs(10), Some(Arc::clone(&bytes)));
    for _ in 0..3 {
        let mut response = connector.call(post(&format!("http://127.0.0.1:{port}/a?b"))).await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        let body = std::mem::replace(response.body_mut(), SdkBody::empty());
        assert_eq!(&body.collect().await.expect("whole").to_bytes()[..], b"ok");
        // The connection notices the end of the answer in a task of its own.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    let (connections, served, text) = seen.lock().expect("no panic").clone();
    assert_eq!(connections, 1);
    assert_eq!(bytes.counted(), served);
    assert!(
        text.starts_with("POST /a?b HTTP/1.1\r\n") && text.contains(&format!("host: 127.0.0.1:{port}\r\n")),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_tunnel_is_an_error_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::default());
    tokio::spawn(serve(listener, "HTTP/1.1 407 No\r\n\r\n", Arc::clone(&seen)));
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let login = HeaderValue::from_static("Basic eDp5");
    let error = open_tunnel(&mut stream, "::1", 443, Some(&login)).await.expect_err("refused");
    assert!(error.to_string().contains("407"), "{error}");
    let text = seen.lock().expect("no panic").2.clone();
    assert_eq!(text, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic eDp5\r\n\r\n");
}

/// Serves one request on each connection, and closes it: at once, or when the next one has come.
async fn serve_once_each(listener: TcpListener, waits: bool, seen: Arc<Mutex<usize>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""].iter().take(1 + usize::from(waits)) {
                if !stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    return;
                }
                *seen.lock().expect("no panic") += 1;
                stream.write_all(answer.as_bytes()).await.expect("open");
            }
        });
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_no_request_and_none_that_was_sent_is_repeated() {
    for (waits, expected) in [(false, [true; 4]), (true, [true, false, true, false])] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}/", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::default());
        tokio::spawn(serve_once_each(listener, waits, Arc::clone(&seen)));
        let connections = Connections::new(Duration::from_secs(10), IDLE_FOR, None);
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(connections.exchange(post(&uri)).await.is_ok());
            let is_settled = |one: &Idle| one.sender.is_ready() || one.sender.is_closed();
            while !connections.idle.lock().expect("no panic").iter().all(is_settled) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!((answers.as_slice(), *seen.lock().expect("no panic")), (&expected[..], 4), "{waits}");
    }
}

/// Whoever balances load leads a new connection to another host, perhaps. The answer comes whole all the same.
#[tokio::test]
async fn after_an_error_of_the_server_there_is_a_new_connection() {
    for (status, expected) in [("503 No", 3), ("400 No", 1)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let uri = format!("http://{}/", listener.local_addr().expect("bound"));
        let seen = Arc::new(Mutex::default());
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").leak();
        tokio::spawn(serve(listener, answer, Arc::clone(&seen)));
        let connections = Connections::new(Duration::from_secs(10), IDLE_FOR, None);
        for _ in 0..3 {
            let mut response = connections.exchange(post(&uri)).await.expect("an answer");
            let body = std::mem::replace(response.body_mut(), SdkBody::empty());
            assert_eq!(&body.collect().await.expect("whole").to_bytes()[..], b"no");
            while !connections.idle.lock().expect("no panic").iter().all(|one| one.sender.is_ready()) {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(seen.lock().expect("no panic").0, expected, "{status}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_a_while_only_and_not_after_silence() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let uri = format!("http://{}/", listener.local_addr().expect("bound"));
    let seen = Arc::default();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    tokio::spawn(serve(listener, answer, Arc::clone(&seen)));
    let mut connections = Connections::new(Duration::from_secs(10), IDLE_FOR, None);
    let kept = |connections: &Connections| connections.idle.lock().expect("no panic").len();
    connections.exchange(post(&uri)).await.expect("an answer");
    while !connections.idle.lock().expect("no panic").iter().all(|one| one.sender.is_ready()) {
        tokio::task::yield_now().await;
    }
    connections.idle_for = Duration::ZERO;
    connections.exchange(post(&uri)).await.expect("an answer");
    assert_eq!((seen.lock().expect("no panic").0, kept(&connections)), (2, 1), "too old");
    connections.idle_for = IDLE_FOR;
    let two = tokio::join!(connections.exchange(post(&uri)), connections.exchange(post(&uri)));
    assert!(two.0.is_ok() && two.1.is_ok());
    while !connections.idle.lock().expect("no panic").iter().all(|one| one.sender.is_ready()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(kept(&connections), 2);
    // Nobody answers what does not end, and whoever asks gives up.
    let mut silent = HttpRequest::new(SdkBody::from("body"));
    silent.set_uri(uri.as_str()).expect("right");
    let silent = tokio::time::timeout(Duration::from_millis(100), connections.exchange(silent)).await;
    assert!(silent.is_err());
    assert_eq!(kept(&connections), 0, "the others may be as silent");
}

/// A listener whose queue is full answers nobody, like an address behind which packets are dropped.
#[tokio::test]
async fn an_address_that_does_not_answer_is_not_waited_for() {
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    silent.listen(0).expect("it listens");
    let silent_at = silent.local_addr().expect("bound").as_socket().expect("an address");
    let mut queued = Vec::new();
    let is_silent = loop {
        let attempt = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(silent_at)).await;
        match attempt {
            Ok(stream) => queued.push(stream.expect("listening")),
            Err(_) => break true,
        }
        if queued.len() > 100 {
            break false;
        }
    };
    assert!(is_silent, "its queue is never full");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = listener.local_addr().expect("bound");
    let connecting = tokio::time::timeout(Duration::from_secs(10), connect_any(vec![silent_at, there]));
    let stream = connecting.await.expect("in time").expect("the second one answers");
    assert_eq!(stream.peer_addr().expect("connected"), there);
    drop(listener);
    let nobody = tokio::time::timeout(Duration::from_secs(10), connect_any(vec![there, there])).await;
    assert!(nobody.expect("in time").is_err());
}

#[test]
fn the_host_is_the_one_that_is_signed() {
    for (uri, expected) in [
        ("https://a.example:443/b", "a.example"),
        ("http://a.example:80/b", "a.example"),
        ("https://a.example:80/b", "a.example:80"),
        ("https://x:y@a.example:4566/b", "a.example:4566"),
        ("http://[::1]:80/b", "[::1]"),
    ] {
        let uri: Uri = uri.parse().expect("right");
        let mut request = Request::new(SdkBody::empty());
        prepare(&mut request, &uri, None).expect("right");
        assert_eq!(request.headers()[HOST], expected, "{uri}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_of_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let connector = connector(Duration::from_secs(10), None);
    let error = connector.call(post(&format!("http://127.0.0.1:{port}/"))).await.expect_err("nobody");
    assert!(error.is_io(), "{error:?}");
}
