//! The gateway itself, its store, and its administration interface.

use crate::keys::key::Fallback::{Literal, Otherwise};
use crate::keys::key::{Group, Key, count, key_of, milliseconds, seconds, size_or_auto};
use crate::keys::kind::{Kind, Shape};
use crate::keys::units::{GIB, MIB};

#[rustfmt::skip]
pub(super) const GATEWAY: &[Key] = &[
    key_of(Group::Gateway, "id", Kind::Text(Shape::GatewayId), Literal("\"{hostname}-{machine_id_short}\""),
        "Names this gateway in every record; {machine_id_short} is the first 8 characters of {machine_id}."),
    key_of(Group::Gateway, "shutdown_grace", seconds(0, 600), Literal("\"10s\""),
        "How long sinks may go on sending after the signal to stop; what is left is sent after the next start."),
];

#[rustfmt::skip]
pub(super) const STORE: &[Key] = &[
    key_of(Group::Store, "path", Kind::Text(Shape::Folder),
        Otherwise { meaning: "$STATE_DIRECTORY, else ~/.local/state/outrider", example: "\"/var/lib/outrider\"" },
        "The state folder: the store, its lock and the local archive."),
    key_of(Group::Store, "size_max", size_or_auto(16 * MIB, 1024 * GIB), Literal("\"auto\""),
        "How much of the disk the store may use; auto is the smaller of 4 GiB and half of what was free when it was created."),
    key_of(Group::Store, "when_full", Kind::Choice(&["drop_oldest", "refuse"]), Literal("\"drop_oldest\""),
        "When size_max is reached: drop the oldest readings, counted, or acknowledge nothing more until there is room."),
    key_of(Group::Store, "free_space_min", size_or_auto(0, 1024 * GIB), Literal("\"auto\""),
        "How much of the disk the store leaves free; auto is the smaller of 512 MiB and a tenth of the disk."),
    key_of(Group::Store, "history", seconds(0, 366 * 86_400), Literal("\"24h\""),
        "How long delivered data stays readable here, for charts and detect --from-store. It takes at most half of the store, and is the first to give way; 0 keeps nothing."),
    key_of(Group::Store, "commit_delay", milliseconds(1, 1000), Literal("\"40ms\""),
        "How long a reading that somebody waits for may be held back, so that several are made durable together; a quarter of this while only one client is sending."),
    key_of(Group::Store, "commit_delay_max", milliseconds(1, 10_000), Literal("\"1s\""),
        "How long a reading may wait for its acknowledgement if its client keeps sending without it, no subscriber matches it, and no alert is due. Longer means fewer writes to the disk."),
    key_of(Group::Store, "commit_readings", count(1, 100_000), Literal("500"),
        "This many readings are made durable without waiting for more."),
];

#[rustfmt::skip]
pub(super) const ADMIN: &[Key] = &[
    key_of(Group::Admin, "listen", Kind::Listen { off: true }, Literal("\"127.0.0.1:9464\""),
        "Where the status page, /api/status, /healthz, /readyz and /metrics are served; 0.0.0.0:9464 opens it to the network, which needs TLS, and tokens or \
         client_ca."),
    key_of(Group::Admin, "tls_certificate", Kind::Text(Shape::Path), Otherwise { meaning: "no TLS", example: "\"certificates/server.pem\"" },
        "Its certificate in PEM, with those between it and its CA. A relative path is beside this file, as those below; the files are read again when \
         they change."),
    key_of(Group::Admin, "tls_key", Kind::Text(Shape::Path), Otherwise { meaning: "no TLS", example: "\"certificates/server.key\"" },
        "The private key that belongs to it."),
    key_of(Group::Admin, "tokens", Kind::Text(Shape::Path), Otherwise { meaning: "nobody needs a token", example: "\"tokens\"" },
        "A file with the tokens that let in, made by `outrider token add`. Each has a role: view, acknowledge (alerts) or operate (forget, clear, drop and \
         reload). Programs send it as Authorization: Bearer TOKEN, the page asks for it."),
    key_of(Group::Admin, "client_ca", Kind::Texts { shape: Shape::Path, count_max: 16 }, Otherwise { meaning: "certificates let nobody in", example: "[\"certificates/ca.pem\"]" },
        "Files with the CAs whose certificates let in: also those of devices, if it is the CA of devices. With tokens either is enough; without, there is no \
         connection without a certificate."),
    key_of(Group::Admin, "client_crl", Kind::Texts { shape: Shape::Path, count_max: 16 }, Otherwise { meaning: "no certificate is revoked", example: "[\"certificates/crl.pem\"]" },
        "Files with revocation lists of these CAs. Certificates of a CA without a list count as not revoked."),
    key_of(Group::Admin, "client_role", Kind::Choice(&["view", "acknowledge", "operate"]), Literal("\"view\""),
        "What whoever shows such a certificate may do."),
    key_of(Group::Admin, "insecure", Kind::Boolean, Literal("false"),
        "Whether it may be open to the network without TLS, or without authentication."),
    key_of(Group::Admin, "hosts", Kind::Texts { shape: Shape::HostName, count_max: 32 }, Literal("[]"),
        "Further host names that it answers to, such as gateway.example.com; IP addresses, localhost, the machine's own name and names without \
         a dot always work."),
];
