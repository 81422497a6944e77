//! The scalar types that the custom resources carry as text: each with its schema, its rule, and a message
//! that says how to write it. Parsing goes no further than what Kubernetes itself defines (quantities,
//! durations); amounts, addresses, hashes and index sets are given a meaning elsewhere.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Text that is not what its type says. The API server's rules keep such text out of stored objects; an object
/// that was stored under an older schema can still hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct MalformedText {
    /// The text as found.
    pub text: String,
    /// What it should have been, with an example.
    pub expected: &'static str,
}

/// What makes text a span of time, for rules that go on to compare it.
pub(crate) const DURATION_RULE: &str =
    "self.matches('^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self.matches('[1-9]')";

/// Declares a text type. People write the ones with a `rule`, and its message tells them how; the ones with a
/// `pattern` are written by operators only, where the cheaper native check is enough.
macro_rules! text {
    ($(#[$meta:meta])* $name:ident { max_length: $max_length:literal, rule: $rule:expr, message: $message:expr $(,)? }) => {
        text! {
            $(#[$meta])* $name {
                "type": "string",
                "maxLength": $max_length,
                "x-kubernetes-validations": [{"rule": $rule, "message": $message}],
            }
        }
    };
    ($(#[$meta:meta])* $name:ident { max_length: $max_length:literal, pattern: $pattern:expr $(,)? }) => {
        text! { $(#[$meta])* $name { "type": "string", "maxLength": $max_length, "pattern": $pattern } }
    };
    ($(#[$meta:meta])* $name:ident { $($schema:tt)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ $($schema)+ })
            }
        }
    };
}

text! {
    /// An amount of a token, in whole tokens, as a decimal string: `"8.00"`. Compared and converted exactly,
    /// never as a floating-point number. How many decimals the token has is known only on chain.
    AmountText {
        max_length: 80,
        rule: r"self.matches('^(0|[1-9][0-9]*)([.][0-9]+)?$')",
        message: r#"must be an amount in whole tokens as a quoted decimal string such as "8.00": digits, at most one point, no sign, no exponent"#,
    }
}

text! {
    /// An account or contract on the chain: `0x` and 40 hexadecimal digits, in any case.
    AddressText {
        max_length: 42,
        rule: "self.matches('^0x[0-9a-fA-F]{40}$')",
        message: r#"must be an account or contract address: "0x" and 40 hexadecimal digits, in quotes"#,
    }
}

text! {
    /// A 32-byte hash as the chain knows it: `0x` and 64 lower-case hexadecimal digits.
    HashText {
        max_length: 66,
        pattern: "^0x[0-9a-f]{64}$",
    }
}

text! {
    /// An amount in base units of a token, as the chain counts it: a whole number in text, because it may exceed
    /// what JSON numbers carry exactly.
    BaseUnitsText {
        max_length: 39,
        pattern: "^(0|[1-9][0-9]*)$",
    }
}

text! {
    /// The BLAKE3 digest of bytes: `blake3:` and 64 lower-case hexadecimal digits, as `b3sum` prints them.
    DigestText {
        max_length: 71,
        rule: "self.matches('^blake3:[0-9a-f]{64}$')",
        message: r#"must be a BLAKE3 digest: "blake3:" and the 64 lower-case hexadecimal digits that b3sum prints"#,
    }
}

text! {
    /// A host that a job may reach, with its port if it is not 443: `pypi.example`, `data.example:8443`.
    HostText {
        max_length: 128,
        rule: "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[1-9][0-9]{0,4})?$')",
        message: r#"must be a host name in lower case or an IPv4 address, with a port if it is not 443, such as "pypi.example" or "data.example:8443": no scheme, no path"#,
    }
}

text! {
    /// Hosts that an offer allows: one, everything below a domain, or any: `pypi.example`, `*.pypi.example`, `*:443`.
    HostPatternText {
        max_length: 128,
        rule: "self.matches('^([*]|([*][.])?[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(:[1-9][0-9]{0,4})?$')",
        message: r#"must be a host name, "*." and a domain, or "*" for any host, with an optional port, such as "pypi.example", "*.pypi.example" or "*:443""#,
    }
}

text! {
    /// A number of CPUs: `"2"`, `"0.5"` or `"500m"`.
    CpuQuantity {
        max_length: 16,
        rule: "self.matches('^([0-9]{1,6}([.][0-9]{1,3})?|[0-9]{1,9}m)$') && self.matches('[1-9]')",
        message: r#"must be a number of CPUs greater than zero, in quotes, such as "2", "0.5" or "500m""#,
    }
}

text! {
    /// A number of bytes: `2Gi`, `500M`, `1024`.
    ByteQuantity {
        max_length: 16,
        rule: "self.matches('^[0-9]{1,12}(k|M|G|T|Ki|Mi|Gi|Ti)?$')",
        message: r#"must be a whole number of bytes with an optional unit (k, M, G, T, Ki, Mi, Gi, Ti), such as "2Gi""#,
    }
}

text! {
    /// A span of time: `2h`, `90m`, `1h30m`, `45s`.
    DurationText {
        max_length: 16,
        rule: DURATION_RULE,
        message: r#"must be a span of time greater than zero in hours, minutes and seconds, such as "2h", "90m" or "1h30m""#,
    }
}

text! {
    /// A set of 0-based indexes in the way of an Indexed Job: ascending intervals `0-39,48`, empty for none.
    IndexesText {
        max_length: 131_072,
        pattern: "^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$",
    }
}

impl DigestText {
    /// The hexadecimal digits without the `blake3:` before them.
    pub fn hex(&self) -> Result<&str, MalformedText> {
        self.0
            .strip_prefix("blake3:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
            .ok_or_else(|| malformed(&self.0, "\"blake3:\" and 64 lower-case hexadecimal digits"))
    }
}

impl CpuQuantity {
    /// Thousandths of a CPU, exactly.
    pub fn millicores(&self) -> Result<u64, MalformedText> {
        let parse = || {
            if let Some(millis) = self.0.strip_suffix('m') {
                return digits(millis);
            }
            let (whole, fraction) = self.0.split_once('.').unwrap_or((&self.0, "0"));
            if fraction.is_empty() || fraction.len() > 3 {
                return None;
            }
            let thousandths = digits(&format!("{fraction:0<3}"))?;
            digits(whole)?.checked_mul(1000)?.checked_add(thousandths)
        };
        parse().ok_or_else(|| malformed(&self.0, "a number of CPUs such as \"2\", \"0.5\" or \"500m\""))
    }
}

impl ByteQuantity {
    /// Bytes, exactly.
    pub fn bytes(&self) -> Result<u64, MalformedText> {
        const UNITS: [(&str, u64); 8] = [
            ("Ki", 1 << 10),
            ("Mi", 1 << 20),
            ("Gi", 1 << 30),
            ("Ti", 1 << 40),
            ("k", 1_000),
            ("M", 1_000_000),
            ("G", 1_000_000_000),
            ("T", 1_000_000_000_000),
        ];
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| Some((self.0.strip_suffix(suffix)?, *unit)))
            .unwrap_or((&self.0, 1));
        digits(number)
            .and_then(|number| number.checked_mul(unit))
            .ok_or_else(|| malformed(&self.0, "a number of bytes such as \"2Gi\""))
    }
}

impl DurationText {
    /// Seconds, exactly.
    pub fn seconds(&self) -> Result<u64, MalformedText> {
        let parse = || {
            let mut rest = self.0.as_str();
            let mut seconds = 0_u64;
            for (unit, length) in [('h', 3600_u64), ('m', 60), ('s', 1)] {
                if let Some((number, after)) = rest.split_once(unit) {
                    seconds = seconds.checked_add(digits(number)?.checked_mul(length)?)?;
                    rest = after;
                }
            }
            (rest.is_empty() && seconds > 0).then_some(seconds)
        };
        parse().ok_or_else(|| malformed(&self.0, "a span of time such as \"2h\", \"90m\" or \"1h30m\""))
    }
}

fn malformed(text: &str, expected: &'static str) -> MalformedText {
    MalformedText {
        text: text.to_owned(),
        expected,
    }
}

/// Only digits: `u64::from_str` would also take a sign.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_quantities_are_exact_thousandths() {
        for (text, millicores) in [
            ("2", 2000),
            ("0.5", 500),
            ("500m", 500),
            ("1.25", 1250),
            ("0.001", 1),
        ] {
            assert_eq!(CpuQuantity::from(text).millicores(), Ok(millicores), "{text}");
        }
        for text in ["", "m", "-1", "+1", "1.", "1.2345", "1k", ".5", "1 "] {
            assert!(CpuQuantity::from(text).millicores().is_err(), "{text}");
        }
    }

    #[test]
    fn byte_quantities_are_exact_and_refuse_what_overflows() {
        for (text, bytes) in [
            ("1024", 1024),
            ("2Gi", 2 << 30),
            ("500M", 500_000_000),
            ("0", 0),
            ("3k", 3000),
        ] {
            assert_eq!(ByteQuantity::from(text).bytes(), Ok(bytes), "{text}");
        }
        for text in ["", "Gi", "1.5Gi", "-1", "1gi", "99999999999999Ti"] {
            assert!(ByteQuantity::from(text).bytes().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_add_their_parts_in_order() {
        for (text, seconds) in [
            ("2h", 7200),
            ("90m", 5400),
            ("1h30m", 5400),
            ("45s", 45),
            ("1h1m1s", 3661),
        ] {
            assert_eq!(DurationText::from(text).seconds(), Ok(seconds), "{text}");
        }
        for text in ["", "0s", "10", "1m1h", "1d", "-1h", "1.5h", "h"] {
            assert!(DurationText::from(text).seconds().is_err(), "{text}");
        }
    }

    #[test]
    fn digests_are_read_only_with_their_algorithm() {
        let hex = "ab".repeat(32);
        assert_eq!(DigestText(format!("blake3:{hex}")).hex(), Ok(hex.as_str()));
        assert!(DigestText(hex.clone()).hex().is_err());
        assert!(
            DigestText(format!("blake3:{}", hex.to_uppercase()))
                .hex()
                .is_err()
        );
    }
}
