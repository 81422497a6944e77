//! A job's terms and what it asks of offers, out of its object and the operator's settings.
//!
//! Pure. Amounts become base units here, exactly or not at all.

use std::collections::BTreeSet;

use tradewind_crds::{ComputeJobSpec, scalar::MalformedText, template};
use tradewind_market::{
    Address, Bps, ClassId, Decimals, Hash32, Seconds, Slots, Terms, TokenAmount, Units, UnixSeconds,
    amount::ParseAmountError,
    egress::{Host, HostError},
    geometry::{DivisionRefusal, divide},
    ids::ParseIdError,
    matching::Weights,
    offer::SlotSize,
    terms::{Content, Policy, Pricing, Redundancy, Shape, TermsRefusal, Windows},
};

use crate::args::{MoneyArgs, WindowArgs};

/// Why an object gives no terms.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecRefusal {
    /// An amount has more decimals than the token, or is too large.
    #[error("{field}: {source}")]
    Amount {
        /// Which field.
        field: &'static str,
        /// Why.
        source: ParseAmountError,
    },
    /// A quantity or duration cannot be read.
    #[error(transparent)]
    Quantity(#[from] MalformedText),
    /// An address cannot be read.
    #[error("{field}: {source}")]
    Address {
        /// Which field.
        field: &'static str,
        /// Why.
        source: ParseIdError,
    },
    /// A host cannot be read.
    #[error(transparent)]
    Host(#[from] BadHost),
    /// The units cannot be divided as asked.
    #[error(transparent)]
    Division(#[from] DivisionRefusal),
    /// The market would not open a job on such terms.
    #[error("the market would not take these terms: {0}")]
    Terms(#[from] TermsRefusal),
    /// A number does not fit.
    #[error("{field} is too large")]
    TooLarge {
        /// Which field.
        field: &'static str,
    },
}

/// A host that a job asks to reach cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("template.egress: {host}: {source}")]
pub(crate) struct BadHost {
    host: String,
    source: HostError,
}

/// What of a spec decides about money and placement, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The token.
    pub(crate) token: Address,
    /// Most to pay for one unit and seat.
    pub(crate) price_cap: TokenAmount,
    /// Most to spend in all.
    pub(crate) budget: TokenAmount,
    /// How the units are divided.
    pub(crate) units_per_slice: Units,
    /// Slices that are agreed on together.
    pub(crate) slices_per_group: u32,
    /// Time from the opening to the last result.
    pub(crate) deadline: Seconds,
    /// What a slot must have.
    pub(crate) slot: SlotSize,
    /// Hosts that a unit must be able to reach.
    pub(crate) hosts: Vec<Host>,
    /// Regions that will do; empty for any.
    pub(crate) regions: BTreeSet<String>,
    /// GPU models that will do; empty for any.
    pub(crate) gpu_models: BTreeSet<String>,
    /// Providers that may run it; empty for any.
    pub(crate) allow: BTreeSet<Address>,
    /// Providers that may not.
    pub(crate) deny: BTreeSet<Address>,
    /// What matters how much.
    pub(crate) weights: Weights,
}

/// The hosts that a unit must be able to reach.
pub(crate) fn hosts(template: &template::Template) -> Result<Vec<Host>, BadHost> {
    let parse = |text: &tradewind_crds::scalar::HostText| {
        text.as_str().parse().map_err(|source| BadHost {
            host: text.to_string(),
            source,
        })
    };
    template.egress.iter().map(parse).collect()
}

/// The token that the job pays in.
pub(crate) fn token(spec: &ComputeJobSpec) -> Result<Address, SpecRefusal> {
    address("payment.token", spec.payment.token.as_str())
}

/// Parses what decides about money and placement.
pub(crate) fn parse(spec: &ComputeJobSpec, decimals: Decimals) -> Result<Asked, SpecRefusal> {
    let amount = |field, text: &str| {
        TokenAmount::from_decimal_exact(text, decimals)
            .map_err(|source| SpecRefusal::Amount { field, source })
    };
    let division = divide(
        Units::new(spec.completions),
        Seconds::new(spec.template.seconds_per_unit.into()),
        spec.slice.map(Units::new),
        spec.slices_per_group,
    )?;
    let addresses = |field, list: &[tradewind_crds::scalar::AddressText]| {
        list.iter()
            .map(|text| address(field, text.as_str()))
            .collect::<Result<BTreeSet<_>, _>>()
    };
    let resources = &spec.template.resources;
    let placement = &spec.placement;
    Ok(Asked {
        token: token(spec)?,
        price_cap: amount(
            "payment.maxPricePerUnit",
            spec.payment.max_price_per_unit.as_str(),
        )?,
        budget: amount("payment.budget", spec.payment.budget.as_str())?,
        units_per_slice: division.units_per_slice,
        slices_per_group: division.slices_per_group,
        deadline: Seconds::new(spec.deadline.seconds()?),
        slot: SlotSize {
            cpu_millis: resources.cpu.millicores()?,
            memory_bytes: resources.memory.bytes()?,
            disk_bytes: resources.disk.bytes()?,
            gpus: resources.gpu.count,
            gpu_memory_bytes: placement.min_gpu_memory.bytes()?,
        },
        hosts: hosts(&spec.template)?,
        regions: placement.regions.iter().cloned().collect(),
        gpu_models: placement.gpu_models.iter().cloned().collect(),
        allow: addresses("placement.providers.allow", &placement.providers.allow)?,
        deny: addresses("placement.providers.deny", &placement.providers.deny)?,
        weights: Weights {
            price: spec.preference.price,
            speed: spec.preference.speed,
            reliability: spec.preference.reliability,
        },
    })
}

fn address(field: &'static str, text: &str) -> Result<Address, SpecRefusal> {
    text.parse()
        .map_err(|source| SpecRefusal::Address { field, source })
}

/// What terms hold besides what the object says.
#[derive(Clone, Debug)]
pub(crate) struct Circumstances<'a> {
    /// The operator's windows.
    pub(crate) windows: &'a WindowArgs,
    /// The operator's shares.
    pub(crate) money: &'a MoneyArgs,
    /// The market's fee.
    pub(crate) fee: Bps,
    /// The gateways' accounts.
    pub(crate) gateways: Vec<Address>,
    /// What is computed, as stored.
    pub(crate) template_digest: Hash32,
    /// Where it is stored.
    pub(crate) template_address: Hash32,
    /// Commitment to the job's key.
    pub(crate) key_commitment: Hash32,
    /// The class of all seats; zero until one is chosen.
    pub(crate) class: ClassId,
    /// Now, by the chain's clock.
    pub(crate) now: UnixSeconds,
}

/// The terms. With a class of zero they are complete but for that; the market refuses them.
pub(crate) fn terms(
    spec: &ComputeJobSpec,
    asked: &Asked,
    circumstances: Circumstances<'_>,
) -> Result<Terms, SpecRefusal> {
    let Circumstances {
        windows,
        money,
        fee,
        gateways,
        template_digest,
        template_address,
        key_commitment,
        class,
        now,
    } = circumstances;
    let seats = |field, number: u32| u8::try_from(number).map_err(|_| SpecRefusal::TooLarge { field });
    let picked = seats("verification.maxSeats", spec.verification.max_seats)?;
    let shape = Shape {
        units: Units::new(spec.completions),
        units_per_slice: asked.units_per_slice,
        slices_per_group: asked.slices_per_group,
        // One slice after another: a seat then needs one slot, which every offer has.
        slots_per_seat: Slots::new(1),
        seconds_per_unit: Seconds::new(spec.template.seconds_per_unit.into()),
        class_id: class,
    };
    let run = shape.run_time().ok_or(SpecRefusal::TooLarge {
        field: "template.secondsPerUnit",
    })?;
    let seconds = |number: u32| Seconds::new(number.into());
    let cancel_grace = seconds(windows.cancel_grace)
        .checked_add(run)
        .ok_or(SpecRefusal::TooLarge {
            field: "template.secondsPerUnit",
        })?;
    Ok(Terms {
        shape,
        redundancy: Redundancy {
            policy: Policy::Quorum,
            quorum: seats("verification.quorum", spec.verification.quorum)?,
            picked,
            max_seats: picked,
            drawn: 0,
            max_rounds: 1,
            canary: spec.verification.canary && shape.groups().is_some_and(|groups| groups > 1),
            entropy: 0,
            audit_floor_ppm: 0,
            collusion_bps: Bps::ZERO,
        },
        windows: Windows {
            open_until: now.saturating_add(Seconds::new(windows.open_for.min(asked.deadline.get()))),
            commit_grace: seconds(windows.commit_grace),
            reveal_window: seconds(windows.reveal_window),
            appeal_window: seconds(windows.appeal_window),
            availability_window: seconds(windows.availability_window),
            cancel_grace,
            retention: seconds(windows.retention),
        },
        pricing: Pricing {
            token: asked.token,
            picked_cap: asked.price_cap,
            drawn_cap: TokenAmount::ZERO,
            bond_bps: money.bond,
            no_show_bps: money.no_show,
            fee_bps: fee,
            inconclusive_bps: money.inconclusive,
            unresolved_burn_bps: money.unresolved_burn,
        },
        content: Content {
            template_digest,
            template_address,
            key_commitment,
            secrets_root: Hash32::ZERO,
            spot_checks_root: Hash32::ZERO,
            comparator: Hash32::ZERO,
            verifier: Address::ZERO,
        },
        gateways,
    })
}

/// Registry and repository of an image reference, without tag and digest, for offers' lists.
pub(crate) fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Defaults {
        #[command(flatten)]
        windows: WindowArgs,
        #[command(flatten)]
        money: MoneyArgs,
    }

    fn spec(change: impl FnOnce(&mut serde_json::Value)) -> ComputeJobSpec {
        let mut spec = serde_json::json!({
            "completions": 96,
            "slice": 8,
            "template": {
                "image": "registry.example/povray:1",
                "resources": {"cpu": "2", "memory": "2Gi"},
                "secondsPerUnit": 120,
            },
            "payment": {"token": format!("0x{}", "11".repeat(20)), "maxPricePerUnit": "0.02", "budget": "8.00"},
            "deadline": "2h",
        });
        change(&mut spec);
        serde_json::from_value(spec).unwrap()
    }

    fn decimals() -> Decimals {
        Decimals::new(6).unwrap()
    }

    #[test]
    fn terms_of_the_usual_settings_are_ones_that_the_market_takes() {
        let Defaults { windows, money } = Defaults::parse_from(["x"]);
        let spec = spec(|_| {});
        let asked = parse(&spec, decimals()).unwrap();
        let now = UnixSeconds::new(1_800_000_000);
        let terms = terms(
            &spec,
            &asked,
            Circumstances {
                windows: &windows,
                money: &money,
                fee: Bps::new(150),
                gateways: vec![Address::from_bytes([7; 20])],
                template_digest: Hash32::from_bytes([1; 32]),
                template_address: Hash32::from_bytes([2; 32]),
                key_commitment: Hash32::from_bytes([3; 32]),
                class: ClassId::from_bytes([4; 32]),
                now,
            },
        )
        .unwrap();
        assert_eq!(terms.validate(Bps::new(150), now), Ok(()));
        assert_eq!(terms.pricing.picked_cap, TokenAmount::from_base_units(20_000));
        assert!(terms.redundancy.canary, "several groups, so the first goes ahead");
        assert_eq!(
            terms.reserve_per_unit(),
            Some(TokenAmount::ZERO),
            "no drawn seats, no reserve"
        );
    }

    #[test]
    fn an_amount_finer_than_the_token_is_refused_by_its_field() {
        let spec = spec(|spec| spec["payment"]["maxPricePerUnit"] = "0.0200001".into());
        let refusal = parse(&spec, decimals()).unwrap_err();
        assert!(
            matches!(
                refusal,
                SpecRefusal::Amount {
                    field: "payment.maxPricePerUnit",
                    ..
                }
            ),
            "{refusal}"
        );
    }

    #[test]
    fn an_image_is_known_by_registry_and_repository() {
        for image in [
            "r.example:5000/a/b:1",
            "r.example:5000/a/b@sha256:00",
            "r.example:5000/a/b",
        ] {
            assert_eq!(repository(image), "r.example:5000/a/b");
        }
    }
}
