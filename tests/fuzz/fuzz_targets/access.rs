//! Rights, ACL files and users files, and what they decide for one client. Lines: who, topic of a right, user, certificate's name, client id,
//! topic, filter; the rest is a file.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::access::users::Users;
use outrider::core::mqtt::access::{Access, Acl, Action, Allowed, DenyCode, Identity, Right};
use outrider::core::mqtt::topic;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(8, '\n');
    let mut next = || lines.next().unwrap_or("");
    let [who, of_right, user, cn, client_id, topic, filter] = std::array::from_fn(|_| next());
    let file = next();
    let _ = Users::parse(file);
    let acl = Acl::parse(file).ok().map(Arc::new);
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let identity = Identity { name: given(user), user: given(user), cn: given(cn), client_id: client_id.to_owned() };
    let allow = Allowed { publish: true, subscribe: true, acknowledge: user.len() % 2 == 0 };
    let right = Right::new(given(who).as_deref(), of_right, allow, DenyCode::default()).ok();
    for is_open in [false, true] {
        let Ok(access) = Access::new(right.iter().cloned().collect(), acl.clone(), is_open) else { continue };
        let permissions = access.permissions(&identity);
        if topic::check_topic(topic).is_ok() {
            let received = permissions.decide(Action::Receive, topic).outcome.is_ok();
            assert_eq!(received, permissions.receive(topic));
            let published = permissions.decide(Action::Publish, topic).outcome.is_ok();
            assert_eq!(published, permissions.publish(topic).is_ok());
        }
        if topic::check_filter(filter).is_ok() {
            let subscribed = permissions.decide(Action::Subscribe, filter).outcome.is_ok();
            assert_eq!(subscribed, permissions.subscribe(filter).is_ok());
        }
    }
});
