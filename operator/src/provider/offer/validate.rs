//! The offer's spec, checked once and turned into types that make the later phases infallible. No client.

use tradewind_crds::provider_offer::{OfferReason, ProviderOfferSpec, SlotClass};
use tradewind_market::{
    Address, Bps, Decimals, PricePerSlotSecond, Seconds, Slots, TokenAmount,
    class::{Class, GpuClass},
    egress::HostPattern,
    keccak256,
    offer::SlotSize,
};

/// An offer that can be carried out as far as its text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Valid {
    pub(crate) series: u32,
    pub(crate) token: Address,
    pub(crate) price: PricePerSlotSecond,
    pub(crate) min_charge: Bps,
    /// Slots that may be awarded at once.
    pub(crate) slots: Slots,
    pub(crate) class: Class,
    pub(crate) slot: SlotSize,
    pub(crate) region: String,
    pub(crate) seconds_per_unit_min: Seconds,
    pub(crate) seconds_per_unit_max: Seconds,
    pub(crate) runtime_class: String,
    pub(crate) user_namespaces: bool,
    pub(crate) egress: Vec<HostPattern>,
    pub(crate) registries: Vec<String>,
    /// The only buyer, or zero for any.
    pub(crate) allowed_buyer: Address,
    pub(crate) bond_target: Option<TokenAmount>,
}

/// What of the spec cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Invalid {
    pub(crate) reason: OfferReason,
    /// Names the field and the remedy.
    pub(crate) message: String,
}

impl Invalid {
    fn spec(message: impl Into<String>) -> Self {
        Self {
            reason: OfferReason::InvalidSpec,
            message: message.into(),
        }
    }
}

/// Offers of one object share their slots on chain under this number, whatever the object's spec becomes.
pub(crate) fn series(namespace: &str, name: &str) -> u32 {
    let digest = keccak256(&[
        b"tradewind offer series v1",
        namespace.as_bytes(),
        b"/",
        name.as_bytes(),
    ]);
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// Checks what the schema could not.
pub(crate) fn validate(
    namespace: &str,
    name: &str,
    spec: &ProviderOfferSpec,
    decimals: Decimals,
) -> Result<Valid, Invalid> {
    let token = parse_address("price.token", spec.price.token.as_str())?;
    let amount = |field: &str, text: &str| {
        TokenAmount::from_decimal_exact(text, decimals).map_err(|error| Invalid {
            reason: OfferReason::AmountNotRepresentable,
            message: format!("{field}: {error}; the token has {} decimals", decimals.get()),
        })
    };
    let price = PricePerSlotSecond::from_decimal_exact(spec.price.per_slot_second.as_str(), decimals)
        .map_err(|error| Invalid {
            reason: OfferReason::AmountNotRepresentable,
            message: format!(
                "price.perSlotSecond: {error}; the token has {} decimals",
                decimals.get()
            ),
        })?;
    let bond_target = spec
        .bond
        .as_ref()
        .map(|bond| amount("bond.amount", bond.amount.as_str()))
        .transpose()?;
    let slots = spec.slots.max.saturating_sub(spec.slots.reserve_for_own_pods);
    let allowed_buyer = match spec.terms.buyers.as_slice() {
        [] => Address::ZERO,
        [only] => parse_address("terms.buyers", only.as_str())?,
        _ => {
            return Err(Invalid::spec(
                "terms.buyers: a signed offer names one buyer or none; make an offer for each buyer",
            ));
        }
    };
    let egress = spec
        .terms
        .egress
        .iter()
        .map(|pattern| {
            let parsed = pattern.as_str().parse::<HostPattern>();
            parsed.map_err(|error| Invalid::spec(format!("terms.egress: {pattern}: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let (class, slot) = class_and_slot(&spec.class)?;
    Ok(Valid {
        series: series(namespace, name),
        token,
        price,
        min_charge: Bps::new(spec.price.minimum_charge_bps),
        slots: Slots::new(slots),
        class,
        slot,
        region: spec.terms.region.clone().unwrap_or_default(),
        seconds_per_unit_min: Seconds::new(spec.terms.min_seconds_per_unit.into()),
        seconds_per_unit_max: Seconds::new(spec.terms.max_seconds_per_unit.into()),
        runtime_class: spec.terms.runtime_class.clone().unwrap_or_default(),
        user_namespaces: spec.terms.user_namespaces,
        egress,
        registries: spec.terms.registries.clone(),
        allowed_buyer,
        bond_target,
    })
}

fn parse_address(field: &str, text: &str) -> Result<Address, Invalid> {
    text.parse()
        .map_err(|error| Invalid::spec(format!("{field}: {error}")))
}

fn class_and_slot(class: &SlotClass) -> Result<(Class, SlotSize), Invalid> {
    let quantity = |field: &str| {
        let field = field.to_owned();
        move |error| Invalid::spec(format!("{field}: {error}"))
    };
    let mut slot = SlotSize {
        cpu_millis: class.cpu.millicores().map_err(quantity("class.cpu"))?,
        memory_bytes: class.memory.bytes().map_err(quantity("class.memory"))?,
        disk_bytes: class.disk.bytes().map_err(quantity("class.disk"))?,
        gpus: 0,
        gpu_memory_bytes: 0,
    };
    let Some(gpu) = &class.gpu else {
        let level = class.cpu_level.ok_or_else(|| {
            Invalid::spec("class.cpuLevel is needed where class.gpu is left out, such as x86-64-v3")
        })?;
        return Ok((
            Class::Cpu {
                level: level.as_str().to_owned(),
            },
            slot,
        ));
    };
    slot.gpus = gpu.count;
    slot.gpu_memory_bytes = gpu.memory.bytes().map_err(quantity("class.gpu.memory"))?;
    let class = GpuClass {
        model: gpu.model.clone(),
        architecture: None,
        driver_branch: None,
        mig_profile: None,
        count: gpu.count,
    };
    Ok((Class::Gpu(class), slot))
}
