//! `outrider detect` on recorded data.

use std::path::Path;
use std::process::Command;

use crate::client::Client;
use crate::gateway::Gateway;

const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");

/// What the gateway wrote can be given to the detectors again: a file, or the folder with all of them.
#[test]
fn detect_reads_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut client = Client::connect(gateway.mqtt, "d");
    for value in 0..5 {
        client.publish("devices/tank/level", format!("{value}.0").as_bytes());
    }
    client.publish("devices/tank/level", b"nan");
    assert!(gateway.stop().success());
    let detect = |options: &[&str], path: &Path| {
        let output = Command::new(OUTRIDER).arg("detect").args(options).arg(path).output().unwrap();
        let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().unwrap(), text, errors)
    };
    let archive = folder.path().join("state/archive");
    let (code, rows, errors) = detect(&["--stats"], &archive);
    assert_eq!((code, errors.as_str(), rows.lines().count()), (0, "", 6), "{rows}");
    assert!(rows.lines().all(|row| row.starts_with("tank/level,")), "{rows}");
    let (code, rows, _) = detect(&[], &archive);
    assert!(code == 0 && rows.lines().count() == 1 && rows.contains(",NaN,limit,"), "{rows}");
    let header = folder.path().join("header.csv");
    std::fs::write(&header, "series;time;value\n").unwrap();
    let (code, _, errors) = detect(&[], &header);
    assert!(code == 1 && errors.contains("no line could be read"), "{errors}");
    let (code, _, errors) = detect(&[], &folder.path().join("none.csv"));
    assert!(code == 1 && errors.contains("cannot read") && errors.contains("none.csv"), "{errors}");
}
