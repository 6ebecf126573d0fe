//! With whose rights everything is looked at: root may read and write what the gateway's user may not.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::commands::configuration::ConfigArguments;
use crate::disk;
use crate::finding::Finding;

const USERS: &str = "/etc/passwd";

/// A user of the system's own file.
pub struct User {
    pub name: String,
    group: u32,
    home: String,
}

impl User {
    pub fn of(uid: u32) -> Option<User> {
        find(&std::fs::read_to_string(USERS).unwrap_or_default(), uid)
    }
}

fn find(users: &str, uid: u32) -> Option<User> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, of_line, group, _, home, _] = fields.as_slice() else { return None };
        let is_it = of_line.parse() == Ok(uid);
        is_it.then_some(User { name: (*name).to_owned(), group: group.parse().ok()?, home: (*home).to_owned() })
    })
}

/// If root looks at the folder of another user, this process is that user from here on. The only thread calls this; what cannot be done is a finding.
pub fn become_gateways(config: &ConfigArguments) -> Option<Finding> {
    // SAFETY: it has no precondition.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    // What is wrong with the configuration is told later.
    let folder = config.load().ok()?.store.folder;
    let uid = std::fs::metadata(disk::existing_part(&folder)).ok()?.uid();
    if uid == 0 {
        return None;
    }
    let Some(user) = User::of(uid) else {
        return Some(Finding::warning(
            format!(
                "{} belongs to the user {uid}, whom {USERS} does not name: everything is looked at with root's rights",
                folder.display()
            ),
            "run this as the gateway's user",
        ));
    };
    let name = &user.name;
    Some(match become_user(uid, &user) {
        Ok(()) => Finding::well(format!(
            "everything is looked at with the rights of {name}, whose folder {} is",
            folder.display()
        )),
        Err(error) => Finding::warning(
            format!("everything is looked at with root's rights, as {name}'s cannot be taken: {error}"),
            format!("run this as {name}"),
        ),
    })
}

fn become_user(uid: u32, user: &User) -> io::Result<()> {
    let name = CString::new(user.name.as_str())?;
    let done = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: `name` ends in a NUL.
    done(unsafe { libc::initgroups(name.as_ptr(), user.group) })?;
    // SAFETY: neither has a precondition.
    done(unsafe { libc::setgid(user.group) })?;
    // SAFETY: as above.
    done(unsafe { libc::setuid(uid) })?;
    // SAFETY: no other thread is there yet that could read the variables.
    unsafe { std::env::set_var("HOME", &user.home) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nbroken\noutrider:x:998:997::/var/lib/outrider:/usr/sbin/nologin\n";
        let user = find(users, 998).expect("there");
        assert_eq!((user.name.as_str(), user.group, user.home.as_str()), ("outrider", 997, "/var/lib/outrider"));
        assert!(find(users, 997).is_none());
    }
}
