use tradewind_chain::{Signature, recover};
use tradewind_gateway::limits::Limits;
use tradewind_gateway_api::{
    message::SignedMessage,
    signed::key_signature,
    wire::{MessageFilter, Reason, ReceiptRequest, ReceiptUnit},
};
use tradewind_market::{
    GroupIndex, Hash32, RoundId, SeatIndex, UnitIndex, UnixSeconds,
    document::{Envelope, JobBundle, ResultIndex, StoredUnit as IndexedUnit},
    message::{Abstain, AbstainEntry, AbstainReason, HexBytes, SeatRef},
};
use tradewind_result::{
    ContentDigest, StoredUnit,
    stored::{chunk_root, stored_root},
};

use crate::site::{Account, DOMAIN, Hands, JOB, Script, account, content, gateway, gateway_with, upload};

const ROUND: RoundId = RoundId::from_bytes([0x20; 32]);

#[tokio::test]
async fn the_buyer_s_newest_bundle_counts_and_nobody_else_s() {
    let (folder, script) = (tempfile::tempdir().unwrap(), Script::default());
    let (buyer, provider) = (account(1), account(2));
    let hands = Hands::now();
    let site = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    let bundle = |issued| JobBundle {
        job_id: JOB,
        template_address: Hash32::from_bytes([1; 32]),
        issued,
        envelopes: vec![Envelope {
            provider: provider.address(),
            sealed: HexBytes(vec![2; 100]),
        }],
    };
    let put = async |signed| {
        let put = site.client.put_bundle(&signed).await;
        put.map(drop).map_err(|error| error.reason().unwrap())
    };
    let (first, second) = (hands.time(), hands.after(1));
    assert_eq!(
        put(buyer.sign(bundle(first)).await).await,
        Err(Reason::JobUnknown)
    );
    assert_eq!(site.client.get_bundle(JOB).await.unwrap(), None);
    script.open(JOB, &buyer);
    // A job that was unknown a moment ago is asked for again soon, not at every request.
    crate::site::until("the job", || async {
        put(buyer.sign(bundle(first)).await).await.is_ok()
    })
    .await;
    assert_eq!(put(buyer.sign(bundle(first)).await).await, Ok(()));
    assert_eq!(
        put(provider.sign(bundle(second)).await).await,
        Err(Reason::SignatureInvalid)
    );
    assert_eq!(
        put(buyer.sign(bundle(hands.after(86_400))).await).await,
        Err(Reason::TimeOutOfBounds)
    );
    let renewed = buyer.sign(bundle(second)).await;
    assert_eq!(put(renewed.clone()).await, Ok(()));
    assert_eq!(
        put(buyer.sign(bundle(first)).await).await,
        Err(Reason::Superseded)
    );
    let mut other = bundle(second);
    other.envelopes.clear();
    assert_eq!(put(buyer.sign(other).await).await, Err(Reason::NonceUsed));
    assert_eq!(site.client.get_bundle(JOB).await.unwrap(), Some(renewed));
}

fn abstention(provider: &Account, group: u32, deadline: UnixSeconds) -> Abstain {
    let seat = SeatRef {
        group: GroupIndex::new(group),
        round: 0,
        seat: SeatIndex::new(1),
    };
    Abstain {
        provider: provider.address(),
        job_id: JOB,
        deadline,
        entries: vec![AbstainEntry {
            seat,
            reason: AbstainReason::Inputs,
        }],
    }
}

#[tokio::test]
async fn messages_of_seated_providers_are_kept_in_order_and_once() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    let hands = Hands::now();
    let one = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    let other = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    for group in 0..6 {
        script.seat(JOB, group, 1, &provider);
    }
    let message = async |who: &Account, group, deadline| {
        SignedMessage::Abstain(who.sign(abstention(who, group, deadline)).await)
    };
    let mut left = Vec::new();
    for group in 0..6 {
        let message = message(&provider, group, hands.after(60)).await;
        let site = if group % 2 == 0 { &one } else { &other };
        let (_, taken) = site
            .client
            .post_message(JOB, &message)
            .await
            .unwrap()
            .first()
            .unwrap();
        assert_eq!(taken.sequence, u64::from(group) + 1);
        let (_, again) = other
            .client
            .post_message(JOB, &message)
            .await
            .unwrap()
            .first()
            .unwrap();
        assert_eq!(again, taken, "the same message is there once");
        left.push(message);
    }
    let mut read = Vec::new();
    let mut after = 0;
    loop {
        let page = other
            .client
            .messages(
                JOB,
                MessageFilter {
                    after,
                    limit: Some(4),
                },
            )
            .await
            .unwrap();
        if page.messages.is_empty() {
            assert_eq!(page.next, after);
            break;
        }
        read.extend(page.messages);
        after = page.next;
    }
    assert_eq!(read, left);

    let refused = async |message: SignedMessage| {
        one.client
            .post_message(JOB, &message)
            .await
            .unwrap_err()
            .reason()
            .unwrap()
    };
    assert_eq!(
        refused(message(&provider, 0, UnixSeconds::new(1)).await).await,
        Reason::TimeOutOfBounds
    );
    assert_eq!(
        refused(message(&account(2), 0, hands.after(60)).await).await,
        Reason::NoStanding
    );
    assert_eq!(
        refused(message(&provider, 77, hands.after(60)).await).await,
        Reason::NoStanding
    );
    let forged = account(2).sign(abstention(&provider, 0, hands.after(61))).await;
    assert_eq!(
        refused(SignedMessage::Abstain(forged)).await,
        Reason::SignatureInvalid
    );
    let mut empty = abstention(&provider, 0, hands.after(60));
    empty.entries.clear();
    assert_eq!(
        refused(SignedMessage::Abstain(provider.sign(empty).await)).await,
        Reason::Malformed
    );
}

#[tokio::test]
async fn messages_that_meet_at_two_replicas_each_get_a_place() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    let (one, other) = (
        gateway(folder.path(), &script).await,
        gateway(folder.path(), &script).await,
    );
    let hands = Hands::now();
    let posts = (0..12).map(|group| {
        script.seat(JOB, group, 1, &provider);
        let site = if group % 2 == 0 { &one } else { &other };
        let (provider, deadline) = (&provider, hands.after(60));
        async move {
            let message = SignedMessage::Abstain(provider.sign(abstention(provider, group, deadline)).await);
            let (_, taken) = site
                .client
                .post_message(JOB, &message)
                .await
                .unwrap()
                .first()
                .unwrap();
            taken.sequence
        }
    });
    let mut places = futures::future::join_all(posts).await;
    places.sort_unstable();
    assert_eq!(places, (1..=12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_receipt_says_what_is_stored_and_keeps_it() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    let hands = Hands::now();
    let site = gateway_with(folder.path(), &script, &hands, Limits::default()).await;
    let grant = provider.grant(|_| {}).await;
    let outputs = [content(3000, 1), content(5 << 20, 2)];
    let units = (7..).zip(&outputs).map(|(unit, bytes)| ReceiptUnit {
        unit,
        address: ContentDigest::of(bytes),
        length: bytes.len() as u64,
    });
    let units: Vec<ReceiptUnit> = units.collect();
    let request = ReceiptRequest {
        job: JOB,
        round: ROUND,
        provider: provider.address(),
        units,
        until: hands.after(30 * 86_400),
    };
    let refused = async |request: &ReceiptRequest| {
        site.client
            .receipt(request, &grant)
            .await
            .unwrap_err()
            .reason()
            .unwrap()
    };
    site.client
        .put_bytes(outputs[0].clone(), &upload(&grant))
        .await
        .unwrap();
    assert_eq!(refused(&request).await, Reason::BlobMissing);
    site.client
        .put_bytes(outputs[1].clone(), &upload(&grant))
        .await
        .unwrap();
    let mut longer = request.clone();
    longer.units[0].length += 1;
    assert_eq!(refused(&longer).await, Reason::BlobMissing);
    let mut twice = request.clone();
    twice.units[1] = twice.units[0];
    assert_eq!(refused(&twice).await, Reason::Malformed);
    let foreign = ReceiptRequest {
        provider: account(2).address(),
        ..request.clone()
    };
    assert_eq!(refused(&foreign).await, Reason::GrantForeign);
    let for_ever = ReceiptRequest {
        until: hands.after(400 * 86_400),
        ..request.clone()
    };
    assert_eq!(refused(&for_ever).await, Reason::RetentionTooLong);

    let receipt = site.client.receipt(&request, &grant).await.unwrap();
    let about = site.client.about().await.unwrap();
    let signature = Signature::from_bytes(key_signature(&receipt.signature).unwrap());
    assert_eq!(recover(receipt.digest(&DOMAIN), &signature), Ok(about.gateway));
    let stored: Vec<StoredUnit> = (7..)
        .zip(&outputs)
        .map(|(unit, bytes)| {
            let (address, length, chunk_root) = chunk_root(bytes.as_ref()).unwrap();
            StoredUnit {
                unit,
                address,
                length,
                chunk_root,
            }
        })
        .collect();
    let expected = stored_root(&stored).unwrap();
    let statement = &receipt.statement;
    assert_eq!(statement.stored_root, Hash32::from_bytes(*expected.as_bytes()));
    assert_eq!(statement.size, 3000 + (5 << 20));
    assert_eq!(
        (statement.round_id, statement.provider),
        (ROUND, provider.address())
    );
    assert_eq!(
        (statement.gateway, statement.until),
        (about.gateway, request.until)
    );

    // The uploads alone would be past by now; the receipt keeps them to its day, and no longer.
    hands.advance(29 * 86_400);
    site.sweep().await;
    assert!(
        site.client
            .stat(ContentDigest::of(&outputs[1]))
            .await
            .unwrap()
            .is_some()
    );
    hands.advance(2 * 86_400);
    site.sweep().await;
    assert!(
        site.client
            .stat(ContentDigest::of(&outputs[1]))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn an_index_is_its_provider_s_word() {
    let (folder, script, provider) = (tempfile::tempdir().unwrap(), Script::default(), account(1));
    script.fund(&provider);
    script.fund(&account(2));
    let site = gateway(folder.path(), &script).await;
    let index = |units: &[u32]| ResultIndex {
        job_id: JOB,
        round_id: ROUND,
        provider: provider.address(),
        units: units
            .iter()
            .map(|unit| IndexedUnit {
                unit: UnitIndex::new(*unit),
                outcome: 1 << 24,
                blob: Hash32::ZERO,
                stored_bytes: 5,
                chunk_root: Hash32::ZERO,
            })
            .collect(),
    };
    let grant = provider.grant(|_| {}).await;
    let signed = provider.sign(index(&[3, 4])).await;
    assert_eq!(
        site.client.get_index(ROUND, provider.address()).await.unwrap(),
        None
    );
    site.client.put_index(&signed, &grant).await.unwrap();
    assert_eq!(
        site.client.get_index(ROUND, provider.address()).await.unwrap(),
        Some(signed.clone())
    );

    let refused = async |signed, grant: &tradewind_gateway_api::grant::GrantToken| {
        site.client
            .put_index(&signed, grant)
            .await
            .unwrap_err()
            .reason()
            .unwrap()
    };
    assert_eq!(
        refused(signed, &account(2).grant(|_| {}).await).await,
        Reason::GrantForeign
    );
    assert_eq!(
        refused(account(2).sign(index(&[3])).await, &grant).await,
        Reason::SignatureInvalid
    );
    assert_eq!(
        refused(provider.sign(index(&[4, 4])).await, &grant).await,
        Reason::Malformed
    );
    let narrow = provider.grant(|grant| grant.max_bytes = 100).await;
    assert_eq!(
        refused(provider.sign(index(&[3])).await, &narrow).await,
        Reason::GrantSpent
    );
}
