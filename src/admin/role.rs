//! What whoever has logged in to the administration interface may do.

use std::fmt;

/// Each role may do what those before it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at everything.
    #[default]
    View,
    /// Acknowledge alerts, too.
    Acknowledge,
    /// Forget series, clear alerts, drop sinks and load files again, too.
    Operate,
}

impl Role {
    /// The names of all, the least first.
    pub const NAMES: [(&'static str, Role); 3] =
        [("view", Role::View), ("acknowledge", Role::Acknowledge), ("operate", Role::Operate)];

    /// The role of this name.
    pub fn named(name: &str) -> Option<Role> {
        Role::NAMES.iter().find(|(known, _)| *known == name).map(|(_, role)| *role)
    }

    pub fn name(self) -> &'static str {
        match self {
            Role::View => "view",
            Role::Acknowledge => "acknowledge",
            Role::Operate => "operate",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_is_found_by_its_name_and_above_those_before_it() {
        for (name, role) in Role::NAMES {
            assert_eq!((role.name(), Role::named(name)), (name, Some(role)));
        }
        assert!(Role::NAMES.is_sorted_by_key(|(_, role)| *role));
        assert_eq!(Role::named("Operate"), None);
    }
}
