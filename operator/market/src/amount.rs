//! Money: amounts in a token's base units, prices, shares in basis points, and their decimal text.
//!
//! Owns every multiplication and division of money, with the direction of rounding in the function's name.
//! It never uses floats and never wraps or saturates: what does not fit is `None` or an error.

use std::fmt;
use std::iter;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::Seconds;

/// One whole, in basis points.
pub const BPS_ONE: u32 = 10_000;

/// How many decimal places a token has, 0 to 38 (10^38 is the largest power that fits an amount).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Decimals(u8);

impl Decimals {
    /// The largest number of places.
    pub const MAX: u8 = 38;

    /// `None` above [`Decimals::MAX`].
    pub const fn new(places: u8) -> Option<Self> {
        if places <= Self::MAX {
            Some(Self(places))
        } else {
            None
        }
    }

    /// The number of places.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Decimals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let places = u8::deserialize(deserializer)?;
        Self::new(places).ok_or_else(|| de::Error::custom(ParseAmountError::TooManyDecimals))
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not digits with at most one point between them.
    #[error("expected a decimal number such as \"1.25\", without sign, exponent or spaces")]
    Syntax,
    /// More places than the token has, and rounding was not allowed.
    #[error("more decimal places than the token's {decimals}")]
    TooPrecise {
        /// The token's decimal places.
        decimals: u8,
    },
    /// Does not fit 128 bits of base units.
    #[error("the amount is too large")]
    TooLarge,
    /// The token says it has more than 38 places.
    #[error("tokens of more than 38 decimal places are not supported")]
    TooManyDecimals,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Excess {
    Refuse,
    Drop,
    RoundUp,
}

fn parse_decimal(text: &str, decimals: Decimals, excess: Excess) -> Result<u128, ParseAmountError> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return Err(ParseAmountError::Syntax),
        Some(parts) => parts,
        None => (text, ""),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(ParseAmountError::Syntax);
    }
    let places = usize::from(decimals.0);
    let kept = fraction.bytes().chain(iter::repeat(b'0')).take(places);
    let dropped_something = fraction.bytes().skip(places).any(|digit| digit != b'0');
    if dropped_something && excess == Excess::Refuse {
        return Err(ParseAmountError::TooPrecise { decimals: decimals.0 });
    }
    let floor = whole.bytes().chain(kept).try_fold(0u128, |sum, digit| {
        sum.checked_mul(10)?
            .checked_add(u128::from(digit.checked_sub(b'0')?))
    });
    let up = u128::from(dropped_something && excess == Excess::RoundUp);
    floor
        .and_then(|floor| floor.checked_add(up))
        .ok_or(ParseAmountError::TooLarge)
}

fn format_decimal(base_units: u128, decimals: Decimals) -> String {
    let digits = format!(
        "{base_units:0>width$}",
        width = usize::from(decimals.0).saturating_add(1)
    );
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(usize::from(decimals.0)));
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

macro_rules! base_units {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u128);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// The most that fits.
            pub const MAX: Self = Self(u128::MAX);

            /// From base units.
            pub const fn from_base_units(base_units: u128) -> Self {
                Self(base_units)
            }

            /// In base units.
            pub const fn base_units(self) -> u128 {
                self.0
            }

            /// Whether it is nothing.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// From a decimal text in whole tokens; more places than the token has are refused.
            pub fn from_decimal_exact(text: &str, decimals: Decimals) -> Result<Self, ParseAmountError> {
                parse_decimal(text, decimals, Excess::Refuse).map(Self)
            }

            /// From a decimal text in whole tokens, excess places dropped.
            pub fn from_decimal_rounding_down(text: &str, decimals: Decimals) -> Result<Self, ParseAmountError> {
                parse_decimal(text, decimals, Excess::Drop).map(Self)
            }

            /// From a decimal text in whole tokens, excess places rounded up.
            pub fn from_decimal_rounding_up(text: &str, decimals: Decimals) -> Result<Self, ParseAmountError> {
                parse_decimal(text, decimals, Excess::RoundUp).map(Self)
            }

            /// The exact decimal text in whole tokens, without trailing zeros.
            pub fn to_decimal(self, decimals: Decimals) -> String {
                format_decimal(self.0, decimals)
            }
        }

        impl fmt::Display for $name {
            /// Base units.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseAmountError;
            /// Base units, digits only.
            fn from_str(text: &str) -> Result<Self, ParseAmountError> {
                parse_decimal(text, Decimals(0), Excess::Refuse).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

base_units!(
    /// An amount of one token, in its base units. In JSON a decimal string of base units.
    TokenAmount
);
base_units!(
    /// Base units of one token per slot and second. In JSON a decimal string of base units.
    PricePerSlotSecond
);

impl TokenAmount {
    /// The sum, or `None` if it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` if `other` is larger.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `count` times the amount, or `None` if it does not fit.
    pub fn checked_mul(self, count: u64) -> Option<Self> {
        self.0.checked_mul(u128::from(count)).map(Self)
    }

    /// The sum of all, or `None` if it does not fit.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// `share` of the amount, rounded down as Solidity's `amount * share / 10000` does.
    pub fn share_rounding_down(self, share: Bps) -> Option<Self> {
        let (units, rest) = self.scaled(share)?;
        units
            .checked_add(rest.checked_div(u128::from(BPS_ONE))?)
            .map(Self)
    }

    /// `share` of the amount, rounded up.
    pub fn share_rounding_up(self, share: Bps) -> Option<Self> {
        let (units, rest) = self.scaled(share)?;
        units.checked_add(rest.div_ceil(u128::from(BPS_ONE))).map(Self)
    }

    /// `self * share` as whole wholes and a rest over 10,000, so that the product itself need not fit.
    fn scaled(self, share: Bps) -> Option<(u128, u128)> {
        let one = u128::from(BPS_ONE);
        let share = u128::from(share.0);
        let wholes = self.0.checked_div(one)?.checked_mul(share)?;
        let rest = self.0.checked_rem(one)?.checked_mul(share)?;
        Some((wholes, rest))
    }
}

impl PricePerSlotSecond {
    /// What one slot costs for `seconds`, or `None` if it does not fit.
    pub fn checked_mul_seconds(self, seconds: Seconds) -> Option<TokenAmount> {
        self.0.checked_mul(u128::from(seconds.get())).map(TokenAmount)
    }

    /// The highest price per slot-second at which `seconds` cost at most `cap`; `None` for zero seconds.
    pub fn from_cap_rounding_down(cap: TokenAmount, seconds: Seconds) -> Option<Self> {
        cap.0.checked_div(u128::from(seconds.get())).map(Self)
    }
}

/// Hundredths of a percent. Factors above one (a bond of 150 % is 15,000) are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bps(u32);

impl Bps {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The whole.
    pub const ONE: Self = Self(BPS_ONE);

    /// From hundredths of a percent.
    pub const fn new(bps: u32) -> Self {
        Self(bps)
    }

    /// In hundredths of a percent.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Bps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = format_decimal(u128::from(self.0), Decimals(2));
        write!(f, "{percent} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(n: u8) -> Decimals {
        Decimals::new(n).unwrap()
    }

    #[test]
    fn decimal_texts_are_read_exactly_or_refused() {
        let check = |text: &str, decimals: u8, expected: Result<u128, ParseAmountError>| {
            let found = TokenAmount::from_decimal_exact(text, places(decimals));
            assert_eq!(
                found.map(TokenAmount::base_units),
                expected,
                "{text} at {decimals}"
            );
        };
        check("0.02", 6, Ok(20_000));
        check("8.00", 6, Ok(8_000_000));
        check("8", 0, Ok(8));
        check("0.0000010", 6, Ok(1));
        check("007", 2, Ok(700));
        check("0.0000001", 6, Err(ParseAmountError::TooPrecise { decimals: 6 }));
        for bad in [
            "", ".", "1.", ".5", "-1", "+1", "1e3", " 1", "1 ", "1,5", "1.2.3", "0x10", "١",
        ] {
            check(bad, 6, Err(ParseAmountError::Syntax));
        }
        check("340282366920938463463374607431768211455", 0, Ok(u128::MAX));
        check(
            "340282366920938463463374607431768211456",
            0,
            Err(ParseAmountError::TooLarge),
        );
        check("4", 38, Err(ParseAmountError::TooLarge));
        assert_eq!(Decimals::new(39), None);
    }

    #[test]
    fn rounding_goes_the_way_the_name_says() {
        let down = TokenAmount::from_decimal_rounding_down("0.0199", places(3)).unwrap();
        let up = TokenAmount::from_decimal_rounding_up("0.0199", places(3)).unwrap();
        assert_eq!((down.base_units(), up.base_units()), (19, 20));
        let amount = TokenAmount::from_base_units(101);
        assert_eq!(amount.share_rounding_down(Bps::new(150)).unwrap().base_units(), 1);
        assert_eq!(amount.share_rounding_up(Bps::new(150)).unwrap().base_units(), 2);
        assert_eq!(
            TokenAmount::MAX.share_rounding_down(Bps::ONE),
            Some(TokenAmount::MAX)
        );
        assert_eq!(TokenAmount::MAX.share_rounding_up(Bps::new(10_001)), None);
        assert_eq!(Bps::new(150).to_string(), "1.5 %");
    }

    proptest! {
        #[test]
        fn decimal_text_round_trips(units in any::<u128>(), decimals in 0u8..=38) {
            let amount = TokenAmount::from_base_units(units);
            let text = amount.to_decimal(places(decimals));
            prop_assert_eq!(TokenAmount::from_decimal_exact(&text, places(decimals)), Ok(amount));
            let json = serde_json::to_string(&amount).unwrap();
            prop_assert_eq!(serde_json::from_str::<TokenAmount>(&json).unwrap(), amount);
        }

        #[test]
        fn shares_are_those_of_wide_arithmetic(units in 0u128..u128::MAX / 40_000, share in 0u32..40_000) {
            let exact = units * u128::from(share);
            let amount = TokenAmount::from_base_units(units);
            prop_assert_eq!(amount.share_rounding_down(Bps::new(share)).unwrap().base_units(), exact / 10_000);
            prop_assert_eq!(amount.share_rounding_up(Bps::new(share)).unwrap().base_units(), exact.div_ceil(10_000));
        }
    }
}
