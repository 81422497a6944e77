//! Which Kubernetes API servers Tradewind works with: it needs what 1.30 made generally available or enabled
//! by default (native sidecars, admission policies and CEL rules). Pure; the operator asks the server and calls
//! this before anything else.

use k8s_openapi::apimachinery::pkg::version::Info;

/// The oldest API server that has all that Tradewind relies on.
pub const MINIMUM: ServerVersion = ServerVersion { major: 1, minor: 30 };

/// The version of an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerVersion {
    /// The first number.
    pub major: u32,
    /// The second number; providers' suffixes such as the `+` of `30+` are dropped.
    pub minor: u32,
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why an API server is not one to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedServer {
    /// It is older than [`MINIMUM`].
    #[error("the API server is Kubernetes {found}; Tradewind needs {MINIMUM} or later: upgrade the cluster")]
    TooOld {
        /// What the server says it is.
        found: ServerVersion,
    },
    /// It does not say what it is in the way Kubernetes does.
    #[error("the API server gives its version as {major:?}.{minor:?}, which is not a Kubernetes version")]
    Unreadable {
        /// The first part, as given.
        major: String,
        /// The second part, as given.
        minor: String,
    },
}

/// Checks what `GET /version` answered.
pub fn check(info: &Info) -> Result<ServerVersion, UnsupportedServer> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|digits| digits.parse().ok())
    };
    let (Some(major), Some(minor)) = (number(&info.major), number(&info.minor)) else {
        return Err(UnsupportedServer::Unreadable {
            major: info.major.clone(),
            minor: info.minor.clone(),
        });
    };
    let found = ServerVersion { major, minor };
    if found < MINIMUM {
        Err(UnsupportedServer::TooOld { found })
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_version(major: &str, minor: &str) -> Result<ServerVersion, UnsupportedServer> {
        check(&Info {
            major: major.into(),
            minor: minor.into(),
            ..Info::default()
        })
    }

    #[test]
    fn servers_from_1_30_on_are_taken() {
        for (major, minor) in [("1", "30"), ("1", "30+"), ("1", "36"), ("2", "0")] {
            assert!(check_version(major, minor).is_ok(), "{major}.{minor}");
        }
    }

    #[test]
    fn older_servers_are_refused_with_what_to_do() {
        for (major, minor) in [("1", "29"), ("1", "29+"), ("0", "99")] {
            let refusal = check_version(major, minor).unwrap_err();
            assert!(refusal.to_string().contains("needs 1.30 or later"), "{refusal}");
        }
    }

    #[test]
    fn what_is_no_version_is_not_guessed_at() {
        for (major, minor) in [
            ("", ""),
            ("1", ""),
            ("v1", "30"),
            ("1", "x30"),
            ("1", "99999999999"),
        ] {
            let refused = check_version(major, minor);
            assert!(
                matches!(refused, Err(UnsupportedServer::Unreadable { .. })),
                "{major}.{minor}: {refused:?}"
            );
        }
    }
}
