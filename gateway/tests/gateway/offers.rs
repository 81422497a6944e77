use tradewind_gateway::limits::Limits;
use tradewind_gateway_api::{
    exact::Exact,
    offer::SignedOffer,
    wire::{OfferFilter, Reason},
};
use tradewind_market::{
    Address, Bps, Nonce, Offer, PricePerSlotSecond, Seconds, Slots, UnixSeconds,
    class::{Class, region_id},
    eip712::StructHash,
    message::HexBytes,
    offer::{Bounds, OfferDetails, Sale, SlotSize, recipient_commitment},
};

use crate::site::{Account, Hands, Script, Site, TOKEN, account, gateway, gateway_with};

fn details(region: &str) -> Exact<OfferDetails> {
    Exact::new(OfferDetails {
        class: "cpu/x86-64-v3".parse::<Class>().unwrap(),
        slot: SlotSize {
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            ..SlotSize::default()
        },
        region: region.to_owned(),
        recipient: "age1qqq".to_owned(),
        gateway_urls: vec!["http://gateway:8080".to_owned()],
        egress: Vec::new(),
        registries: vec!["*".to_owned()],
        runtime_class: String::new(),
        user_namespaces: false,
        missing_isolation: Vec::new(),
        min_seconds_per_unit: Seconds::new(1),
    })
    .unwrap()
}

async fn offer(provider: &Account, hands: &Hands, change: impl FnOnce(&mut Offer)) -> SignedOffer {
    let details = details("eu");
    let mut offer = Offer {
        provider: provider.address(),
        allowed_buyer: Address::ZERO,
        token: TOKEN,
        class_id: details.value().class.id(),
        region: region_id("eu"),
        details: details.digest(),
        recipient: recipient_commitment("age1qqq"),
        sale: Sale {
            series: 1,
            nonce: Nonce::new(1),
            valid_from: UnixSeconds::ZERO,
            valid_until: hands.after(3600),
            price_per_slot_second: PricePerSlotSecond::from_base_units(400),
            slots: Slots::new(4),
            min_charge_bps: Bps::ZERO,
        },
        bounds: Bounds {
            max_seconds_per_unit: Seconds::new(3600),
            max_lock_seconds: Seconds::new(86_400),
            min_commit_grace: Seconds::new(1),
            min_reveal_window: Seconds::new(1),
            max_retention: Seconds::new(86_400),
            max_bond_bps: Bps::ONE,
            max_no_show_bps: Bps::ONE,
            min_inconclusive_bps: Bps::ZERO,
            policies: 1,
        },
        gateways: vec![account(0).address()],
        verifiers: Vec::new(),
    };
    change(&mut offer);
    let signature = provider.sign_hash(offer.struct_hash()).await;
    SignedOffer {
        offer,
        signature,
        details,
    }
}

async fn publish(site: &Site, offer: &SignedOffer) -> Result<(), Reason> {
    site.client
        .put_offer(offer)
        .await
        .map(drop)
        .map_err(|error| error.reason().unwrap())
}

async fn listed(site: &Site, filter: OfferFilter) -> Vec<SignedOffer> {
    site.client.offers(&filter).await.unwrap()
}

#[tokio::test]
async fn an_offer_is_listed_until_it_is_superseded_or_ends() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let hands = Hands::now();
    let site = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    let first = offer(&provider, &hands, |_| {}).await;
    assert_eq!(publish(&site, &first).await, Ok(()));
    assert_eq!(publish(&site, &first).await, Ok(()), "the same again");
    assert_eq!(
        listed(&site, OfferFilter::default()).await,
        std::slice::from_ref(&first)
    );
    assert!(first.check_details().is_ok());

    let dearer = offer(&provider, &hands, |offer| {
        offer.sale.price_per_slot_second = PricePerSlotSecond::from_base_units(500);
    });
    assert_eq!(publish(&site, &dearer.await).await, Err(Reason::NonceUsed));
    let second = offer(&provider, &hands, |offer| offer.sale.nonce = Nonce::new(2)).await;
    assert_eq!(publish(&site, &second).await, Ok(()));
    assert_eq!(publish(&site, &first).await, Err(Reason::Superseded));
    let replica = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    assert_eq!(listed(&replica, OfferFilter::default()).await, [second]);
    hands.advance(3600);
    assert_eq!(listed(&site, OfferFilter::default()).await, []);
    hands.advance(601);
    site.sweep().await;
    let left = std::process::Command::new("find")
        .arg(folder.path())
        .args(["-type", "f"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[tokio::test]
async fn what_is_not_signed_or_not_true_is_refused_by_name() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::default());
    let (provider, stranger) = (account(1), account(2));
    script.fund(&provider);
    let hands = Hands::now();
    let site = gateway_with(folder.path(), &script, &hands, Limits::default()).await;

    let mut forged = offer(&provider, &hands, |_| {}).await;
    forged.signature = stranger.sign_hash(forged.offer.struct_hash()).await;
    assert_eq!(publish(&site, &forged).await, Err(Reason::SignatureInvalid));
    forged.signature = HexBytes(vec![1; 64]);
    assert_eq!(publish(&site, &forged).await, Err(Reason::SignatureInvalid));
    let mut changed = offer(&provider, &hands, |_| {}).await;
    changed.offer.sale.slots = Slots::new(400);
    assert_eq!(publish(&site, &changed).await, Err(Reason::SignatureInvalid));
    let mut other_words = offer(&provider, &hands, |_| {}).await;
    other_words.details = details("us");
    assert_eq!(publish(&site, &other_words).await, Err(Reason::DetailsMismatch));
    let elsewhere = offer(&provider, &hands, |offer| offer.region = region_id("us")).await;
    assert_eq!(publish(&site, &elsewhere).await, Err(Reason::DetailsMismatch));
    let late = offer(&provider, &hands, |offer| offer.sale.valid_until = hands.time()).await;
    assert_eq!(publish(&site, &late).await, Err(Reason::TimeOutOfBounds));
    let for_ever = offer(&provider, &hands, |offer| {
        offer.sale.valid_until = hands.after(365 * 86_400);
    })
    .await;
    assert_eq!(publish(&site, &for_ever).await, Err(Reason::TimeOutOfBounds));
    let unbonded = offer(&stranger, &hands, |_| {}).await;
    assert_eq!(publish(&site, &unbonded).await, Err(Reason::NoStanding));
    assert_eq!(listed(&site, OfferFilter::default()).await, []);
}

#[tokio::test]
async fn filters_and_pages_show_each_fitting_offer_once() {
    let (folder, script, provider, other) = (
        tempfile::tempdir().unwrap(),
        Script::default(),
        account(1),
        account(2),
    );
    script.fund(&provider);
    script.fund(&other);
    let hands = Hands::now();
    let site = gateway(folder.path(), &script).await;
    for series in 0..9 {
        let of = if series % 3 == 0 { &other } else { &provider };
        let token = if series % 2 == 0 {
            TOKEN
        } else {
            Address::from_bytes([9; 20])
        };
        let offer = offer(of, &hands, |offer| {
            offer.sale.series = series;
            offer.token = token;
        });
        assert_eq!(publish(&site, &offer.await).await, Ok(()));
    }
    let series = async |filter| {
        let mut series: Vec<_> = listed(&site, filter)
            .await
            .iter()
            .map(|signed| signed.offer.sale.series)
            .collect();
        series.sort_unstable();
        series
    };
    let paged = OfferFilter {
        limit: Some(2),
        ..OfferFilter::default()
    };
    assert_eq!(series(paged).await, (0..9).collect::<Vec<_>>());
    let by_token = OfferFilter {
        token: Some(TOKEN),
        limit: Some(2),
        ..OfferFilter::default()
    };
    assert_eq!(series(by_token).await, [0, 2, 4, 6, 8]);
    let by_provider = OfferFilter {
        provider: Some(other.address()),
        ..OfferFilter::default()
    };
    assert_eq!(series(by_provider).await, [0, 3, 6]);
    let by_region = OfferFilter {
        region: Some(region_id("us")),
        ..OfferFilter::default()
    };
    assert_eq!(series(by_region).await, [0_u32; 0]);
}
