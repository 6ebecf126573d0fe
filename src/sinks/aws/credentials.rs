//! Where AWS credentials may come from, without a network request: tells a configuration without any credentials from one whose credentials
//! are wrong.

use std::error::Error;
use std::path::PathBuf;

use super::role_alias::RoleAliasError;
use crate::core::delivery::Outcome;
use crate::errors::{causes, with_causes};

/// The advice given if there are none.
pub const REMEDY: &str = "no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of \
                          ~/.aws/credentials or ~/.aws/config, or credentials_endpoint and role_alias in [aws], or run where an instance or container \
                          role is";

/// Environment variables, each of which names a source.
const VARIABLES: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
/// Keys of a profile that lead to credentials; a region alone does not.
const PROFILE_KEYS: [&str; 6] =
    ["aws_access_key_id", "credential_process", "sso_", "role_arn", "credential_source", "web_identity_token_file"];
/// A longer file is not taken for a profile.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The outcome of a failure that is, or is because of, one of a role alias.
pub fn of_role_alias(error: &(dyn Error + 'static)) -> Option<Outcome> {
    let error = causes(error).find_map(|cause| cause.downcast_ref::<RoleAliasError>())?;
    let text = with_causes(error);
    Some(if error.is_passing() { Outcome::Unreachable(text) } else { Outcome::Halt(text) })
}

/// Whether the environment or the profile files name a source. An instance role can only be found by asking the network.
pub fn is_any_configured() -> bool {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let is_named = VARIABLES.iter().any(|name| variable(name).is_some());
    let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |name: &str, usual: &str| variable(name).map_or_else(|| home.join(usual), PathBuf::from);
    is_named
        || has_source(file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"))
        || has_source(file("AWS_CONFIG_FILE", ".aws/config"))
}

fn has_source(file: PathBuf) -> bool {
    if std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > FILE_BYTES_MAX) {
        return true;
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| PROFILE_KEYS.iter().any(|key| line.trim_start().starts_with(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_with_a_region_alone_has_no_credentials() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("config");
        for (text, expected) in [
            ("[default]\nregion = eu-central-1\n# aws_access_key_id = x\n", false),
            ("[default]\naws_access_key_id = x\n", true),
            ("[profile a]\n  role_arn = arn\n", true),
        ] {
            std::fs::write(&file, text).expect("a file");
            assert_eq!(has_source(file.clone()), expected, "{text}");
        }
        assert!(!has_source(folder.path().join("none")));
    }
}
