mod broker;
mod random;

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::LocalSet;

use super::known::line;
use super::sasl::Login;
use super::*;
use crate::sinks::secret::Secret;
use crate::tls::ClientFiles;
use broker::{Brokers, Fault, TOPIC};

/// A gateway's side, whose sink may be killed.
struct World {
    folder: TempDir,
    brokers: Brokers,
    sink: KafkaSink,
    saves: Arc<Saves>,
}

impl World {
    async fn new(nodes: usize, partitions: usize) -> World {
        let (folder, brokers) = (tempfile::tempdir().unwrap(), Brokers::start(nodes, partitions).await);
        let saves = Arc::default();
        let sink = sink(&folder, &brokers, &saves, Login::None);
        World { folder, brokers, sink, saves }
    }

    fn kill(&mut self) {
        self.saves = Arc::default();
        self.sink = sink(&self.folder, &self.brokers, &self.saves, Login::None);
    }

    async fn send(&self, records: &[(&str, &[u64])]) -> Vec<Outcome> {
        self.reply(records).await.outcomes
    }

    async fn reply(&self, records: &[(&str, &[u64])]) -> Reply {
        let records = records.iter().map(|(device, positions)| record(device, positions)).collect();
        tokio::time::timeout(Duration::from_secs(20), self.sink.send(records)).await.expect("an answer")
    }

    /// Until everything is accepted.
    async fn deliver(&self, records: &[(&str, &[u64])]) {
        for _ in 0..10 {
            if self.send(records).await.iter().all(|outcome| !is_failure(outcome)) {
                return;
            }
        }
        panic!("{records:?} is not accepted");
    }

    /// Positions of a device as the topic has them.
    fn positions(&self, device: &str) -> Vec<u64> {
        let values = self.brokers.values(&format!("g/{device}"));
        let position =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["position"].as_u64().unwrap();
        values.iter().flat_map(|value| value.lines().map(position).collect::<Vec<_>>()).collect()
    }
}

fn record(device: &str, positions: &[u64]) -> OutgoingRecord {
    let lines: String = positions.iter().map(|position| line("a", *position)).collect();
    OutgoingRecord { device: device.into(), data: lines.into() }
}

fn access(login: Login, tls: Option<ClientFiles>) -> Access {
    let (connect_timeout, request_timeout) = (Duration::from_secs(10), Duration::from_secs(10));
    Access { client_id: "test".to_owned(), tls, login, connect_timeout, request_timeout, counts: None }
}

fn sink(folder: &TempDir, brokers: &Brokers, saves: &Arc<Saves>, login: Login) -> KafkaSink {
    sink_with(folder, brokers, saves, access(login, None))
}

fn sink_with(folder: &TempDir, brokers: &Brokers, saves: &Arc<Saves>, access: Access) -> KafkaSink {
    let target = KafkaTarget {
        topic: TOPIC.to_owned(),
        gateway: "g".to_owned(),
        compression: Compression::None,
        form: String::new(),
        journal: folder.path().join("test.journal"),
        saves: Arc::clone(saves),
        status: Arc::default(),
    };
    KafkaSink::new(Rc::new(access), brokers.addresses.clone(), target)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn records_go_to_the_partitions_of_their_keys_in_order() {
    run(async {
        let world = World::new(2, 8).await;
        world.deliver(&[("tank", &[1, 2]), ("axle", &[3]), ("door", &[4, 5, 6])]).await;
        world.deliver(&[("axle", &[7]), ("tank", &[8])]).await;
        assert_eq!((world.positions("tank"), world.positions("axle")), (vec![1, 2, 8], vec![3, 7]));
        let state = world.brokers.state.borrow();
        let home = partition_of(b"g/door", 8) as usize;
        assert_eq!(state.logs[home].records.iter().filter(|(key, _)| key == "g/door").count(), 1);
    });
}

#[test]
fn a_lost_answer_is_no_repeat_however_the_records_come_again() {
    run(async {
        let world = World::new(1, 1).await;
        world.brokers.fail([Fault::LostAnswer]);
        let outcomes = world.send(&[("tank", &[1, 2]), ("axle", &[3])]).await;
        assert!(outcomes.iter().all(is_failure), "{outcomes:?}");
        // Alone, and beside another one.
        world.deliver(&[("axle", &[3]), ("door", &[4])]).await;
        world.deliver(&[("tank", &[1, 2])]).await;
        world.deliver(&[("tank", &[5])]).await;
        assert_eq!((world.positions("tank"), world.positions("axle")), (vec![1, 2, 5], vec![3]));
        assert_eq!(world.positions("door"), [4]);
    });
}

#[test]
fn a_kill_between_storing_and_answering_is_no_repeat_and_no_loss() {
    for (has_journal, expected) in [(true, vec![1, 2, 3, 4, 5]), (false, vec![1, 2, 1, 2, 3, 4, 5])] {
        run(async {
            let mut world = World::new(1, 1).await;
            world.brokers.fail([Fault::LostAnswer]);
            world.send(&[("tank", &[1, 2])]).await;
            world.kill();
            if !has_journal {
                std::fs::remove_file(world.folder.path().join("test.journal")).unwrap();
            }
            // The next process gathers lines otherwise.
            world.deliver(&[("tank", &[1, 2, 3, 4, 5])]).await;
            assert_eq!(world.positions("tank"), expected);
        });
    }
}

#[test]
fn what_was_answered_but_not_saved_is_not_sent_again_after_a_kill() {
    run(async {
        let mut world = World::new(1, 4).await;
        for n in 0..10 {
            world.deliver(&[("tank", &[2 * n]), ("axle", &[2 * n + 1])]).await;
        }
        world.kill();
        world.deliver(&[("tank", &[4, 6, 8, 10, 12, 14, 16, 18, 20])]).await;
        world.kill();
        world.deliver(&[("tank", &[12, 14, 16]), ("axle", &[15, 17, 19, 21])]).await;
        world.deliver(&[("tank", &[18, 20, 22])]).await;
        assert_eq!(world.positions("tank"), (0..12).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(world.positions("axle"), (0..11).map(|n| 2 * n + 1).collect::<Vec<_>>());
    });
}

#[test]
fn a_record_that_is_too_large_is_found_among_others() {
    run(async {
        let world = World::new(1, 2).await;
        assert!([b"g/a", b"g/b", b"g/d", b"g/e"].iter().any(|key| partition_of(*key, 2) != partition_of(b"g/c", 2)));
        world.brokers.state.borrow_mut().batch_bytes_max = 800;
        let large: Vec<u64> = (100..120).collect();
        let outcomes = world.send(&[("a", &[1]), ("b", &[2]), ("c", &large), ("d", &[3]), ("e", &[4])]).await;
        assert!(matches!(outcomes[2], Outcome::TooLarge(_)), "{outcomes:?}");
        for (n, outcome) in outcomes.iter().enumerate().filter(|(n, _)| *n != 2) {
            assert!(!is_failure(outcome), "{n}: {outcome:?}");
        }
        world.deliver(&[("c", &[5]), ("a", &[6])]).await;
        assert_eq!((world.positions("c"), world.positions("a")), (vec![5], vec![1, 6]));
        let reply = world.reply(&[("c", &large)]).await;
        assert_eq!(reply.scope, Scope::Request, "where all is refused, the delivery looks for what is to blame");
    });
}

#[test]
fn a_producer_that_a_broker_has_lost_track_of_begins_anew() {
    run(async {
        for code in [45, 47, 59] {
            let world = World::new(1, 1).await;
            world.deliver(&[("tank", &[1])]).await;
            world.brokers.fail([Fault::Code(code)]);
            assert!(world.send(&[("tank", &[2])]).await.iter().all(is_failure));
            world.deliver(&[("tank", &[2])]).await;
            assert_eq!(world.positions("tank"), [1, 2]);
        }
    });
}

#[test]
fn a_repeat_that_is_refused_does_not_give_its_sequence_numbers_to_others() {
    run(async {
        // Of what was stored: a broker looks at size and time of a batch before it looks whether it is a repeat.
        for code in [10, 32, 45, 76, 87] {
            let world = World::new(1, 1).await;
            world.brokers.fail([Fault::LostAnswer, Fault::Code(code)]);
            assert!(world.send(&[("tank", &[1])]).await.iter().all(is_failure));
            world.deliver(&[("axle", &[2])]).await;
            world.deliver(&[("tank", &[1])]).await;
            assert_eq!(world.positions("axle"), [2], "code {code}: taken for a repeat, and lost");
            assert_eq!(world.positions("tank"), [1, 1], "code {code}: it may have been stored, or not");
        }
    });
}

#[test]
fn what_is_forbidden_for_now_is_no_repeat_afterwards() {
    run(async {
        let world = World::new(1, 1).await;
        world.brokers.fail([Fault::LostAnswer, Fault::Code(29), Fault::Code(29)]);
        for _ in 0..3 {
            assert!(world.send(&[("tank", &[1])]).await.iter().all(is_failure));
        }
        world.deliver(&[("tank", &[1]), ("axle", &[2])]).await;
        assert_eq!((world.positions("tank"), world.positions("axle")), (vec![1], vec![2]));
    });
}

#[test]
fn a_refusal_beside_a_leader_that_is_away_gives_nothing_up() {
    run(async {
        let world = World::new(2, 2).await;
        let [here, away] = if partition_of(b"g/tank", 2) == 0 { ["tank", "axle"] } else { ["axle", "tank"] };
        assert_ne!(partition_of(b"g/tank", 2), partition_of(b"g/axle", 2));
        world.deliver(&[("tank", &[1]), ("axle", &[2])]).await;
        world.brokers.state.borrow_mut().leaders[1] = -1;
        world.brokers.fail([Fault::Code(6)]);
        assert!(world.send(&[(away, &[3])]).await.iter().all(is_failure));
        world.brokers.state.borrow_mut().batch_bytes_max = 10;
        let outcomes = world.send(&[(here, &[4]), (away, &[3])]).await;
        assert!(!outcomes.iter().any(is_refusal), "a single line would be given up: {outcomes:?}");
    });
}

#[test]
fn a_topic_that_was_made_anew_with_fewer_partitions_holds_nobody_up() {
    run(async {
        let world = World::new(1, 8).await;
        world.brokers.fail([Fault::LostAnswer]);
        assert!(world.send(&[("tank", &[1])]).await.iter().all(is_failure));
        {
            let mut state = world.brokers.state.borrow_mut();
            state.logs = vec![broker::Log::default()];
            state.leaders = vec![0];
        }
        world.deliver(&[("tank", &[1]), ("axle", &[2])]).await;
        assert_eq!((world.positions("tank"), world.positions("axle")), (vec![1], vec![2]));
    });
}

#[test]
fn a_broker_that_nobody_reaches_does_not_stop_the_others() {
    run(async {
        let mut world = World::new(3, 3).await;
        let names = ["a", "b", "c", "d", "e", "f"];
        let of_0 = names.iter().filter(|name| partition_of(format!("g/{name}").as_bytes(), 3) == 0).count();
        assert!(of_0 > 0 && of_0 < names.len());
        // The one with the lowest number, which metadata goes on naming.
        world.brokers.forget(0).await;
        world.kill();
        let records: Vec<(&str, &[u64])> = names.iter().map(|name| (*name, &[1_u64][..])).collect();
        let outcomes = world.send(&records).await;
        assert_eq!(outcomes.iter().filter(|outcome| is_failure(outcome)).count(), of_0, "{outcomes:?}");
    });
}

#[test]
fn a_new_leader_is_looked_up() {
    run(async {
        let world = World::new(2, 2).await;
        world.deliver(&[("tank", &[1]), ("axle", &[2]), ("door", &[3])]).await;
        world.brokers.state.borrow_mut().leaders = vec![1, 0];
        world.deliver(&[("tank", &[4]), ("axle", &[5]), ("door", &[6])]).await;
        assert_eq!((world.positions("tank"), world.positions("door")), (vec![1, 4], vec![3, 6]));
    });
}

#[test]
fn a_topic_may_appear_later_and_grow() {
    run(async {
        let world = World::new(1, 1).await;
        world.brokers.state.borrow_mut().has_topic = false;
        let outcome = world.send(&[("tank", &[1])]).await.remove(0);
        assert!(
            matches!(&outcome, Outcome::Later { reason, .. } if reason.contains("there is no topic readings")),
            "{outcome:?}"
        );
        world.brokers.state.borrow_mut().has_topic = true;
        world.deliver(&[("tank", &[1])]).await;
        assert_eq!(world.positions("tank"), [1]);
    });
}

#[test]
fn a_broker_that_asks_for_a_pause_gets_it() {
    run(async {
        let world = World::new(1, 1).await;
        world.brokers.fail([Fault::Throttle(300)]);
        world.deliver(&[("tank", &[1])]).await;
        let answered = Instant::now();
        world.deliver(&[("tank", &[2])]).await;
        let second = world.brokers.state.borrow().produced_at[1];
        assert!(second.duration_since(answered) > Duration::from_millis(250), "it was sent too early");
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_is_no_failure() {
    run(async {
        let world = World::new(1, 1).await;
        world.deliver(&[("tank", &[1])]).await;
        world.brokers.close_connections().await;
        let outcomes = world.send(&[("tank", &[2])]).await;
        assert!(!outcomes.iter().any(is_failure), "{outcomes:?}");
    });
}

#[test]
fn a_login_is_made_and_its_failure_is_said() {
    run(async {
        let world = World::new(1, 1).await;
        let plain = |password: &str| Login::Plain { username: "box".to_owned(), password: Secret(password.to_owned()) };
        world.brokers.state.borrow_mut().login = Some(("PLAIN", b"\0box\0right".to_vec()));
        let outcome = async |login| {
            let sink = sink(&world.folder, &world.brokers, &world.saves, login);
            sink.send(vec![record("tank", &[1])]).await.outcomes.remove(0)
        };
        assert!(!is_failure(&outcome(plain("right")).await));
        let refused = outcome(plain("wrong")).await;
        assert!(
            matches!(&refused, Outcome::Halt(text) if text.contains("refuses the login") && !text.contains("wrong")),
            "{refused:?}"
        );
        world.brokers.state.borrow_mut().login = Some(("SCRAM-SHA-512", Vec::new()));
        let unknown = outcome(plain("right")).await;
        assert!(matches!(&unknown, Outcome::Halt(text) if text.contains("but by: SCRAM-SHA-512")), "{unknown:?}");
    });
}

/// Accepts connections one after another; to the first bytes of each it says this, and closes.
async fn other_server(answers: Vec<Vec<u8>>) -> Address {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::task::spawn_local(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    Address { host: "127.0.0.1".to_owned(), port }
}

#[test]
fn where_nobody_listens_or_something_else_does_it_is_said() {
    run(async {
        let mut world = World::new(1, 1).await;
        // Nothing; the alert of a listener that expects TLS; and something of HTTP.
        let alert = vec![21, 3, 3, 0, 2, 2, 80];
        world.brokers.addresses[0] = other_server(vec![Vec::new(), alert, b"HTTP/1.1 400\r\n\r\n".to_vec()]).await;
        world.kill();
        let outcome = async || world.send(&[("tank", &[1])]).await.remove(0);
        let closed = outcome().await;
        assert!(matches!(&closed, Outcome::Unreachable(text) if text.contains("tls = true")), "{closed:?}");
        let alerted = outcome().await;
        assert!(matches!(&alerted, Outcome::Halt(text) if text.contains("speaks TLS; set tls = true")), "{alerted:?}");
        let other = outcome().await;
        assert!(matches!(&other, Outcome::Unreachable(text) if text.contains("none of Kafka's")), "{other:?}");
        let nobody = outcome().await;
        assert!(
            matches!(&nobody, Outcome::Unreachable(text) if text.contains("cannot connect to 127.0.0.1")),
            "{nobody:?}"
        );
    });
}

#[test]
fn tls_is_not_expected_everywhere() {
    run(async {
        let mut world = World::new(1, 1).await;
        world.brokers.addresses[0] = other_server(vec![Vec::new()]).await;
        let authority = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let ca = world.folder.path().join("ca.pem");
        std::fs::write(&ca, authority.cert.pem()).unwrap();
        let files = ClientFiles { ca: Some(ca), identity: None };
        let sink = sink_with(&world.folder, &world.brokers, &world.saves, access(Login::None, Some(files)));
        let outcome = sink.send(vec![record("tank", &[1])]).await.outcomes.remove(0);
        assert!(
            matches!(&outcome, Outcome::Unreachable(text) if text.contains("does this port speak TLS?")),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_login_that_is_wanted_or_not_is_asked_for() {
    run(async {
        let world = World::new(1, 1).await;
        let outcome = async |login| {
            let sink = sink(&world.folder, &world.brokers, &world.saves, login);
            sink.send(vec![record("tank", &[1])]).await.outcomes.remove(0)
        };
        let login = Login::Plain { username: "box".to_owned(), password: Secret("right".to_owned()) };
        let needless = outcome(login).await;
        assert!(
            matches!(&needless, Outcome::Halt(text) if text.contains("takes no login at this port")),
            "{needless:?}"
        );
        world.brokers.state.borrow_mut().login = Some(("PLAIN", b"\0box\0right".to_vec()));
        let missing = outcome(Login::None).await;
        assert!(
            matches!(&missing, Outcome::Unreachable(text) if text.contains("need a login, by sasl?")),
            "{missing:?}"
        );
    });
}
